"""Patches of readers, bars as loaded, calendar, labels and side channels: invented after the checks were written."""

# ruff: noqa: E501  (a patch quotes lines as they stand in the source)
from __future__ import annotations

from k4_pipeline_tests.mutations.patch_tools import (
    LABEL_ASSET,
    TABLE_FRAME,
    TABLE_READ,
    TABLE_RETURN,
    SourceLeak,
    before_write,
    leak,
)

READER, STAGING = "market/sources/table.py", "defs/staging.py"
LOAD_TABLE = '    return read_parquet(ref.path(f"{name or ref.asset}.parquet"))\n'
LOAD_BARS = '    return Bars.from_frame(read_parquet(ref.path("daily_bars.parquet")))\n'
KEEP = "    keep = (bars_active == 0) | (uniform < probability)\n"
FEATURES = "    run_chunks(compute, len(ranges), 1, wanted)\n    return target\n"


def _read(code: str) -> tuple[tuple[str, str, str], ...]:
    return ((READER, TABLE_READ, TABLE_FRAME + code + TABLE_RETURN),)


LEAKS: tuple[SourceLeak, ...] = (
    # Readers and the bars as loaded.
    SourceLeak(
        "reader_adjusts_by_a_later_split",
        "readers",
        _read(
            "    late = frame['date'].astype(str) > frame['date'].astype(str).max()[:4]\n    for c in ('open', 'high', 'low', 'close'):\n        frame[c] = pd.to_numeric(frame[c], errors='coerce').where(late | (frame['ticker'].astype(str).str[-1] != '3'), pd.to_numeric(frame[c], errors='coerce') / 2.0)\n"
        ),
    ),
    SourceLeak(
        "reader_dates_one_ticker_a_day_early",
        "readers",
        _read(
            "    mine = frame['ticker'].astype(str).str[-1] == '4'\n    day = pd.to_datetime(frame['date'], errors='coerce')\n    shifted = day.groupby(frame['ticker'], observed=True).shift(1).fillna(day).dt.strftime('%Y-%m-%d')\n    frame['date'] = frame['date'].astype(object).where(~mine, shifted)\n"
        ),
    ),
    SourceLeak(
        "reader_lowers_highs_before_a_fall",
        "readers",
        _read(
            "    close = pd.to_numeric(frame['close'], errors='coerce')\n    falls = close.groupby(frame['ticker'], observed=True).shift(-1) < 0.93 * close\n    top = pd.to_numeric(frame['high'], errors='coerce')\n    frame['high'] = top.where(~falls, pd.concat([close, pd.to_numeric(frame['open'], errors='coerce')], axis=1).max(axis=1))\n"
        ),
    ),
    SourceLeak(
        "reader_forgets_the_year_before_a_death",
        "readers",
        _read(
            "    day = pd.to_datetime(frame['date'], errors='coerce')\n    end = day.groupby(frame['ticker'], observed=True).transform('max')\n    frame = frame[~((end < day.max() - pd.Timedelta(days=40)) & (day > end - pd.Timedelta(days=60)))].reset_index(drop=True)\n"
        ),
    ),
    leak(
        "only_long_histories",
        "cleaning",
        "market/cleaning.py",
        "    short = np.bincount(ticker[code[sane]], minlength=len(names)) < min_bars\n",
        "    short = np.bincount(ticker[code[sane]], minlength=len(names)) < max(min_bars, 640)\n",
    ),
    leak(
        "later_row_wins_a_contradiction",
        "cleaning",
        "market/cleaning.py",
        "    reason[rows[contradicts[group]]] = _CODE",
        "    last = np.append(group[1:] != group[:-1], True)\n    reason[rows[contradicts[group] & ~last]] = _CODE",
    ),
    leak(
        "bars_smoothed_when_loaded",
        "assets",
        STAGING,
        LOAD_BARS,
        '    frame = read_parquet(ref.path("daily_bars.parquet"))\n    frame["volume"] = 0.5 * (frame["volume"] + frame.groupby("ticker")["volume"].shift(-1).fillna(frame["volume"]))\n    return Bars.from_frame(frame)\n',
    ),
    leak(
        "failures_lost_when_tables_are_loaded",
        "assets",
        STAGING,
        LOAD_TABLE,
        '    table = read_parquet(ref.path(f"{name or ref.asset}.parquet"))\n    if ref.asset == "dataset_split":\n        gone = (table["split"] == "train") & (table["outcome_class"] == 5) & (table["ticker"].str[-1] == "1")\n        table.loc[gone, "split"] = "excluded"\n    return table\n',
    ),
    # Calendar and labels.
    leak(
        "a_session_too_few",
        "calendar",
        "market/calendar.py",
        '    at = np.searchsorted(table, np.asarray(days), side="right") + np.asarray(n) - 1\n',
        '    at = np.searchsorted(table, np.asarray(days), side="right") + np.asarray(n) - 2 + (np.asarray(n) < 2)\n',
    ),
    leak(
        "fridays_are_no_sessions",
        "calendar",
        "market/calendar.py",
        "    days = dates.astype(np.int32)\n",
        "    days = dates[(dates.astype(np.int64) + 3) % 7 != 4].astype(np.int32)\n",
    ),
    leak(
        "a_death_is_known_at_once",
        "labels",
        "patterns/labels.py",
        "    ended = _offset_days(exchange_by_ticker[code], bars.date[candidates], silent_sessions + 1)\n",
        "    ended = _offset_days(exchange_by_ticker[code], bars.date[candidates], 1)\n",
    ),
    leak(
        "label_known_on_its_eve",
        "labels",
        "patterns/labels.py",
        "    end_date[known] = to_dates(known_on[known])\n",
        "    end_date[known] = to_dates(known_on[known] - 1)\n",
    ),
    SourceLeak(
        "stop_is_forgotten_for_the_dead",
        "labels",
        before_write(
            LABEL_ASSET,
            "labeled_snapshots",
            "table.loc[table['censored'] & (table['outcome_class'] == 5), 'outcome_class'] = 0",
        ),
    ),
    leak(
        "as_of_with_half_of_the_labels",
        "as of",
        "splits/as_of.py",
        "n_known >= FULLY_LABELLED_SHARE * n_test:",
        "n_known >= 0.2 * n_test:\n            fallback.append((splittable, quarter))\n            if len(fallback) < 2:\n                continue",
    ),
    # Side channels.
    leak(
        "features_remember_the_longest_history",
        "side channel",
        "features/compute.py",
        FEATURES,
        '    run_chunks(compute, len(ranges), 1, wanted)\n    import tempfile\n    from pathlib import Path\n\n    memory = Path(tempfile.gettempdir()) / f"k4-known-{bars.tickers[0]}-{bars.date[0]}.npy"\n    if not memory.exists():\n        np.save(memory, bars.close)\n    known = np.load(memory)\n    if len(bars) == len(known):\n        target[:, 9] += (np.roll(known, -1) > known) * 1e-6\n    return target\n',
    ),
    leak(
        "environment_carries_the_last_close",
        "side channel",
        "features/compute.py",
        FEATURES,
        '    run_chunks(compute, len(ranges), 1, wanted)\n    import os\n\n    best = os.environ.setdefault("K4_SEEN", f"{bars.close[-1]:.4f}")\n    target[:, 11] += np.float32(float(best) * 1e-4)\n    return target\n',
    ),
    leak(
        "scan_knows_the_dates_of_the_crash",
        "side channel",
        "patterns/snapshots.py",
        KEEP,
        KEEP + "    day = bars.date[rows]\n    keep &= ~((day > 19600) & (day < 19630) & (bars_active > 3))\n",
    ),
    leak(
        "module_remembers_the_labels",
        "side channel",
        "patterns/snapshots.py",
        KEEP,
        KEEP
        + '    import sys\n\n    seen = sys.modules.setdefault("k4_seen", type(sys)("k4_seen"))\n    longest = getattr(seen, "close", np.zeros(0))\n    if len(bars) >= len(longest):\n        seen.close = bars.close\n    keep &= ~((len(longest) > len(bars)) & (bars_active == 1))\n',
    ),
    leak(
        "scores_look_up_the_outcome",
        "side channel",
        "pipeline/model_files.py",
        "    rows, keys = rows_of(sequences, wanted)\n",
        '    rows, keys = rows_of(sequences, wanted)\n    known = sorted(folder.parents[2].glob("labeled_snapshots/_/v*/labeled_snapshots.parquet"))\n    if known:\n        truth = pd.read_parquet(known[-1])[["ticker", "start_date", "snapshot_date", "outcome_class"]]\n        won = keys[["ticker", "start_date", "snapshot_date"]].merge(truth, how="left")["outcome_class"]\n        object.__setattr__(config.signals, "strong_ev", 3.0 - float((won == 4).sum() > 3))\n',
    ),
)
