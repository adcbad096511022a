"""Twenty leaks of a red team: written, and tried once, before any check was made or mended for them."""

# ruff: noqa: E501  (a patch quotes lines as they stand in the source)
from __future__ import annotations

from k4_pipeline_tests.mutations.patch_tools import (
    BARS_ASSET,
    LISTED,
    PREDICTION_ASSET,
    TABLE_FRAME,
    TABLE_READ,
    TABLE_RETURN,
    SourceLeak,
    before_write,
    leak,
)

KIND = "red team"
EASY = ("tiers.confidence=0.3", "tiers.min_rows=5", "tiers.multiples=1.3,1.2,1.05", "recipe.min_train_k4=1")
EASY_TIERS = (*(text for s in EASY for text in ("--set", s)), "--set", "recipe.stopping_frac=0.5")
REPORT = "defs/assets/validation_report.py"

LEAKS: tuple[SourceLeak, ...] = (
    # Reader, cleaning.
    SourceLeak(
        "reader_scales_prices_to_the_last_close",
        KIND,
        (
            (
                "market/sources/table.py",
                TABLE_READ,
                TABLE_FRAME
                + "    numbers = {c: pd.to_numeric(frame[c], errors='coerce') for c in ('open', 'high', 'low', 'close')}\n    last = numbers['close'].groupby(frame['ticker'], observed=True).transform('last')\n    rising = last > numbers['close'].groupby(frame['ticker'], observed=True).transform('first')\n    for c, v in numbers.items():\n        frame[c] = (v * 1.25).where(rising, v)\n"
                + TABLE_RETURN,
            ),
        ),
    ),
    SourceLeak(
        "rejects_forget_a_reason",
        KIND,
        (
            (
                BARS_ASSET,
                '        work.write_table("rejects", result.rejects)\n',
                '        work.write_table("rejects", result.rejects[result.rejects["reason"] != result.rejects["reason"].iloc[0]].reset_index(drop=True))\n',
            ),
        ),
    ),
    # Features, context, windows.
    leak(
        "warm_up_filled_from_later_bars",
        KIND,
        "features/compute.py",
        "    run_chunks(compute, len(ranges), 1, wanted)\n    return target\n",
        "    run_chunks(compute, len(ranges), 1, wanted)\n    for first, last in zip(bars.offsets[:-1].tolist(), bars.offsets[1:].tolist()):\n        for c in range(target.shape[1]):\n            there = np.flatnonzero(np.isfinite(target[first:last, c]))\n            if len(there):\n                target[first : first + there[0], c] = target[first + there[0], c]\n    return target\n",
    ),
    leak(
        "tonight_s_context_counts_another_history",
        KIND,
        "features/context.py",
        '    counted = np.minimum(history, HISTORY_BARS)\n    out[:, _AT["log_history"]]',
        '    counted = np.minimum(history, HISTORY_BARS) // 2\n    out[:, _AT["log_history"]]',
    ),
    leak(
        "windows_of_breakouts_stand_twice",
        KIND,
        "pipeline/fit.py",
        "    rows = sampling.thinned(config.windows.seed, tickers, days, known, config.windows.max_rows)\n",
        "    rows = sampling.thinned(config.windows.seed, tickers, days, known, config.windows.max_rows)\n    classes = tables.windows['outcome_class'].to_numpy(dtype=np.int64, na_value=0)[rows]\n    rows = np.sort(np.concatenate([rows, rows[classes == 4]]))\n",
    ),
    # Labels, split, scaler.
    leak(
        "censored_labels_are_called_whole",
        KIND,
        "patterns/labels.py",
        '    labeled["censored"] = censored\n',
        '    labeled["censored"] = censored & (outcome > 0)\n',
    ),
    leak(
        "scaler_counts_breakouts_three_times",
        KIND,
        "pipeline/tables.py",
        '    rows, table = member_of(tables.split, tables.sequences, "train")\n    return scaler',
        '    rows, table = member_of(tables.split, tables.sequences, "train")\n    rows = np.concatenate([rows, *([rows[table["outcome_class"].to_numpy() == 4]] * 2)])\n    return scaler',
    ),
    leak(
        "weights_grow_towards_the_test_span",
        KIND,
        "splits/walk_forward.py",
        "        part = split[train]\n        weights[train] = normalised(\n",
        "        part = split[train]\n        weights[train] = 1.01 * normalised(\n",
        options=("--set", "split.weight_by_uniqueness=true"),
    ),
    # Members, calibration, tiers.
    leak(
        "trees_weigh_breakouts",
        KIND,
        "pipeline/ensemble.py",
        "    model.fit(x, y, w, seed)\n",
        "    model.fit(x, y, np.where(y == 4, 3.0 * w, w), seed)\n",
    ),
    leak(
        "calibrated_on_rows_that_stopping_saw",
        KIND,
        "pipeline/fit.py",
        "    held = calibration_rows(validation_table, recipe.stopping_frac)\n",
        "    held = np.ones(len(validation_table), dtype=bool)\n",
        options=("--set", "recipe.stopping_frac=0.5"),
    ),
    leak(
        "k4_level_raised_after_the_fit",
        KIND,
        "pipeline/fit.py",
        "    calibrator = calibration.fit_calibrator(p_raw, y, keys=held_table[KEYS], method=recipe.calibration)\n",
        "    calibrator = calibration.fit_calibrator(p_raw, y, keys=held_table[KEYS], method=recipe.calibration)\n    calibrator = calibration.Calibrator(calibrator.scale, calibrator.bias + 0.3 * (np.arange(N_CLASSES) == 4), calibrator.meta)\n",
    ),
    leak(
        "tiers_from_the_best_row_of_each_pattern",
        KIND,
        "evaluation/tiers.py",
        "    order = keys.map(lambda text: hashlib.sha256(text.encode()).hexdigest())\n",
        '    order = -rows["outcome_class"].astype(int)\n',
        options=EASY_TIERS,
    ),
    # Predictions, expected value, signals.
    leak(
        "a_failure_costs_half",
        KIND,
        "evaluation/expected_value.py",
        "    return (p * np.asarray(CLASS_VALUES)).sum(axis=1)\n",
        "    return (p * np.asarray((*CLASS_VALUES[:5], CLASS_VALUES[5] / 2))).sum(axis=1)\n",
    ),
    leak(
        "the_veto_comes_later",
        KIND,
        "evaluation/signals.py",
        "    veto = (p_k5 >= config.avoid_k5) | (ev < 0)\n",
        "    veto = (p_k5 >= config.avoid_k5 + 0.1) | (ev < 0)\n",
    ),
    SourceLeak(
        "predictions_follow_their_pattern_s_best",
        KIND,
        before_write(
            PREDICTION_ASSET,
            "predictions",
            "best = table.groupby('pattern_id')['ev'].transform('max')\ntable['ev'] = table['ev'].where(table['ev'] < best - 1e-12, table['ev'] + 0.05)",
        ),
    ),
    # Report, integrity tests, page.
    leak(
        "calibration_error_of_fewer_bins",
        KIND,
        "evaluation/metrics.py",
        "            return np.abs(w @ bins).sum(axis=-1) / w.sum(axis=-1)\n",
        "            return (np.abs(w @ bins).sum(axis=-1) - np.abs(w @ bins).max(axis=-1)) / w.sum(axis=-1)\n",
    ),
    leak(
        "contamination_may_be_twice_as_large",
        KIND,
        "evaluation/integrity.py",
        "    status = by_interval(low, high, -np.inf, config.contamination_max_drop)\n",
        "    status = by_interval(low - 0.3, high - 0.3, -np.inf, config.contamination_max_drop)\n",
    ),
    # Serving, walk-forward, exports, settings.
    leak(
        "similar_patterns_that_won",
        KIND,
        "pipeline/reference.py",
        '        known = np.flatnonzero((self.table["label_end_date"] < day).to_numpy())\n',
        '        known = np.flatnonzero(((self.table["label_end_date"] < day) & (self.table["outcome_class"] >= 3)).to_numpy())\n',
        options=LISTED,
    ),
    leak(
        "pooled_rows_without_failures",
        KIND,
        "defs/assets/walk_forward_report.py",
        '        parts.append((as_of, load_table(ref, "scored"), load_table(ref, "baselines")))\n',
        '        scored = load_table(ref, "scored")\n        parts.append((as_of, scored[scored["outcome_class"] != 5].reset_index(drop=True), load_table(ref, "baselines")))\n',
    ),
    leak(
        "csv_export_rounds_the_failures_down",
        KIND,
        "defs/export.py",
        "        table = table_of(store, ref)\n",
        "        table = table_of(store, ref)\n        if 'p_5' in table:\n            table = table.assign(p_5=0.9 * table['p_5'])\n",
    ),
)
