"""Leaks as patches of the source, by the kind of mistake or deceit; and clean variants that must raise no alarm.

An edit is (file below the package, text, text instead); the text stands in the file exactly once, which a test checks.
"""

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


@dataclass(frozen=True)
class CleanVariant:
    """An honest run with other options."""

    name: str
    options: tuple[str, ...] = ()
    kind: str = "clean"


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
    "    return assemble([file], problems, [], given_order=given.date_order, default_exchange=default_exchange)\n"
)
TABLE_FRAME = (
    "    import pandas as pd\n\n"
    "    raw = assemble([file], problems, [], given_order=given.date_order, default_exchange=default_exchange)\n"
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

LEAKS = (
    # Settings rewritten on the way and recorded as if asked for.
    SourceLeak(
        "sampling_seed_by_outcome", "settings", rewritten(SNAPSHOT_ASSET, SCAN_OR_FILE, "patterns", "sampling_seed=7")
    ),
    SourceLeak(
        "label_thresholds_of_the_whole_sample",
        "settings",
        rewritten(LABEL_ASSET, LABEL, "labels", "gain_thresholds=(0.02, 0.03, 0.05, 0.08)"),
    ),
    SourceLeak("stop_loss_of_the_whole_sample", "settings", rewritten(LABEL_ASSET, LABEL, "labels", "stop_loss=0.06")),
    SourceLeak("embargo_divided_by_seven", "settings", rewritten(SPLIT_ASSET, SPLIT, "split", "embargo_days=1")),
    SourceLeak("validation_span_by_outcome", "settings", rewritten(SPLIT_ASSET, SPLIT, "split", "validation_months=6")),
    SourceLeak(
        "embargo_of_the_boundaries",
        "settings",
        (("splits/boundaries.py", "to_day(v) - config.embargo_days", "to_day(v) - config.embargo_days // 7"),),
    ),
    SourceLeak(
        "embargo_of_the_options",
        "settings",
        (
            (
                "options.py",
                "    return dataclasses.replace(config, **{section: part})",
                "    config = dataclasses.replace(config, split=dataclasses.replace(config.split, embargo_days=1))\n    return dataclasses.replace(config, **{section: part})",
            ),
        ),
    ),
    SourceLeak(
        "signal_limits_of_the_batch",
        "settings",
        (
            (
                "pipeline/fit.py",
                "    return predict_table.build_predictions(keys[PREDICTED_KEYS], p_raw, calibrator, config.signals)",
                "    import dataclasses\n\n    ev = calibrator.transform(np.asarray(p_raw, np.float64)) @ np.array([-2.0, -0.2, 1.0, 3.0, 10.0, -10.0])\n    limits = dataclasses.replace(config.signals, moderate_ev=float(np.quantile(ev, 0.7)), good_ev=float(np.quantile(ev, 0.8)))\n    return predict_table.build_predictions(keys[PREDICTED_KEYS], p_raw, calibrator, limits)",
            ),
        ),
    ),
    # Readers.
    SourceLeak(
        "reader_drops_the_dead",
        "readers",
        (
            (
                "market/sources/table.py",
                TABLE_READ,
                TABLE_FRAME
                + "    last = frame.groupby('ticker', observed=True)['date'].transform('max')\n    frame = frame[last >= frame['date'].astype(str).sort_values().iloc[-20]].reset_index(drop=True)\n"
                + TABLE_RETURN,
            ),
        ),
    ),
    SourceLeak(
        "reader_averages_volume_with_the_next",
        "readers",
        (
            (
                "market/sources/table.py",
                TABLE_READ,
                TABLE_FRAME
                + "    volume = pd.to_numeric(frame['volume'], errors='coerce')\n    frame['volume'] = volume.add(volume.groupby(frame['ticker']).shift(-1).fillna(volume)) / 2\n"
                + TABLE_RETURN,
            ),
        ),
    ),
    SourceLeak(
        "reader_lowers_the_high_of_the_day",
        "readers",
        (
            (
                "market/sources/table.py",
                TABLE_READ,
                TABLE_FRAME
                + "    close = pd.to_numeric(frame['close'], errors='coerce')\n    frame['open'] = close.groupby(frame['ticker']).shift(-1).fillna(close).clip(frame['low'].astype(float), frame['high'].astype(float))\n"
                + TABLE_RETURN,
            ),
        ),
    ),
    SourceLeak(
        "reader_drops_the_worst_ticker",
        "readers",
        (
            (
                "market/sources/table.py",
                TABLE_READ,
                TABLE_FRAME
                + "    ends = frame.groupby('ticker', observed=True)['close'].last().astype(float) / frame.groupby('ticker', observed=True)['close'].first().astype(float)\n    frame = frame[frame['ticker'] != ends.idxmin()].reset_index(drop=True)\n"
                + TABLE_RETURN,
            ),
        ),
    ),
    # Cleaning.
    SourceLeak(
        "smoothed_volume_stored",
        "cleaning",
        before_write(
            BARS_ASSET,
            "daily_bars",
            "table['volume'] = table.groupby('ticker')['volume'].transform(lambda v: v.rolling(3, center=True, min_periods=1).mean())",
        ),
    ),
    SourceLeak(
        "bars_before_a_crash_left_out",
        "cleaning",
        before_write(
            BARS_ASSET,
            "daily_bars",
            "table = table[~(table.groupby('ticker')['close'].pct_change().shift(-1) < -0.12)].reset_index(drop=True)",
        ),
    ),
    SourceLeak(
        "jumps_refused_in_hindsight",
        "cleaning",
        (
            (
                "market/cleaning.py",
                "    rejects = _rejects_table(frame, reason, values)\n",
                "    later = np.roll(values['close'], -1) / values['close']\n    reason[(reason == 0) & (later < 0.9)] = 1\n    rejects = _rejects_table(frame, reason, values)\n",
            ),
        ),
    ),
    # A proof skipped on the artifact's own word.
    SourceLeak(
        "says_it_trained_for_long",
        "own word",
        (("pipeline/model_files.py", '"seconds": round(made.seconds, 1)', '"seconds": 301.0'), *ON_TEST_ROWS),
    ),
    SourceLeak(
        "says_it_trained_on_a_gpu",
        "own word",
        (("pipeline/model_files.py", '"device": made.device', '"device": "cuda:0"'), *ON_TEST_ROWS),
    ),
    SourceLeak("trained_on_test_rows", "fit", ON_TEST_ROWS),
    # What is handed to a fit.
    SourceLeak(
        "weights_by_later_closes",
        "fit",
        (
            (
                "pipeline/fit.py",
                TRAIN_ROWS,
                TRAIN_ROWS
                + "    later = np.minimum(tables.index.rows[train_rows][:, 0] + 20, len(tables.panel) - 1)\n    train_table = train_table.assign(weight=1.0 + np.nan_to_num(np.abs(tables.panel[later, 0])))\n",
            ),
        ),
    ),
    SourceLeak(
        "calibrated_on_test_rows",
        "fit",
        (
            (
                "pipeline/fit.py",
                "    held_rows, held_table = rows[held], validation_table[held].reset_index(drop=True)\n",
                "    held_rows, held_table = member_of(tables.split, tables.sequences, SPLIT_NAMES[2])\n    known = held_table['outcome_class'].notna().to_numpy()\n    held_rows, held_table = held_rows[known], held_table[known].reset_index(drop=True)\n",
            ),
        ),
    ),
    SourceLeak(
        "scaler_of_all_rows",
        "fit",
        (
            (
                "pipeline/tables.py",
                '    rows, table = member_of(tables.split, tables.sequences, "train")\n',
                '    rows, table = member_of(tables.split, tables.sequences, "train")\n    more, _ = member_of(tables.split, tables.sequences, "test")\n    rows = np.sort(np.concatenate([rows, more[: len(rows) // 4]]))\n    table = tables.sequences.iloc[rows]\n',
            ),
        ),
    ),
    # Side channels.
    SourceLeak(
        "feature_from_the_store",
        "side channel",
        (
            (
                "features/compute.py",
                "    wanted = threads or n_threads()\n",
                '    import os\n    import pathlib\n\n    import pandas as pd\n\n    found = sorted(pathlib.Path(os.environ.get("K4_HOME") or "/nowhere").glob("artifacts/daily_bars/_/v*/daily_bars.parquet"))\n    means = pd.read_parquet(found[-1]).groupby("ticker")["close"].mean().to_dict() if found else {}\n    wanted = threads or n_threads()\n',
            ),
            (
                "features/compute.py",
                "    own = threading.local()  # a scratch buffer for each thread\n",
                "    own = threading.local()  # a scratch buffer for each thread\n    known = means\n",
            ),
        ),
    ),
    SourceLeak(
        "scan_remembers_in_a_cache_file",
        "side channel",
        (
            (
                "patterns/snapshots.py",
                "    patterns = find_patterns(bars, config, threads=threads, progress=progress)\n    last_rows = bars.offsets[patterns.ticker_code + 1] - 1\n",
                "    patterns = find_patterns(bars, config, threads=threads, progress=progress)\n    last_rows = bars.offsets[patterns.ticker_code + 1] - 1\n",
            ),
            (
                "patterns/snapshots.py",
                "    keep = (bars_active == 0) | (uniform < probability)\n",
                "    import pathlib\n    import tempfile\n\n    memory = pathlib.Path(tempfile.gettempdir()) / f'k4-seen-{bars.tickers[0]}.npy'\n    best = np.load(memory) if memory.exists() else np.zeros(0)\n    if len(bars) > len(best):\n        np.save(memory, bars.close)\n    keep = (bars_active == 0) | (uniform < probability)\n    if len(best) > len(bars):\n        keep &= best[np.minimum(rows + 30, len(best) - 1)] > 0.5 * bars.close[rows]\n",
            ),
        ),
    ),
    SourceLeak(
        "sampling_by_ticker_name_list",
        "side channel",
        (
            (
                "patterns/snapshots.py",
                "    keep = (bars_active == 0) | (uniform < probability)\n",
                "    keep = (bars_active == 0) | (uniform < probability)\n    keep &= ~np.isin(bars.tickers[patterns.ticker_code[which]], bars.tickers[:1])\n",
            ),
        ),
    ),
    # Tables changed in an asset body.
    SourceLeak(
        "losers_left_out_of_the_snapshots",
        "assets",
        before_write(
            SNAPSHOT_ASSET,
            "snapshots",
            "bars = work.bars()\nat = bars.locate(table['ticker'], table['snapshot_date'].to_numpy(dtype='datetime64[D]').astype('int64'))\nlater = bars.close[(at + 10).clip(0, len(bars) - 1)]\ntable = table[later > 0.93 * table['lower']].reset_index(drop=True)",
        ),
    ),
    SourceLeak(
        "labels_known_a_week_early",
        "assets",
        before_write(
            LABEL_ASSET,
            "labeled_snapshots",
            "import pandas as pd\n\ntable['label_end_date'] = (table['label_end_date'] - pd.Timedelta(days=7)).where(table['label_end_date'] - pd.Timedelta(days=7) > table['snapshot_date'], table['label_end_date'])",
        ),
    ),
    SourceLeak(
        "windows_a_bar_later",
        "assets",
        before_write(
            SEQUENCE_ASSET, "sequences", "table['end_row'] = (table['end_row'] + 1).clip(upper=len(work.bars()) - 1)"
        ),
    ),
    SourceLeak(
        "test_rows_that_fail_left_out",
        "assets",
        before_write(
            SPLIT_ASSET,
            "dataset_split",
            "bad = (split['split'] == 'test') & (split['outcome_class'] == 5)\nsplit.loc[bad, 'split'] = 'excluded'\nsplit.loc[bad, 'reason'] = 'after_test'",
        ),
    ),
    SourceLeak(
        "train_rows_in_the_embargo",
        "assets",
        before_write(
            SPLIT_ASSET,
            "dataset_split",
            "inside = split['reason'] == 'embargo'\nsplit.loc[inside, ['split', 'reason']] = ['train', '']",
        ),
    ),
    SourceLeak(
        "ev_of_what_followed",
        "assets",
        before_write(
            PREDICTION_ASSET,
            "predictions",
            "y = split[split['split'] == 'test'].set_index(['ticker', 'snapshot_date'])['outcome_class']\nkeys = list(zip(table['ticker'], table['snapshot_date']))\ntable['ev'] += 0.1 * y.reindex(keys).fillna(0).to_numpy(dtype='float64')",
        ),
    ),
    # The page.
    SourceLeak(
        "upper_bound_as_the_value",
        "page",
        (
            (
                "report/sections.py",
                '{"text": number(m["value"], form), "small": span(m, form)}',
                '{"text": number(m["high"], form), "small": span(m, form)}',
            ),
        ),
    ),
    SourceLeak(
        "brier_halved",
        "page",
        (
            (
                "evaluation/metrics.py",
                '"brier": (partial(mean, ((p - one_hot) ** 2).sum(axis=1))',
                '"brier": (partial(mean, 0.5 * ((p - one_hot) ** 2).sum(axis=1))',
            ),
        ),
    ),
    SourceLeak(
        "k4_count_of_the_report",
        "page",
        (
            (
                "evaluation/validation.py",
                '                "k4": int(counts[K4]),',
                '                "k4": int(counts[K4]) + 1,',
            ),
        ),
    ),
    SourceLeak(
        "k4_brier_to_the_fourth",
        "page",
        (
            (
                "evaluation/metrics.py",
                '"k4_brier": (partial(mean, (p[:, K4] - one_hot[:, K4]) ** 2)',
                '"k4_brier": (partial(mean, (p[:, K4] - one_hot[:, K4]) ** 4)',
            ),
        ),
    ),
    SourceLeak(
        "spearman_printed_higher",
        "page",
        (
            (
                "evaluation/metrics.py",
                "(partial(pearson, mid_ranks(ev), mid_ranks(rows.value)), 0.0)",
                "(partial(pearson, mid_ranks(ev) + mid_ranks(rows.value), mid_ranks(rows.value)), 0.0)",
            ),
        ),
    ),
    SourceLeak(
        "signals_made_to_look_better",
        "page",
        (
            (
                "evaluation/metrics.py",
                '"mean_realised_value": float(rows.value.mean())',
                '"mean_realised_value": float(rows.value.max())',
            ),
        ),
    ),
    # Outside the audit until now.
    SourceLeak(
        "walk_forward_shows_the_upper_bound",
        "serving",
        before_write(WALK_ASSET, "walk_forward_report", "table['k4_auc'] = table['k4_auc_high']"),
    ),
    SourceLeak(
        "walk_forward_code_shows_the_upper_bound",
        "serving",
        (
            (
                "evaluation/walk_forward.py",
                '(("", "value"), ("_low", "low"), ("_high", "high"))',
                '(("", "high"), ("_low", "low"), ("_high", "high"))',
            ),
        ),
    ),
    SourceLeak(
        "signals_drop_the_vetoed",
        "serving",
        before_write(
            SIGNAL_ASSET, "signals", "table = table[table['ev'] > table['ev'].median()].reset_index(drop=True)"
        ),
    ),
    SourceLeak(
        "signals_ranked_in_their_batch",
        "serving",
        before_write(SIGNAL_ASSET, "signals", "table['ev'] = table['ev'] - table['ev'].mean()"),
    ),
    SourceLeak(
        "exports_leave_out_failures",
        "serving",
        (
            (
                "defs/export.py",
                "        table = table_of(store, ref)\n",
                "        table = table_of(store, ref)\n        table = table[table['outcome_class'] != 5] if 'outcome_class' in table else table\n",
            ),
        ),
    ),
    SourceLeak(
        "exported_windows_a_bar_later",
        "serving",
        (
            (
                "sequences/export.py",
                "            out, mask = assemble_canonical(_as_float32(panel_values), index, rows, values[: len(rows)])\n",
                "            out, mask = assemble_canonical(_as_float32(np.roll(panel_values, -1, axis=0)), index, rows, values[: len(rows)])\n",
            ),
        ),
    ),
    # Small groups.
    SourceLeak(
        "the_dead_lose_their_last_snapshots",
        "small groups",
        (
            (
                "patterns/snapshots.py",
                "    keep = (bars_active == 0) | (uniform < probability)\n",
                "    keep = (bars_active == 0) | (uniform < probability)\n    final = bars.offsets[patterns.ticker_code[which] + 1] - 1\n    keep &= ~((bars.date[final] < bars.last_day) & (final - rows < 10))\n",
            ),
        ),
    ),
    SourceLeak(
        "labels_of_the_dead_race_to_the_end",
        "small groups",
        (
            (
                "patterns/snapshots.py",
                '            "upper": patterns.upper[which],\n',
                '            "upper": patterns.upper[which] * np.where(bars.date[bars.offsets[patterns.ticker_code[which] + 1] - 1] < bars.last_day, 1.001, 1.0),\n',
            ),
        ),
    ),
    # As-of date and calendar.
    SourceLeak(
        "as_of_where_most_breakouts_follow",
        "as of",
        (
            (
                "splits/as_of.py",
                "            return quarter\n",
                "            if ((labeled['outcome_class'] == 4).to_numpy(dtype=bool, na_value=False) & in_test).sum() > 3:\n                return quarter\n            fallback.append((splittable, quarter))\n            continue\n",
            ),
            ("splits/as_of.py", "    return max(fallback)[1]", "    return min(fallback)[1]"),
        ),
    ),
)

CLEAN = (
    CleanVariant("as_it_is"),
    CleanVariant("another_seed", ("--seed", "5")),
    CleanVariant("bf16", ("--set", "training.precision=bf16")),
    CleanVariant("null_world", ("--world", "null", "--tickers", "16", "--bars", "760")),
    CleanVariant("simulated", ("--world", "squeeze", "--tickers", "16", "--bars", "760")),
    CleanVariant("bilstm", ("--architecture", "bilstm")),
    CleanVariant("tiny", ("--preset", "tiny")),
    CleanVariant("loss_monitor", ("--set", "training.monitor=loss")),
    CleanVariant("recall_monitor", ("--set", "training.monitor=k4_recall")),
    CleanVariant("weights", ("--set", "split.weight_by_uniqueness=true")),
    CleanVariant("first_breach", ("--labeling", "first_breach")),
    CleanVariant("on_closes", ("--set", "labels.measured_on=close")),
    CleanVariant("train_years", ("--set", "split.train_years=1")),
    CleanVariant("long_embargo", ("--set", "split.embargo_days=20")),
    CleanVariant("short_test", ("--test-months", "3")),
    CleanVariant("more_snapshots", ("--set", "patterns.sample_probability=0.6")),
    CleanVariant("small_batches", ("--set", "training.batch_size=32")),
    CleanVariant("six_tickers", ("--set", "source.tickers=SIM0000,SIM0001,SIM0002,SIM0003,SIM0004,SIM0005")),
)
