"""Commands run in processes forked from one that has imported the packages `k4` stands on, and nothing of `k4` itself.

That is as good as a new interpreter, since the child imports the (edited) copy of the package first of all, and spares
the import of torch and Dagster twice a leak.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

SERVER = """
import gc, json, os, runpy, signal, sys, time, traceback
import alembic.command, dagster, dagster._core.instance, dagster._daemon, exchange_calendars, jinja2, markdown, numba
import pandas, pandera.pandas, pyarrow.parquet, rich.table, safetensors.torch, sklearn.ensemble, sklearn.linear_model
import torch, torch._dynamo, typer, upath

gc.freeze()
gc.disable()  # the commands are short

for line in sys.stdin:
    ask = json.loads(line)
    child = os.fork()
    if not child:
        os.setsid()
        for number, name in ((0, os.devnull), (1, ask["out"]), (2, ask["err"])):
            os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC * (number > 0), 0o600), number)
        os.environ.clear()
        os.environ.update(ask["environment"])
        if "NUMBA_CACHE_DIR" in os.environ:
            numba.config.CACHE_DIR = os.environ["NUMBA_CACHE_DIR"]
        os.chdir(ask["folder"])
        torch.set_num_threads(1)
        sys.path[:] = [ask["folder"], *(p for p in sys.path if p)]
        sys.argv = ["k4", *ask["arguments"]]
        status = 0
        try:
            import k4_pipeline
            assert k4_pipeline.__file__.startswith(ask["folder"]), k4_pipeline.__file__
            runpy.run_module("k4_pipeline.cli", run_name="__main__", alter_sys=True)
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            traceback.print_exc()
            status = 1
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    end = time.monotonic() + ask["seconds"]
    while True:
        done, status, used = os.wait4(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() > end:
            os.killpg(child, signal.SIGKILL)
        time.sleep(0.05)
    code = os.waitstatus_to_exitcode(status)  # negative: the number of the signal that ended it
    print(json.dumps([code, used.ru_utime + used.ru_stime]), flush=True)
"""


@dataclass
class Warm:
    """One such parent, started when it is first asked; asked by one thread at a time."""

    environment: dict[str, str]
    process: subprocess.Popen[str] | None = None

    def run(
        self, folder: Path, arguments: list[str], environment: dict[str, str], beside: Path, seconds: float
    ) -> tuple[int, str, str, float]:
        """Status, what was printed, what was said on stderr, processor seconds (with those of its children)."""
        if self.process is None:
            command = [sys.executable, "-c", SERVER]
            pipe = subprocess.PIPE
            self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=self.environment)
        process, out, err = self.process, beside.with_suffix(".out"), beside.with_suffix(".err")
        assert process.stdin is not None
        assert process.stdout is not None
        ask = {"folder": str(folder), "arguments": arguments, "environment": environment, "seconds": seconds}
        process.stdin.write(json.dumps({**ask, "out": str(out), "err": str(err)}) + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        if not answer:
            self.process = None
            raise OSError("the process that starts commands has died")
        status, used = json.loads(answer)
        return status, out.read_text(), err.read_text(), used

    def end(self) -> None:
        """Nothing is asked any more."""
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()
            self.process.wait()
