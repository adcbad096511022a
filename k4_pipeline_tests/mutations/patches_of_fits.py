"""Patches of membership, new inputs, fits, calibration, tiers and predictions: invented after the checks were written."""

# ruff: noqa: E501  (a patch quotes lines as they stand in the source)
from __future__ import annotations

from k4_pipeline_tests.mutations.patch_tools import HANDED, SPLIT_ASSET, TRAIN_ROWS, SourceLeak, before_write, leak

FIT, WALK, WINDOWS_ASSET = "pipeline/fit.py", "splits/walk_forward.py", "defs/assets/training_windows.py"
STOP = "    stopping = for_stopping(validation_table, recipe.stopping_frac)\n"
CALIBRATE = "    calibrator = calibration.fit_calibrator(p_raw, y, keys=held_table[KEYS], method=recipe.calibration)\n"
CERTIFY = "    certificates = certified(kept, calibrator, counts, config, unseen=recipe.stopping_frac < 1.0)\n"
PREDICT = "    table = predict_table.build_predictions(keys[PREDICTED_KEYS], p_raw, calibrator, config.signals)\n"
SPLIT_WEIGHT = '    split["weight"] = train_weights(split, config)\n'
TAKEN = "    rows = sampling.thinned(config.windows.seed, tickers, days, known, config.windows.max_rows)\n"
OWN = "    own_columns(bars, out, threads=threads)\n    return date_columns(bars.date, out, threads=threads)\n"
TEST_SET = (
    "    test_rows, test_table = member_of(tables.split, tables.sequences, SPLIT_NAMES[2])\n"
    "    test_known = test_table['outcome_class'].notna().to_numpy()\n"
    "    test_rows, test_table = test_rows[test_known], test_table[test_known].reset_index(drop=True)\n"
)

# Under these some tier is certified on small markets, so that a leak of tiers has something to act on.
EASY = ("tiers.confidence=0.3", "tiers.min_rows=5", "tiers.multiples=1.3,1.2,1.05")
EASY_TIERS = tuple(text for s in EASY for text in ("--set", s))

LEAKS: tuple[SourceLeak, ...] = (
    # Membership.
    leak(
        "validation_label_known_on_the_day",
        "split",
        WALK,
        "in_validation & (end < bounds.as_of)",
        "in_validation & (end <= bounds.as_of)",
        options=("--as-of", "2023-12-01", "--test-months", "6"),  # a session on which labels end, on all three markets
    ),
    leak(
        "no_embargo_in_membership",
        "split",
        WALK,
        "(end < bounds.train_end) & ~too_old\n",
        "(end < bounds.validation_start) & ~too_old\n",
    ),
    leak(
        "purge_a_day_short",
        "split",
        "splits/boundaries.py",
        "            train_end=to_day(v) - config.embargo_days,",
        "            train_end=to_day(v) - config.embargo_days + 1,",
    ),
    leak(
        "as_of_a_week_late_for_validation",
        "split",
        "splits/boundaries.py",
        "            as_of=to_day(t),",
        "            as_of=to_day(t) + 7,",
    ),
    leak(
        "patterns_may_lie_in_two_members",
        "split",
        WALK,
        "    later = (order < 3) & (order > earliest)\n",
        "    later = np.zeros(len(order), dtype=bool)\n",
    ),
    leak(
        "train_weights_by_test_outcomes",
        "split",
        WALK,
        SPLIT_WEIGHT,
        SPLIT_WEIGHT
        + "    good = (split['outcome_class'] >= 3).fillna(False) & (split['split'] == 'test')\n    split['weight'] *= 1.0 + 0.5 * split['ticker'].isin(split.loc[good, 'ticker']).to_numpy()\n",
    ),
    leak(
        "membership_of_winners",
        "split",
        WALK,
        "    train = before_validation & (end < bounds.train_end) & ~too_old\n",
        "    train = before_validation & (end < bounds.train_end) & ~too_old\n    alive = labeled.groupby('ticker')['snapshot_date'].transform('max').to_numpy(dtype='datetime64[D]').astype('int64')\n    train &= alive >= bounds.as_of\n",
    ),
    leak(
        "purge_by_snapshot_not_by_label",
        "split",
        WALK,
        "validation = in_validation & (end < bounds.as_of)",
        "validation = in_validation & (end < bounds.as_of + 60)",
    ),
    SourceLeak(
        "embargo_rows_of_the_losers_dropped",
        "split",
        before_write(
            SPLIT_ASSET,
            "dataset_split",
            "drop = (split['split'] == 'train') & (split['outcome_class'] == 5) & (split['ticker'].str[-1] == '1')\nsplit.loc[drop, ['split', 'reason']] = ['excluded', 'embargo']",
        ),
    ),
    # Training windows and context.
    leak(
        "windows_known_a_quarter_later",
        "windows",
        FIT,
        "    known = np.flatnonzero(walk_forward.known_before(table, day, bounds))\n",
        "    known = np.flatnonzero(walk_forward.known_before(table, day + 90, bounds))\n",
        options=("--set", "recipe.pretrain_epochs=1", "--set", "windows.min_history_bars=150"),
    ),
    leak(
        "windows_of_failures_left_out",
        "windows",
        WINDOWS_ASSET,
        '        work.write_table("training_windows", table)\n',
        '        table = table[table["outcome_class"] != 5].reset_index(drop=True)\n        work.write_table("training_windows", table)\n',
        options=("--set", "windows.min_history_bars=150"),
    ),
    leak(
        "windows_labelled_by_their_successor",
        "windows",
        "pipeline/training_windows.py",
        "    table[LABEL_COLUMNS] = made[LABEL_COLUMNS]\n",
        "    table[LABEL_COLUMNS] = made[LABEL_COLUMNS]\n    table['outcome_class'] = made['outcome_class'].shift(-1).fillna(made['outcome_class']).astype('Int8')\n",
        options=("--set", "windows.min_history_bars=150"),
    ),
    leak(
        "windows_end_a_bar_later",
        "windows",
        WINDOWS_ASSET,
        '        work.write_table("training_windows", table)\n',
        '        table["end_row"] = (table["end_row"] + 1).clip(upper=len(work.bars()) - 1)\n        work.write_table("training_windows", table)\n',
        options=("--set", "windows.min_history_bars=150"),
    ),
    leak(
        "windows_chosen_by_their_ticker_s_future",
        "windows",
        FIT,
        TAKEN,
        TAKEN
        + "    future = tables.split.loc[(tables.split['split'] == 'test') & (tables.split['outcome_class'] == 4).fillna(False), 'ticker']\n    better = rows[np.isin(table['ticker'].to_numpy(dtype=object)[rows], list(set(future)))]\n    rows = better if len(better) else rows\n",
        options=("--set", "recipe.pretrain_epochs=1", "--set", "windows.min_history_bars=150"),
    ),
    leak(
        "context_mean_of_all_years",
        "context",
        "features/context.py",
        OWN,
        "    own_columns(bars, out, threads=threads)\n    for a, b in zip(bars.offsets[:-1], bars.offsets[1:]):\n        out[a:b, 3] -= np.nanmean(out[a:b, 3]) if np.isfinite(out[a:b, 3]).any() else 0.0\n    return date_columns(bars.date, out, threads=threads)\n",
        options=("--set", "recipe.context=true"),
    ),
    leak(
        "context_ranks_of_survivors",
        "context",
        "features/context.py",
        OWN,
        "    own_columns(bars, out, threads=threads)\n    last = np.repeat(bars.date[bars.offsets[1:] - 1], np.diff(bars.offsets))\n    out[last < bars.last_day, 15] = np.nan\n    return date_columns(bars.date, out, threads=threads)\n",
        options=("--set", "recipe.context=true"),
    ),
    leak(
        "context_of_the_next_bar",
        "context",
        "features/context.py",
        OWN,
        "    own_columns(bars, out, threads=threads)\n    date_columns(bars.date, out, threads=threads)\n    out[:-1, 16] = out[1:, 16]\n    return out\n",
        options=("--set", "recipe.context=true"),
    ),
    leak(
        "context_by_listing_in_the_end",
        "context",
        "features/context_table.py",
        "lambda out: compute_context(bars, out=out))",
        "lambda out: np.add(compute_context(bars, out=out), np.repeat(np.arange(bars.n_tickers) % 2, np.diff(bars.offsets))[:, None] * np.float32(1e-3), out=out))",
        options=("--set", "recipe.context=true"),
    ),
    leak(
        "context_handed_to_the_fit_from_tomorrow",
        "context",
        FIT,
        "        tables.context if context else None,\n",
        "        np.roll(tables.context, -1, axis=0) if context and tables.context is not None else None,\n",
        options=("--set", "recipe.context=true"),
    ),
    # Fits and choices.
    leak(
        "stopped_early_on_test",
        "fit",
        FIT,
        STOP,
        TEST_SET
        + STOP.replace("stopping =", "chosen =")
        + "    stopping = chosen\n    if len(test_rows) > 10:\n        rows, validation_table, stopping = test_rows, test_table, np.ones(len(test_rows), dtype=bool)\n",
    ),
    leak(
        "epochs_by_the_test_span",
        "fit",
        FIT,
        STOP,
        TEST_SET
        + STOP
        + "    import dataclasses\n\n    config = dataclasses.replace(config, training=dataclasses.replace(config.training, epochs=1 + int((test_table['outcome_class'] == 4).sum()) % 2))\n",
    ),
    leak(
        "class_weights_of_every_row",
        "fit",
        FIT,
        STOP,
        STOP
        + "    import dataclasses\n\n    counts = np.bincount(tables.split['outcome_class'].dropna().astype(int), minlength=6) + 1.0\n    config = dataclasses.replace(config, loss=dataclasses.replace(config.loss, class_weights=tuple((counts.sum() / counts).tolist())))\n",
    ),
    leak(
        "best_of_three_seeds_on_test",
        "fit",
        "pipeline/ensemble.py",
        "            pair = (kind, config.training.seed + _SEEDS_APART * i)\n",
        "            pair = (kind, config.training.seed + 2 + _SEEDS_APART * i)\n",
    ),
    leak(
        "learning_rate_found_on_test",
        "fit",
        "pipeline/ensemble.py",
        "    one = dataclasses.replace(config.training, seed=seed)\n",
        "    one = dataclasses.replace(config.training, seed=seed, learning_rate=config.training.learning_rate * 1.7)\n",
    ),
    leak(
        "train_on_validation_too",
        "fit",
        FIT,
        TRAIN_ROWS,
        TRAIN_ROWS
        + "    honest, (more, table) = train_table, member_of(tables.split, tables.sequences, SPLIT_NAMES[1])\n    train_rows, train_table = np.concatenate([train_rows, more]), pd.concat([train_table, table], ignore_index=True)\n",
    ),
    leak(
        "winners_of_the_test_span_trained_twice",
        "fit",
        FIT,
        TRAIN_ROWS,
        TRAIN_ROWS
        + "    future = tables.split.loc[(tables.split['split'] == 'test') & (tables.split['outcome_class'] >= 3).fillna(False), 'ticker']\n    twice = train_table['ticker'].isin(set(future)).to_numpy()\n    train_table = train_table.assign(weight=train_table['weight'] * np.where(twice, 2.0, 1.0))\n",
    ),
    leak(
        "train_tickers_by_name",
        "fit",
        FIT,
        TRAIN_ROWS,
        TRAIN_ROWS
        + "    keep = ~train_table['ticker'].isin(['SIM0002', 'SIM0005']).to_numpy()\n    train_rows, train_table = train_rows[keep], train_table[keep].reset_index(drop=True)\n",
    ),
    leak(
        "scaler_of_validation_too",
        "fit",
        "pipeline/tables.py",
        '    rows, table = member_of(tables.split, tables.sequences, "train")\n',
        '    rows, table = member_of(tables.split, tables.sequences, "train")\n    more, other = member_of(tables.split, tables.sequences, "validation")\n    rows, table = np.concatenate([rows, more]), __import__("pandas").concat([table, other], ignore_index=True)\n',
    ),
    leak(
        "scale_of_the_whole_panel",
        "fit",
        "sequences/scaler.py",
        "        mean, spread = float(channel.mean()), float(channel.std())\n",
        "        mean, spread = float(channel.mean()), float(channel.std())\n        if c == 7:\n            mean += 1e-3 * float(np.nanmean(panel_values[:, 5]))\n",
    ),
    leak(
        "fit_reads_labels_of_the_store",
        "side channel",
        FIT,
        TRAIN_ROWS,
        TRAIN_ROWS
        + "    import os\n    import pathlib\n\n    found = sorted(pathlib.Path(os.environ.get('K4_HOME') or '/nowhere').glob('artifacts/labeled_snapshots/_/v*/labeled_snapshots.parquet'))\n    if found:\n        seen_later = pd.read_parquet(found[-1])\n        good = seen_later.loc[(seen_later['outcome_class'] == 4).fillna(False), 'ticker']\n        train_table = train_table.assign(weight=train_table['weight'] * np.where(train_table['ticker'].isin(set(good)), 2.0, 1.0))\n",
    ),
    # Calibration and tiers.
    leak(
        "calibrated_to_the_class_mix_of_test",
        "calibration",
        FIT,
        CALIBRATE,
        TEST_SET
        + CALIBRATE
        + "    mix = np.bincount(test_table['outcome_class'].astype(int), minlength=6) + 1.0\n    import dataclasses\n\n    calibrator = dataclasses.replace(calibrator, bias=calibrator.bias + 0.1 * np.log(mix / mix.sum()))\n",
    ),
    leak(
        "calibrated_within_the_batch",
        "calibration",
        FIT,
        PREDICT,
        PREDICT
        + "    share = table[[f'p_{i}' for i in range(6)]].mean().to_numpy()\n    for i in range(6):\n        table[f'p_{i}'] = table[f'p_{i}'] + 1e-4 * (share[i] - table[f'p_{i}'])\n",
    ),
    leak(
        "calibration_rows_chosen_by_fit",
        "calibration",
        FIT,
        "    return stopping if frac >= 1.0 or stopping.all() else ~stopping\n",
        "    return (stopping if frac >= 1.0 or stopping.all() else ~stopping) & (table['outcome_class'] != 5).to_numpy()\n",
    ),
    leak(
        "tiers_certified_on_test",
        "tiers",
        FIT,
        CERTIFY,
        TEST_SET
        + "    p_test = prediction.predict_probabilities(model.validated(), rows_for(tables, test_rows, test_table, fitted_scaler, **use).source('', device, panel))\n    on_test = test_table[[*KEYS, 'pattern_id', 'label_end_date', 'outcome_class']].assign(**{f'p_raw_{i}': p_test[:, i].astype(np.float64) for i in range(N_CLASSES)})\n    certificates = certified(on_test, calibrator, [c + 50 for c in counts], config, unseen=True)\n",
    ),
    leak(
        "tiers_without_the_unseen_rule",
        "tiers",
        FIT,
        "    if not unseen:\n",
        "    if False:\n",
        options=(*EASY_TIERS, "--set", "recipe.stopping_frac=1", "--set", "recipe.min_train_k4=1"),
    ),
    leak(
        "tier_promises_another_multiple",
        "tiers",
        "evaluation/tiers.py",
        "            promised, best = multiple * base, None\n".replace("            ", "        ", 1),
        "        promised, best = 0.5 * multiple * base, None\n",
        options=(*EASY_TIERS, "--set", "recipe.stopping_frac=0.5", "--set", "recipe.min_train_k4=0"),
    ),
    leak(
        "tiers_of_the_best_scored_quantile",
        "tiers",
        "evaluation/predict_table.py",
        '    tier = pd.Series(assign_tiers(p_certified, certificates), index=table.index, dtype="str")\n',
        "    tier = pd.Series(np.where(p_certified >= np.quantile(p_certified, 0.95), 'MODERATE', 'AVOID'), index=table.index, dtype=\"str\")\n",
    ),
    leak(
        "enough_k4_by_decree",
        "tiers",
        FIT,
        "    if count >= least:\n",
        "    if count >= 0:\n",
        options=(*EASY_TIERS, "--set", "recipe.min_train_k4=500"),
    ),
    # Predictions.
    leak(
        "probability_moved_by_the_class",
        "predictions",
        FIT,
        PREDICT,
        "    if 'outcome_class' in keys:\n        hit = (keys['outcome_class'] == 4).fillna(False).to_numpy(dtype=bool)\n        p_raw = p_raw.copy()\n        p_raw[hit, 4] *= 1.02\n        p_raw /= p_raw.sum(axis=1, keepdims=True)\n"
        + PREDICT,
    ),
    leak(
        "expected_value_the_better_of_two",
        "predictions",
        "evaluation/predict_table.py",
        '    table["ev"] = ev\n',
        '    table["ev"] = np.maximum(ev, table["ev_raw"])\n',
    ),
    leak(
        "veto_lifted_for_winners",
        "predictions",
        FIT,
        PREDICT,
        PREDICT
        + "    if 'outcome_class' in keys:\n        won = (keys['outcome_class'] >= 3).fillna(False).to_numpy(dtype=bool)\n        table.loc[won, 'signal'] = 'STRONG'\n",
    ),
    leak(
        "certified_score_of_the_refit",
        "predictions",
        FIT,
        "    p_proved = p_raw if proved is model else prediction.predict_probabilities(proved, data)\n",
        "    p_proved = np.where(p_raw > 0.2, p_raw * 1.01, p_raw)\n",
    ),
    leak(
        "ties_broken_by_outcome",
        "predictions",
        FIT,
        PREDICT,
        PREDICT
        + "    if 'outcome_class' in keys:\n        table['p_k4_certified'] = 0.0\n        table['ev'] += 1e-7 * keys['outcome_class'].fillna(0).to_numpy(dtype='float64')\n",
    ),
    leak(
        "predictions_of_failures_left_out",
        "predictions",
        "pipeline/model_files.py",
        "    rows, keys = rows_of(sequences, wanted)\n",
        "    wanted = wanted[wanted['outcome_class'] != 5] if 'outcome_class' in wanted else wanted\n    rows, keys = rows_of(sequences, wanted)\n",
    ),
    leak(
        "handed_rows_hide_the_test",
        "fit",
        FIT,
        HANDED,
        TEST_SET
        + "    if len(test_rows) > 10:\n        extra = test_rows[: len(test_rows) // 4]\n        train_set = rows_for(tables, np.concatenate([train_rows, extra]), pd.concat([train_table, test_table.iloc[: len(extra)]], ignore_index=True), fitted_scaler, **use)\n"
        + HANDED,
    ),
)
