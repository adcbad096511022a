"""The files of deploy/: they parse, name what exists, and ask for what the commands take. No container runs here."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from k4_pipeline.cli import app
from k4_pipeline.defs.instance import DAGSTER_YAML

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
# Sections of the official chart's values (helm/dagster/schema of dagster-io/dagster) that ours may use.
CHART = {
    "dagsterWebserver": {"replicaCount"},
    "dagster-user-deployments": {"enabled", "deployments"},
    "runLauncher": {"type", "config"},
    "dagsterDaemon": {
        "enabled", "image", "env", "envSecrets", "volumes", "volumeMounts", "runCoordinator", "runMonitoring",
    },
    "postgresql": {"enabled", "postgresqlScheme", "postgresqlUsername", "postgresqlDatabase"},
    "generatePostgresqlPasswordSecret": bool,
    "retention": {"enabled", "schedule", "sensor"},
    "telemetry": {"enabled"},
}  # fmt: skip
USER_DEPLOYMENT = {
    "name", "image", "port", "codeServerArgs", "includeConfigInLaunchedRuns", "env", "envSecrets", "volumes",
    "volumeMounts", "resources",
}  # fmt: skip


def options_of(command: list[str]) -> set[str]:
    """The long options that `k4 <command>` takes, from its help."""
    done = CliRunner().invoke(app, [command[0], "--help"], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    return set(re.findall(r"--[a-z-]+", done.output))


def check_command(command: list[str]) -> None:
    """A command line of ours whose options all exist."""
    assert command[0] in ("serve", "ui", "nightly", "alerts"), command
    given = {word for word in command if word.startswith("--")}
    assert given <= options_of(command), command


def test_the_instance_of_a_server_is_ours_with_postgres():
    text = (DEPLOY / "dagster.yaml").read_text()
    assert text.endswith(DAGSTER_YAML)
    assert set(yaml.safe_load(text)) == {"storage", *yaml.safe_load(DAGSTER_YAML)}


def test_compose_names_what_there_is():
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    services = compose["services"]
    assert set(services) == {"postgres", "code", "web", "daemon"}
    for name, service in services.items():
        assert set(service.get("depends_on", {})) <= set(services)
        for volume in service["volumes"]:
            source = re.sub(r"\$\{[^}]*:-([^}]*)\}", r"\1", volume).split(":")[0]
            assert source in compose["volumes"] or (DEPLOY / source).is_file() or source == "./data", (name, volume)
        if name != "postgres":
            check_command(service["command"])
            assert service["init"]
            assert service["environment"]["K4_HOME"] == "/var/lib/k4"
    stored = yaml.safe_load((DEPLOY / "dagster.yaml").read_text())["storage"]["postgres"]["postgres_db"]
    assert {value["env"] for value in stored.values() if isinstance(value, dict)} <= set(
        services["code"]["environment"]
    )
    workspace = yaml.safe_load((DEPLOY / "workspace.yaml").read_text())["load_from"][0]["grpc_server"]
    assert workspace["host"] in services
    assert str(workspace["port"]) in services["code"]["command"]
    assert services["web"]["ports"] == ["127.0.0.1:3000:3000"]  # the guard is not the only door
    assert ":?" in services["web"]["environment"]["K4_UI_TOKEN"]
    more = yaml.safe_load((DEPLOY / "compose.gpu.yaml").read_text())["services"]
    assert set(more) <= set(services)


def test_the_dockerfile_copies_what_there_is_and_ends_as_a_user_without_rights():
    lines = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    steps = [line.split(maxsplit=1) for line in lines if line.strip() and not line.startswith("#")]
    known = {"ARG", "FROM", "ENV", "RUN", "COPY", "USER", "VOLUME", "WORKDIR", "STOPSIGNAL", "ENTRYPOINT", "CMD"}
    assert {word for word, _ in steps} <= known
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for word, rest in steps:
        if word == "COPY" and "--from" not in rest:
            for source in [w for w in shlex.split(rest) if not w.startswith("--")][:-1]:
                assert (ROOT / source).exists(), source
                assert source == "." or f"!{source}" in ignored, f"{source} is not sent to the builder"
    last = dict(steps)
    assert last["USER"] == "k4"
    entry, command = (yaml.safe_load(last[name]) for name in ("ENTRYPOINT", "CMD"))
    assert entry == ["k4"]  # exec form: the signal of `docker stop` arrives
    check_command(command)
    for arguments in re.findall(r"ARG (\w+)", "\n".join(lines)):
        assert f"${{{arguments}}}" in "\n".join(lines)
    pinned = (DEPLOY / "requirements.txt").read_text() + (ROOT / "requirements-dev.lock").read_text()
    for name in ("dagster-postgres", "psycopg2-binary"):
        assert len(set(re.findall(rf"^{name}==(\S+)", pinned, re.M))) == 1, f"{name} is tested as it is installed"


@pytest.mark.parametrize("unit", sorted(p.name for p in (DEPLOY / "systemd").iterdir()))
def test_the_units_are_units(unit):
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read(DEPLOY / "systemd" / unit)
    if unit.endswith(".service"):
        for key in ("ExecStart", "ExecStartPost"):
            if key in parser["Service"]:
                binary, *command = shlex.split(parser["Service"][key])
                assert binary == "/opt/k4/bin/k4"
                check_command(command)
        assert parser["Service"]["User"] == "k4"
    if shutil.which("systemd-analyze"):
        done = subprocess.run(
            ["systemd-analyze", "verify", DEPLOY / "systemd" / unit], capture_output=True, text=True, check=False
        )
        said = [line for line in done.stderr.splitlines() if "/opt/k4/bin/k4 is not executable" not in line]
        assert not [line for line in said if unit in line], said


def test_the_values_are_those_of_the_chart_and_the_manifests_parse():
    values = yaml.safe_load((DEPLOY / "kubernetes" / "values.yaml").read_text())
    assert set(values) <= set(CHART)
    for name, allowed in CHART.items():
        if isinstance(allowed, set):
            assert set(values[name]) <= allowed, name
        else:
            assert isinstance(values[name], allowed)
    (deployment,) = values["dagster-user-deployments"]["deployments"]
    assert set(deployment) <= USER_DEPLOYMENT
    assert values["runLauncher"]["type"] == "K8sRunLauncher"
    assert set(values["runLauncher"]["config"]) == {"k8sRunLauncher"}
    ours = yaml.safe_load(DAGSTER_YAML)
    monitoring = values["dagsterDaemon"]["runMonitoring"]
    assert monitoring["maxRuntimeSeconds"] == ours["run_monitoring"]["max_runtime_seconds"]
    queue = values["dagsterDaemon"]["runCoordinator"]["config"]["queuedRunCoordinator"]
    assert queue["maxConcurrentRuns"] == ours["concurrency"]["runs"]["max_concurrent_runs"]
    kinds = {}
    for file in ("home.yaml", "web.yaml"):
        for document in yaml.safe_load_all((DEPLOY / "kubernetes" / file).read_text()):
            assert {"apiVersion", "kind", "metadata"} <= set(document)
            kinds[document["kind"], document["metadata"]["name"]] = document
    (container,) = kinds["Deployment", "k4-web"]["spec"]["template"]["spec"]["containers"]
    check_command(container["args"])
    claim = deployment["volumes"][0]["persistentVolumeClaim"]["claimName"]
    assert ("PersistentVolumeClaim", claim) in kinds
    workspace = yaml.safe_load(kinds["ConfigMap", "k4-workspace"]["data"]["workspace.yaml"])
    server = workspace["load_from"][0]["grpc_server"]
    assert (server["host"], server["port"]) == (deployment["name"], deployment["port"])
