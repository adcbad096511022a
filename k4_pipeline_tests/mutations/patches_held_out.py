"""Leaks of the kinds of the others, written when the checks stood: what they are found at says more than the rest."""

# ruff: noqa: E501  (a patch quotes lines as they stand in the source)
from __future__ import annotations

from k4_pipeline_tests.mutations.patch_tools import (
    BARS_ASSET,
    LISTED,
    MODEL_ASSET,
    SIGNAL_ASSET,
    TABLE_FRAME,
    TABLE_READ,
    TABLE_RETURN,
    TRAIN_ROWS,
    WALK_ASSET,
    SourceLeak,
    before_write,
    leak,
    rewritten,
)

CHAMPION = '        champion = Record.read(work.inputs["champion_model"])\n'
TRAINED = '        if work.config.training.where != "here" or work.config.training.processes > 1:\n'
KEEP = "    keep = (bars_active == 0) | (uniform < probability)\n"

LEAKS: tuple[SourceLeak, ...] = (
    SourceLeak(
        "least_price_by_what_is_open", "held out", rewritten(SIGNAL_ASSET, CHAMPION, "serving", "min_price=90.0")
    ),
    SourceLeak(
        "learning_rate_rewritten_on_the_way",
        "held out",
        rewritten(MODEL_ASSET, TRAINED, "training", "learning_rate=work.config.training.learning_rate * 1.5"),
    ),
    SourceLeak(
        "reader_closes_at_the_next_open_before_a_gap",
        "held out",
        (
            (
                "market/sources/table.py",
                TABLE_READ,
                TABLE_FRAME
                + "    opens = pd.to_numeric(frame['open'], errors='coerce').groupby(frame['ticker'], observed=True).shift(-1)\n    close, top = (pd.to_numeric(frame[c], errors='coerce') for c in ('close', 'high'))\n    frame['close'] = close.where(~(opens > 1.02 * close), np.minimum(opens, top))\n".replace(
                    "np.", "__import__('numpy')."
                )
                + TABLE_RETURN,
            ),
        ),
    ),
    SourceLeak(
        "volume_clipped_by_all_years",
        "held out",
        before_write(
            BARS_ASSET,
            "daily_bars",
            "table['volume'] = table['volume'].clip(upper=table.groupby('ticker')['volume'].transform(lambda v: v.quantile(0.99)))",
        ),
    ),
    leak(
        "windows_boxed_by_the_next_close",
        "held out",
        "pipeline/fit.py",
        "        SequenceIndex.from_frame(table, tables.index.close),\n",
        "        SequenceIndex.from_frame(table, np.roll(tables.index.close, -1)),\n",
    ),
    leak(
        "train_weights_by_the_close_sixty_bars_on",
        "held out",
        "pipeline/fit.py",
        TRAIN_ROWS,
        TRAIN_ROWS
        + "    ends = tables.index.rows[train_rows][:, 0]\n    later = tables.index.close[np.minimum(ends + 60, len(tables.index.close) - 1)] / tables.index.close[ends]\n    train_table = train_table.assign(weight=train_table['weight'] * np.where(later > 1.05, 2.0, 1.0))\n",
    ),
    leak(
        "list_page_prints_more_k4",
        "held out",
        "report/todays_list.py",
        '            number(row["p_k4"], "{:.1%}"),\n',
        '            number(1.5 * row["p_k4"], "{:.1%}"),\n',
        options=LISTED,
    ),
    leak(
        "champion_said_to_be_better",
        "held out",
        "defs/assets/champion_model.py",
        '            metrics = chain["validation_report"].meta["metrics"]\n',
        '            metrics = {k: 1.1 * v if isinstance(v, float) else v for k, v in chain["validation_report"].meta["metrics"].items()}\n',
    ),
    leak(
        "nothing_is_refused_tonight",
        "held out",
        "pipeline/night.py",
        'beside["refused"] = pd.Series(reference.refusals(rows), index=inputs.index, dtype="str")',
        'beside["refused"] = pd.Series([""] * len(rows), index=inputs.index, dtype="str")',
    ),
    SourceLeak(
        "drift_is_never_told",
        "held out",
        (
            (
                "defs/assets/drift.py",
                '        work.write_json("drift.json", json_safe(found))\n',
                '        found = {**found, "why": [], "too_few": "", "in_a_row": 0}\n        work.write_json("drift.json", json_safe(found))\n',
            ),
        ),
    ),
    leak(
        "ledger_dated_a_night_earlier",
        "held out",
        "evaluation/ledger.py",
        '    night = rows["snapshot_date"].max()\n',
        '    night = rows["snapshot_date"].max() - pd.Timedelta(days=1)\n',
    ),
    leak(
        "patterns_that_broke_down_lose_a_snapshot",
        "held out",
        "patterns/snapshots.py",
        KEEP,
        KEEP
        + "    ahead = np.minimum(rows + 5, bars.offsets[patterns.ticker_code[which] + 1] - 1)\n    keep &= ~((bars.close[ahead] < 0.94 * bars.close[rows]) & (bars_active == 2))\n",
    ),
    SourceLeak(
        "walk_forward_counts_more_rows",
        "held out",
        before_write(WALK_ASSET, "walk_forward_report", "table['rows'] = table['rows'] + 7"),
    ),
    leak(
        "sessions_of_the_dead_counted_from_their_end",
        "held out",
        "features/context.py",
        "    return date_columns(bars.date, out, threads=threads)",
        "    last = np.repeat(bars.date[bars.offsets[1:] - 1], np.diff(bars.offsets))\n    near = (last < bars.last_day) & (last - bars.date < 15)\n    out[near, 3] *= np.float32(0.999)\n    return date_columns(bars.date, out, threads=threads)",
        options=("--set", "recipe.context=true"),
    ),
    SourceLeak(
        "signals_with_a_stop_that_is_nearer",
        "held out",
        rewritten(SIGNAL_ASSET, CHAMPION, "labels", "stop_loss=0.03"),
    ),
)
