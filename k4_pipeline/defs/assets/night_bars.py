"""`night_bars`: what the sessions after the last full run added to `daily_bars`."""

import datetime as dt

import dagster as dg

from k4_pipeline.config import to_dict
from k4_pipeline.defs.assets.common import k4_asset
from k4_pipeline.defs.metadata import counts_table, version_metadata
from k4_pipeline.defs.resources import K4Resource
from k4_pipeline.defs.staging import load_json, produce


@k4_asset(
    deps=("daily_bars",),
    kinds={"pandas", "parquet"},
    automatic=False,
    description="The bars after the last day of daily_bars, and the whole histories of tickers whose past was "
    "restated since or that are new. A full run takes them into daily_bars and starts again with nothing.",
)
def night_bars(context: dg.AssetExecutionContext, k4: K4Resource) -> dg.MaterializeResult:
    """Read and clean what is new in the source."""
    from k4_pipeline.market.newer import FullRunNeededError, newer_bars, overlap_start
    from k4_pipeline.market.sources.part import read_part
    from k4_pipeline.pipeline.stored_bars import ADDED, READ_AGAIN, bars_of, frame_of

    sections = ("source", "simulation", "cleaning")
    with produce(context, k4, "night_bars", inputs=("daily_bars",), sections=sections) as work:
        config, before = work.config, load_json(work.inputs["daily_bars"], "config.json")
        changed = [name for name in sections if to_dict(config)[name] != before[name]]
        if changed:
            raise FullRunNeededError(
                f"the settings of {', '.join(changed)} are not those of daily_bars; a full run is due: "
                "k4 nightly --full"
            )
        base, now = bars_of(work.inputs["daily_bars"], None), dt.datetime.now(dt.UTC)
        exchange = config.cleaning.default_exchange

        def part(**which):  # type: ignore[no-untyped-def]
            return read_part(
                config.source, config.simulation, raw_dir=work.settings.raw_dir, default_exchange=exchange, **which
            )

        recent = part(since=overlap_start(base, config.cleaning))
        found = newer_bars(base, recent, lambda names: part(tickers=names), config.cleaning, today=now.date(), now=now)
        work.write_table(ADDED, frame_of(found.added))
        work.write_table(READ_AGAIN, frame_of(found.again))
        days = sorted(set(found.added.date.tolist()))
        last = [base.last_day, *days, *found.again.date.tolist()]
        work.meta = {
            "rows": found.n_new,
            "newest_rows": int((found.added.date == max(days)).sum()) if days else 0,
            "tickers": found.added.n_tickers,
            "sessions": len(days),
            "why_again": found.why_again,
            "last_date": str(dt.date(1970, 1, 1) + dt.timedelta(days=int(max(last)))),
            "ingested_at": now.isoformat(),
        }
    reasons: dict[str, int] = {}
    for why in found.why_again.values():
        reasons[why] = reasons.get(why, 0) + 1
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": found.n_new,
            "tickers": found.added.n_tickers,
            "sessions": len(days),
            "last_date": work.meta["last_date"],
            "read_again": dg.MetadataValue.md(counts_table("why", reasons)),
            **version_metadata(work.ref),
        }
    )
