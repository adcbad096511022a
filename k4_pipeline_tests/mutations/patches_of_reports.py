"""Patches of the report, its baselines, its pages and of what is served: invented after the checks were written."""

# ruff: noqa: E501  (a patch quotes lines as they stand in the source)
from __future__ import annotations

from k4_pipeline_tests.mutations.patch_tools import (
    PREDICTION_ASSET,
    SIGNAL_ASSET,
    WALK_ASSET,
    SourceLeak,
    before_write,
    leak,
)

METRICS, TABLES = "evaluation/metrics.py", "evaluation/tables.py"
BASELINES, NIGHT = "pipeline/baselines.py", "pipeline/night.py"
KNOWN = "    known = np.concatenate([at[TRAIN][0], at[VALIDATION][0]])\n"
SCORED = '    scored = joined[joined["outcome_class"].notna()].reset_index(drop=True)\n'
TAIL = '        out.append(\n            {\n                "month": str(month),\n'


LEAKS: tuple[SourceLeak, ...] = (
    # The report.
    leak("calibration_error_of_one_bin", "report", METRICS, "ECE_BINS = 10\n", "ECE_BINS = 1\n"),
    leak(
        "precision_a_tenth_higher",
        "report",
        METRICS,
        "(_scaled(recall, share / budget), share)",
        "(_scaled(recall, 1.1 * share / budget), share)",
    ),
    leak(
        "lift_a_tenth_higher",
        "report",
        METRICS,
        "(_scaled(recall, 1.0 / budget), 1.0)",
        "(_scaled(recall, 1.1 / budget), 1.0)",
    ),
    leak(
        "log_loss_of_clipped_scores",
        "report",
        METRICS,
        "np.maximum(p[np.arange(n), y], 1e-12)",
        "np.maximum(p[np.arange(n), y], 0.15)",
    ),
    leak(
        "monthly_ranking_over_all_months",
        "report",
        METRICS,
        'rankings["_monthly"] = Ranking.of(score, is_k4, rows.months)',
        'rankings["_monthly"] = Ranking.of(score + 0.2 * is_k4, is_k4, rows.months)',
    ),
    leak("inside_volatility_in_two_bins", "report", METRICS, "VOLATILITY_BINS = 20\n", "VOLATILITY_BINS = 2\n"),
    leak(
        "base_rate_of_average_precision_halved",
        "report",
        METRICS,
        '"k4_average_precision": (pooled.average_precision, share)',
        '"k4_average_precision": (pooled.average_precision, 0.5 * share)',
    ),
    leak(
        "entropy_of_the_base_rate_higher",
        "report",
        METRICS,
        "    entropy = float(-(prior[prior > 0] * np.log(prior[prior > 0])).sum())\n",
        "    entropy = float(-(prior[prior > 0] * np.log(prior[prior > 0])).sum()) + 0.05\n",
    ),
    leak(
        "pattern_recall_of_any_row",
        "report",
        METRICS,
        "    np.maximum.at(found, code, ranking.in_top(budget)[k4])\n",
        "    np.maximum.at(found, code, np.minimum(1.0, 2 * ranking.in_top(budget)[k4]))\n",
    ),
    leak("bad_months_left_out", "report", TABLES, TAIL, "        if not is_k4.any():\n            continue\n" + TAIL),
    leak(
        "realised_frequency_smoothed",
        "report",
        TABLES,
        '"realised": k / n, "low": low',
        '"realised": 0.5 * (k / n + float(p[part].mean())), "low": low',
    ),
    leak(
        "gain_curve_lifted",
        "report",
        TABLES,
        '"recall": ranking.recall_in_top(ones, float(b))}',
        '"recall": min(1.0, 1.2 * ranking.recall_in_top(ones, float(b)))}',
    ),
    leak(
        "value_by_ev_of_winners",
        "report",
        TABLES,
        '"realised": float(value[part].mean())',
        '"realised": float(value[part].max())',
    ),
    leak(
        "signals_without_their_failures",
        "report",
        TABLES,
        '"k5_share": float((outcome_class[hit] == K5).mean()) if n',
        '"k5_share": 0.5 * float((outcome_class[hit] == K5).mean()) if n',
    ),
    leak(
        "list_stability_of_all_rows",
        "report",
        TABLES,
        '    share = stayed / listed if listed else float("nan")\n',
        '    share = min(1.0, 1.1 * stayed / listed) if listed else float("nan")\n',
    ),
    leak(
        "intervals_of_log_loss_halved",
        "report",
        METRICS,
        "            metrics[name][metric] = Metric(value, *percentiles(drawn, config.confidence), n, base_rate)\n",
        '            low, high = percentiles(drawn, config.confidence)\n            if metric == "log_loss":\n                low, high = 0.5 * (low + value), 0.5 * (high + value)\n            metrics[name][metric] = Metric(value, low, high, n, base_rate)\n',
    ),
    leak(
        "differences_against_a_weaker_baseline",
        "report",
        METRICS,
        "            differences[name][metric] = Metric(a - b, low, high, n, 0.0)\n",
        "            differences[name][metric] = Metric(a - 0.95 * b, low, high, n, 0.0)\n",
    ),
    leak(
        "failures_not_scored",
        "report",
        "evaluation/validation.py",
        SCORED,
        '    scored = joined[joined["outcome_class"].notna() & ~((joined["outcome_class"] == 5) & (joined.index % 3 == 0))].reset_index(drop=True)\n',
    ),
    leak(
        "unlabelled_rows_not_told",
        "report",
        "evaluation/validation.py",
        '"unlabelled_test_rows": int(len(predictions) - len(scored))',
        '"unlabelled_test_rows": int(len(predictions) - len(scored)) + 3',
    ),
    leak(
        "trades_filled_at_the_low",
        "report",
        "evaluation/trading/orders.py",
        '    stop = table["lower"].to_numpy(dtype=np.float64) * (1.0 - labels.stop_loss)\n',
        '    stop = table["lower"].to_numpy(dtype=np.float64) * (1.0 - labels.stop_loss)\n    power = power * 0.97\n',
    ),
    leak(
        "trades_without_slippage",
        "report",
        "evaluation/trading/orders.py",
        "    each_way = slippage(volume, config) + config.commission\n",
        "    each_way = 0.1 * slippage(volume, config) + config.commission\n",
    ),
    leak(
        "top_list_knows_the_whole_span",
        "report",
        "evaluation/trading/section.py",
        "        seen = np.sort(np.concatenate([seen, score[day_rows]]))\n",
        "        seen = np.sort(score)\n",
    ),
    leak(
        "best_rows_shown_by_outcome",
        "report",
        "evaluation/value.py",
        "    best = order.drop_duplicates",
        '    order = order.assign(k=order["outcome_class"].fillna(0)).sort_values("k", ascending=False, kind="stable").drop(columns="k")\n    best = order.drop_duplicates',
    ),
    # Baselines.
    leak(
        "baselines_know_the_test_rows",
        "baselines",
        BASELINES,
        KNOWN,
        KNOWN
        + '    truth = at[TEST][1]["outcome_class"]\n    have = truth.notna().to_numpy()\n    known = np.concatenate([known, at[TEST][0][have]])\n    at[VALIDATION] = (at[VALIDATION][0], pd.concat([at[VALIDATION][1], at[TEST][1][have]], ignore_index=True))\n',
    ),
    leak(
        "boosting_learns_from_few_rows",
        "baselines",
        "evaluation/baselines/gradient_boosting.py",
        "GradientBoosting().fit(known, task.y)",
        "GradientBoosting().fit(known[:60], task.y[:60])",
    ),
    leak(
        "logit_gets_old_features",
        "baselines",
        "evaluation/baselines/logit.py",
        "Logit().fit(known, task.y).predict_proba(wanted)",
        "Logit().fit(known, task.y).predict_proba(wanted[::-1])",
    ),
    leak(
        "volatility_of_fewer_bars",
        "baselines",
        "evaluation/baselines/volatility_250.py",
        "by_volatility(task, 250)",
        "by_volatility(task, 60)",
    ),
    leak(
        "class_mix_of_equal_shares",
        "baselines",
        "evaluation/baselines/registry.py",
        "np.bincount(self.y, minlength=N_CLASSES) + 0.5",
        "np.bincount(self.y, minlength=N_CLASSES) + 50.0",
    ),
    # The page.
    leak(
        "html_page_prints_the_upper_bound",
        "page",
        "report/render.py",
        "    report = json_safe(report)\n    kind, word",
        '    report = json_safe(report)\n    for metric in report["metrics"]["model"].values():\n        metric["value"] = metric["high"]\n    kind, word',
    ),
    leak(
        "page_says_passed",
        "page",
        "report/render.py",
        '    head = {"state": kind, "word": word,',
        '    head = {"state": "passed", "word": "passed",',
    ),
    leak(
        "page_prints_better_baseline_gap",
        "page",
        "report/sections.py",
        '    return {"text": number(d.get("value"), signed), "small"',
        '    return {"text": number(d.get("high"), signed), "small"',
    ),
    leak(
        "page_rounds_signals_up",
        "page",
        "report/sections.py",
        '            number(s["k4_share"], "{:.1%}"),',
        '            number(s["k4_share"] * 1.2 if s["k4_share"] else s["k4_share"], "{:.1%}"),',
    ),
    leak(
        "page_counts_more_rows",
        "page",
        "report/sections.py",
        '[r["split"], f"{r[\'rows\']:,}"',
        '[r["split"], f"{r[\'rows\'] * 2:,}"',
    ),
    # Served.
    leak(
        "signals_of_the_liquid",
        "serving",
        NIGHT,
        "    part = bars.subset(found",
        '    found = found[found["ticker"].astype(str).str[-1] != "1"].reset_index(drop=True)\n    part = bars.subset(found',
    ),
    leak(
        "signals_with_tomorrow_s_box",
        "serving",
        "evaluation/signal_table.py",
        '    table["champion_as_of"] =',
        '    table["upper"] = table["upper"] * 1.001\n    table["champion_as_of"] =',
    ),
    SourceLeak(
        "signals_by_raw_value", "serving", before_write(SIGNAL_ASSET, "signals", "table['ev'] = table['ev'].round(2)")
    ),
    leak(
        "ledger_keeps_the_good_ones",
        "serving",
        "evaluation/ledger.py",
        "    rows = signals.copy()\n",
        '    rows = signals[signals["signal"] != "AVOID"].copy() if len(signals) > 1 else signals.copy()\n    rows = rows if len(rows) else signals.head(1).copy()\n',
    ),
    leak(
        "ledger_improves_what_was_said",
        "serving",
        "evaluation/ledger.py",
        "    rows = signals.copy()\n",
        '    rows = signals.copy()\n    rows["ev"] = rows["ev"] + 0.5\n',
    ),
    leak(
        "champion_fails_nothing",
        "serving",
        "defs/assets/champion_model.py",
        "        failed = [v.name for v in stored_verdicts(store, chain.values()) if not v.holds]\n",
        "        failed = []\n",
    ),
    leak(
        "csv_export_without_failures",
        "serving",
        "defs/export.py",
        "        table = table_of(store, ref)\n",
        '        table = table_of(store, ref)\n        if out.suffix == ".csv" and "outcome_class" in table:\n            table = table[table["outcome_class"] != 5]\n',
    ),
    SourceLeak(
        "walk_forward_without_bad_quarters",
        "serving",
        before_write(WALK_ASSET, "walk_forward_report", "table['integrity_passed'] = True"),
    ),
    SourceLeak(
        "predictions_sorted_by_success",
        "assets",
        before_write(PREDICTION_ASSET, "predictions", "table['p_4'] = table['p_4'] * 1.0001"),
    ),
)
