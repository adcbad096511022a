"""Patches of what is stored, printed, served and chosen, and of what only small groups show."""

# ruff: noqa: E501  (a patch quotes lines as they stand in the source)
from __future__ import annotations

from k4_pipeline_tests.mutations.patch_tools import (
    LABEL_ASSET,
    PREDICTION_ASSET,
    SEQUENCE_ASSET,
    SIGNAL_ASSET,
    SNAPSHOT_ASSET,
    SPLIT_ASSET,
    WALK_ASSET,
    SourceLeak,
    before_write,
)

LEAKS = (
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
                "            if ((labeled['outcome_class'] == 4).to_numpy(dtype=bool, na_value=False) & in_test).sum() > 25:\n                return quarter\n            fallback.append((splittable, quarter))\n            continue\n",
            ),
            ("splits/as_of.py", "    return max(fallback)[1]", "    return min(fallback)[1]"),
        ),
    ),
)
