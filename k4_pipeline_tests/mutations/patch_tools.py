"""What a leak as a patch of the source is, the assets that patches edit, and the two usual ways of editing one."""

# ruff: noqa: E501  (a patch quotes lines as they stand in the source)
from __future__ import annotations

from dataclasses import dataclass

Edit = tuple[str, str, str]


@dataclass(frozen=True)
class SourceLeak:
    """A leak: what is edited, and options of `k4 run` under which it shows."""

    name: str
    kind: str
    edits: tuple[Edit, ...]
    options: tuple[str, ...] = ()


def leak(name: str, kind: str, file: str, old: str, new: str, *, options: tuple[str, ...] = ()) -> SourceLeak:
    """A leak of one edit."""
    return SourceLeak(name, kind, ((file, old, new),), options)


@dataclass(frozen=True)
class CleanVariant:
    """An honest run with other options."""

    name: str
    options: tuple[str, ...] = ()
    kind: str = "clean"


# Under these today's list of a small market holds a pattern.
LISTED = ("--set", "serving.refuse_outside=false", "--set", "signals.moderate_ev=0.1")
BARS_ASSET, SNAPSHOT_ASSET, LABEL_ASSET = (
    f"defs/assets/{n}.py" for n in ("daily_bars", "snapshots", "labeled_snapshots")
)
SPLIT_ASSET, MODEL_ASSET, PREDICTION_ASSET = (
    f"defs/assets/{n}.py" for n in ("dataset_split", "trained_model", "predictions")
)
REPORT_ASSET, WALK_ASSET, SIGNAL_ASSET = (
    f"defs/assets/{n}.py" for n in ("validation_report", "walk_forward_report", "signals")
)
SEQUENCE_ASSET, FEATURE_ASSET = "defs/assets/sequences.py", "defs/assets/market_features.py"
WRITE = {
    name: f'        work.write_table("{name}", {variable})\n'
    for name, variable in (
        ("daily_bars", "table"),
        ("snapshots", "table"),
        ("labeled_snapshots", "table"),
        ("sequences", "table"),
        ("dataset_split", "split"),
        ("predictions", "table"),
        ("walk_forward_report", "table"),
        ("signals", "table"),
    )
}


def before_write(asset: str, table: str, code: str) -> tuple[Edit, ...]:
    """Lines of code put in front of the line in which an asset stores its table."""
    lines = "".join(f"        {line}\n" for line in code.splitlines())
    return ((asset, WRITE[table], lines + WRITE[table]),)


def rewritten(asset: str, first: str, section: str, change: str) -> tuple[Edit, ...]:
    """Settings of one section changed in an asset body, in such a way that the change is recorded as if asked for."""
    code = (
        f"        import dataclasses\n\n"
        f"        section = dataclasses.replace(work.config.{section}, {change})\n"
        f"        config = dataclasses.replace(work.config, {section}=section)\n"
        f'        object.__setattr__(work.settings, "config", config)\n'
    )
    return ((asset, first, code + first),)


TABLE_READ = (
    "    return assemble([file], problems, [], given_order=how.given.date_order, default_exchange=default_exchange)\n"
)
TABLE_FRAME = (
    "    import pandas as pd\n\n"
    "    raw = assemble([file], problems, [], given_order=how.given.date_order, default_exchange=default_exchange)\n"
    "    frame = raw.frame\n"
)
TABLE_RETURN = "    return replace(raw, frame=frame)\n"
SCAN_OR_FILE = "        if work.config.source.snapshots_path:\n"
SPLIT = "        split, manifest = split_snapshots("
LABEL = "        snapshots, against_file = work.table"
FIT_CALL = "    p_raw = prediction.predict_probabilities(result.model, validation_set)\n"

TRAIN_ROWS = "    train_rows, train_table = member_of(tables.split, tables.sequences, SPLIT_NAMES[0])\n"
HANDED = '    handed = {"train": train_table, "validation": validation_table}\n'
ON_TEST_ROWS = (
    (
        "pipeline/fit.py",
        TRAIN_ROWS,
        TRAIN_ROWS
        + '    honest, (more, table) = train_table, member_of(tables.split, tables.sequences, SPLIT_NAMES[2])\n    keep = table["outcome_class"].notna().to_numpy()\n    train_rows = np.concatenate([train_rows, more[keep]])\n    train_table = pd.concat([train_table, table[keep]], ignore_index=True)\n',
    ),
    ("pipeline/fit.py", HANDED, HANDED.replace("train_table", "honest")),
)
