"""Patches on the way from the source file to the model: settings, readers, cleaning, fits, side channels."""

# ruff: noqa: E501  (a patch quotes lines as they stand in the source)
from __future__ import annotations

from k4_pipeline_tests.mutations.patch_tools import (
    BARS_ASSET,
    LABEL,
    LABEL_ASSET,
    ON_TEST_ROWS,
    SCAN_OR_FILE,
    SNAPSHOT_ASSET,
    SPLIT,
    SPLIT_ASSET,
    TABLE_FRAME,
    TABLE_READ,
    TABLE_RETURN,
    TRAIN_ROWS,
    SourceLeak,
    before_write,
    rewritten,
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
                "    table = predict_table.build_predictions(keys[PREDICTED_KEYS], p_raw, calibrator, config.signals)",
                "    import dataclasses\n\n    ev = calibrator.transform(np.asarray(p_raw, np.float64)) @ np.array([-2.0, -0.2, 1.0, 3.0, 10.0, -10.0])\n    limits = dataclasses.replace(config.signals, moderate_ev=float(np.quantile(ev, 0.7)), good_ev=float(np.quantile(ev, 0.8)))\n    table = predict_table.build_predictions(keys[PREDICTED_KEYS], p_raw, calibrator, limits)",
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
                "    rejects = _rejects_table(raw, reason, values)\n",
                "    later = np.roll(values['close'], -1) / values['close']\n    reason[(reason == 0) & (later < 0.9)] = 1\n    rejects = _rejects_table(raw, reason, values)\n",
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
)
