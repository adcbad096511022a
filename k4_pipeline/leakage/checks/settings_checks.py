"""The settings of every artifact are those that were asked for, before anything was known of the data.

What was asked for stands in the request (options as typed, and the settings they resolve to), written before the first
asset and named in the tag of the run. An asset that rewrites a setting and records the rewritten one differs from it.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from k4_pipeline.config import to_dict
from k4_pipeline.leakage.engine.artifacts import SERVING
from k4_pipeline.leakage.engine.audit import AuditContext, check, verdict_of
from k4_pipeline.leakage.engine.compare import Comparison
from k4_pipeline.leakage.oracles.as_of import newest_labelled_quarter
from k4_pipeline.leakage.oracles.declared import DEFAULTS, PRESETS
from k4_pipeline.verdict import Verdict

# Where each option of the command line lands, written down a second time.
OPTION_FIELDS = {
    "source": "source.source",
    "path": "source.path",
    "snapshots": "source.snapshots_path",
    "missing_tickers": "source.missing_tickers",
    "start": "source.start",
    "world": "simulation.world",
    "tickers": "simulation.n_tickers",
    "bars": "simulation.n_bars",
    "market_seed": "simulation.seed",
    "labeling": "labels.labeling",
    "test_months": "split.test_months",
    "architecture": "model.architecture",
    "preset": "model.preset",
    "backend": "model.backend",
    "device": "training.device",
    "epochs": "training.epochs",
    "seed": "training.seed",
}
WHOLE_SECTIONS = ("labels", "patterns")  # options that choose a preset of a section
CHOSEN = ("source.source", "source.tickers")  # follow from other options
SHELL_TEST_MONTHS = 12  # `k4 run` judges one model on a year, unless told otherwise


def _value(config: dict[str, Any], dotted: str) -> Any:
    section, _, name = dotted.partition(".")
    return config.get(section, {}).get(name)


def _same(value: Any, text: str) -> bool:
    """Whether a setting is what was typed."""
    if isinstance(value, bool):
        return (
            str(value).lower() == text.lower() or {"1": True, "0": False, "yes": True, "no": False}.get(text) == value
        )
    if isinstance(value, (int, float)):
        try:
            return float(text) == float(value)
        except ValueError:
            return False
    if isinstance(value, list):
        return [str(v) for v in value] == text.replace(",", " ").split() or len(value) == len(
            text.replace(",", " ").split()
        )
    return str(value) == text or str(value).endswith(text)


def request_findings(request: dict[str, Any]) -> list[str]:
    """What in a request does not follow from what was typed: an option that was changed, a default that is another."""
    config, findings, asked = request["config"], [], {**request.get("environment", {}), **request["options"]}
    if not request.get("untouched", True):
        findings.append("the file of the request was changed after the run had begun")
    typed = {OPTION_FIELDS[n]: v for n, v in asked.items() if n in OPTION_FIELDS}
    for text in request["set"]:
        name, _, value = (part.strip() for part in text.partition("="))
        typed[OPTION_FIELDS.get(name, name)] = value
    for dotted, text in typed.items():
        if "." in dotted and not _same(_value(config, dotted), str(text)):
            findings.append(f"{dotted} was asked for as {text}, the run was given {_value(config, dotted)}")
    unknown = [
        n for n in (*asked, *typed) if "." not in n and n not in (*OPTION_FIELDS, *WHOLE_SECTIONS, "model_preset")
    ]
    if request.get("again") or [n for n in unknown if n != "universe"]:
        return findings  # other settings than the defaults were the beginning
    skipped = {n for n in (*asked, *typed) if n in WHOLE_SECTIONS}
    preset = PRESETS.get(str(asked.get("model_preset", typed.get("model_preset", "default"))), {})
    for section, declared in DEFAULTS.items():
        wanted_of = {**declared, **preset.get(section, {})}
        for name, wanted in wanted_of.items():
            dotted = f"{section}.{name}"
            if section in skipped or dotted in typed or dotted in CHOSEN:
                continue
            value = _value(config, dotted)
            if value != wanted and not (dotted == "split.test_months" and value == SHELL_TEST_MONTHS):
                findings.append(f"{dotted} is {value}; nobody asked for it, and its declared default is {wanted}")
    return findings


def _another_embargo(context: AuditContext) -> AuditContext:
    facts = json.loads(json.dumps(context.extra["facts"]))
    facts["dataset_split"]["requested"]["split"]["embargo_days"] += 1
    return dataclasses.replace(context, extra={**context.extra, "facts": facts})


def _another_seed(context: AuditContext) -> AuditContext:
    facts = json.loads(json.dumps(context.extra["facts"]))
    facts["snapshots"]["requested"]["patterns"]["sampling_seed"] += 1
    return dataclasses.replace(context, extra={**context.extra, "facts": facts})


def _edited_default(context: AuditContext) -> AuditContext:
    """A default that nobody typed is another one, in the request and everywhere."""
    facts = json.loads(json.dumps(context.extra["facts"]))
    request = facts["snapshots"].get("request") or {"options": {}, "set": [], "config": facts["snapshots"]["requested"]}
    request["config"]["cleaning"]["jump_factor"] += 1.0
    facts["snapshots"]["request"] = request
    return dataclasses.replace(context, extra={**context.extra, "facts": facts})


@check(
    "settings",
    proves="Every setting recorded with an artifact, a checkpoint or a report is the one asked for before the first "
    "asset was made, and what was asked for follows from the options as typed and the declared defaults.",
    misses="Settings that a person chose after looking at the outcomes.",
    needs=("stored", "facts"),
    reads_files=True,
    corruptions=(_another_embargo, _another_seed, _edited_default),
)
def recorded_settings_are_those_requested(context: AuditContext) -> Verdict:
    """Compare every recorded section with the request of the run that made the artifact."""
    out, store, facts = Comparison(), context.extra["store"], context.extra["facts"]
    refs = {**{name: store.newest(name) for name in SERVED if name in facts}, **context.extra["refs"]}
    for name, ref in refs.items():
        if name not in facts:
            out.add(1, 1, [f"{name}: no run of this home made it, so nothing is known of what was asked for"])
            continue
        asked, records = facts[name]["requested"], {}
        for file, inside in (("config.json", None), ("model.json", "config"), ("report.json", "config")):
            if file in ref.files:
                content = json.loads(ref.path(file).read_text())
                records[file] = content if inside is None else content.get(inside, {})
        for file, recorded in records.items():
            for section, values in recorded.items():
                wanted = asked.get(section)
                wrong = sorted(k for k in {*values, *(wanted or {})} if (wanted or {}).get(k) != values.get(k))
                out.add(
                    len(values),
                    len(wrong),
                    (
                        f"{name}, {file}: {section}.{k} is recorded as {values.get(k)}, asked for was "
                        f"{(wanted or {}).get(k)}; it was rewritten on the way"
                        for k in wrong
                    ),
                )
        request = facts[name].get("request")
        if request is not None:
            found = request_findings(request)
            out.add(1, len(found), found)
    if context.full.manifest is not None:
        out.merge(_manifest(context))
    return verdict_of(out, artifacts=len(refs))


SERVED = (*SERVING, "signal_outcomes")


def _manifest(context: AuditContext) -> Comparison:
    """The manifest of the split names settings too."""
    out, split = Comparison(), to_dict(context.config.split)
    stored = json.loads(context.extra["refs"]["dataset_split"].path("split.json").read_text())
    inside = stored.get("config") or {}
    wrong = sorted(k for k in inside if k in split and inside[k] != split[k])
    out.add(len(inside), len(wrong), (f"split.json: {k} is {inside[k]}, asked for was {split[k]}" for k in wrong))
    return out


def _later_as_of(context: AuditContext) -> AuditContext:
    facts = {**context.extra["facts"]}
    request = {"options": {}, "set": [], "as_of": "1999-01-01", "config": facts["dataset_split"]["requested"]}
    facts["dataset_split"] = {**facts["dataset_split"], "request": request}
    return dataclasses.replace(context, extra={**context.extra, "facts": facts})


@check(
    "settings",
    proves="The as-of date is the one asked for, or, when none was, the newest quarter whose test span is labelled, "
    "found a second time from dates alone: no class of an outcome can have moved it.",
    misses="A date that a person chose after looking at the outcomes.",
    needs=("stored", "facts", "split"),
    reads_files=True,
    corruptions=(_later_as_of,),
)
def the_as_of_date_was_not_chosen_by_outcome(context: AuditContext) -> Verdict:
    """Find the date again without the classes."""
    out, full = Comparison(), context.full
    request = context.extra["facts"].get("dataset_split", {}).get("request")
    if request is None:  # a partition that a person, a schedule or a backfill named
        out.add(1, 0)
        return verdict_of(out, chosen_by="partition")
    wanted = request["as_of"]
    if wanted is None:
        dates = full.labeled[["snapshot_date", "label_end_date", "pattern_id"]].copy()
        dates["known"] = full.labeled["outcome_class"].notna().to_numpy()
        wanted = newest_labelled_quarter(dates, context.config.split)
    wrong = wanted is not None and str(wanted) != str(full.as_of)
    text = f"the as-of date is {full.as_of}, the rule gives {wanted}; it may have been chosen for what followed"
    out.add(len(full.labeled), int(wrong), [text] * wrong)
    return verdict_of(out, chosen_by="request" if request["as_of"] else "rule")
