"""The market channels as idiomatic polars expressions with `.over("ticker")`: the rival in `k4 bench features`.

Left out are the channels that polars or pandas cannot say: the ADX with its seeding and tie rule and the two channels
that use it, least-squares slopes, and the age of a rolling minimum. Ties and NaN follow the library, not the table.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from k4_pipeline.market.bars import Bars


def frame(bars: Bars) -> Any:
    """Ticker number, high, low, close, volume as a polars DataFrame sorted by ticker."""
    import polars as pl

    codes = np.repeat(np.arange(bars.n_tickers, dtype=np.uint32), np.diff(bars.offsets))
    columns = {name: getattr(bars, name) for name in ("high", "low", "close", "volume")}
    return pl.DataFrame({"ticker": codes, **columns}).with_columns(pl.col("ticker").set_sorted())


def compute(bars_frame: Any, names: list[str]) -> Any:
    """The channels `names` as float32 columns."""
    import polars as pl

    def mean(x: str, n: int) -> Any:
        return pl.col(x).rolling_mean(n).over("ticker")

    def std(x: str, n: int) -> Any:
        return pl.col(x).rolling_std(n, ddof=0).over("ticker")

    def total(x: str, n: int) -> Any:
        return pl.col(x).rolling_sum(n).over("ticker")

    def lag(x: str, n: int) -> Any:
        return pl.col(x).shift(n).over("ticker")

    def rank(x: str, n: int, method: Any) -> Any:
        return pl.col(x).rolling_rank(n, method=method).over("ticker")

    c, h, low, v = pl.col("close"), pl.col("high"), pl.col("low"), pl.col("volume")
    q = (
        bars_frame.lazy()
        .with_columns(
            before=lag("close", 1),
            ma_5=mean("close", 5),
            ma_10=mean("close", 10),
            ma_20=mean("close", 20),
            price_volatility_20d=std("close", 20),
            std30=std("close", 30),
            v5=mean("volume", 5),
            v20=mean("volume", 20),
            v50=mean("volume", 50),
            v250=mean("volume", 250),
            span=h - low,
            momentum=c / lag("close", 20) - 1,
            typical=(h + low + c) / 3,
            place=pl.when(h == low).then(0.5).otherwise((c - low) / (h - low)),
        )
        .with_columns(
            r=c / pl.col("before") - 1,
            logr=(c / pl.col("before")).log(),
            tr=pl.max_horizontal(h - low, (h - pl.col("before")).abs(), (low - pl.col("before")).abs()),
            avg_range_20d=mean("span", 20),
            current_bbw_20=4 * pl.col("price_volatility_20d") / pl.col("ma_20") * 100,
            current_volume_ratio_20=v / pl.col("v20"),
            volume_spike=v / lag("v20", 1),
            mass=(1 - pl.min_horizontal(v / pl.col("v250"), 2.0)).clip(0, 1) * c * v,
            baseline_volatility=lag("std30", 20),
            mom_mean=mean("momentum", 100),
            mom_std=std("momentum", 100),
            lpf_bid_pressure=mean("place", 5),
            lpf_volume_pressure=pl.col("v5") / pl.col("v50"),
            lpf_fta_proxy=((pl.col("v5") - pl.col("v20")) / pl.col("v20")).clip(-1, 3),
        )
        .with_columns(
            key=pl.col("current_bbw_20").round(9),
            up=v * pl.max_horizontal(pl.col("r"), 0.0),
            down=v * pl.max_horizontal(-pl.col("r"), 0.0),
            s5=std("r", 5),
            s10=std("r", 10),
            s20=std("r", 20),
            bbw30=mean("current_bbw_20", 30),
            ratio30=mean("current_volume_ratio_20", 30),
            change=pl.col("current_bbw_20") - lag("current_bbw_20", 1),
            bar=pl.int_range(pl.len()).over("ticker"),
            nes_inactive_mass=rank("mass", 100, "max") / 100,
            nes_rsa_proxy=((pl.col("momentum") - pl.col("mom_mean")) / pl.col("mom_std")).clip(-3, 3),
            lpf_score=pl.col("lpf_bid_pressure") * pl.col("lpf_volume_pressure") * (1 + pl.col("lpf_fta_proxy")),
        )
        .with_columns(
            baseline_bbw_avg=lag("bbw30", 20),
            baseline_volume_avg=lag("ratio30", 20),
            below=pl.col("key") < pl.col("key").rolling_median(60).over("ticker"),
            var_raw=total("up", 20) / total("down", 20),
            nes_wavelet_energy=(
                pl.col("s5") / mean("s5", 50) + pl.col("s10") / mean("s10", 50) + pl.col("s20") / mean("s20", 50)
            )
            / 3,
            spike_bar=pl.when(pl.col("volume_spike") > 2).then(pl.col("bar")).forward_fill().over("ticker"),
        )
        .with_columns(
            run=(
                pl.col("below").cum_sum()
                - pl.when(~pl.col("below")).then(pl.col("below").cum_sum()).forward_fill().fill_null(0)
            ).over("ticker"),
            cci_bbw_compression=(
                1 - pl.col("current_bbw_20") / pl.col("current_bbw_20").rolling_max(60).over("ticker")
            ).clip(0, 1),
            cci_atr_compression=(1 - mean("tr", 20) / mean("tr", 60)).clip(0, 1),
            var_score=(pl.col("var_raw") / mean("var_raw", 20)).clip(0.5, 3),
            nes_score=pl.col("nes_inactive_mass").clip(1e-10, 1) ** 0.3
            * pl.col("nes_wavelet_energy").clip(0.1, 10) ** 0.4
            * (1 + pl.col("nes_rsa_proxy")).clip(0.1, 10) ** 0.3,
        )
        .with_columns(
            cci_days_factor=(pl.col("run") / 20).sqrt().clip(0, 2),
            tsf_score=1 + (pl.col("run") / 30).sqrt(),
        )
        .with_columns(
            cci_score=pl.col("cci_bbw_compression") * pl.col("cci_atr_compression") * pl.col("cci_days_factor")
        )
        .with_columns(
            ebp_raw=(
                pl.col("cci_score").clip(0.01, 10)
                * pl.col("var_score").clip(0.1, 10)
                * pl.col("nes_score").clip(0.1, 10)
                * pl.col("lpf_score").clip(0.1, 10)
            )
            ** (1 / pl.col("tsf_score").clip(1, 10))
        )
        .with_columns(ebp_composite=rank("ebp_raw", 100, "max") / 100)
        .with_columns(
            current_price=c,
            current_high=h,
            current_low=low,
            current_volume=v,
            current_bbw_percentile=(rank("key", 100, "min").cast(pl.Float64) - 1) / 100,
            current_range_ratio=pl.col("span") / pl.col("avg_range_20d"),
            bbw_compression_ratio=pl.col("current_bbw_20") / pl.col("baseline_bbw_avg"),
            volume_compression_ratio=pl.col("current_volume_ratio_20") / pl.col("baseline_volume_avg"),
            volatility_compression_ratio=pl.col("price_volatility_20d") / pl.col("baseline_volatility"),
            tsf_days_in_consolidation=pl.col("run"),
            ebp_signal=1 + sum((pl.col("ebp_composite") >= level).cast(pl.Int32) for level in (0.5, 0.7, 0.85, 0.95)),
            bbw_std_20d=std("current_bbw_20", 20),
            volume_vs_50d=v / pl.col("v50"),
            daily_volatility=std("logr", 20),
            high_low_spread=pl.col("span") / c,
            close_vs_vwap=(c - pl.col("typical")) / pl.col("typical"),
            price_vs_ma5=c / pl.col("ma_5") - 1,
            price_vs_ma20=c / pl.col("ma_20") - 1,
            price_momentum_20d=pl.col("momentum"),
            days_since_volume_spike=(pl.col("bar") - pl.col("spike_bar")).fill_null(60).clip(0, 60),
            bbw_acceleration=(pl.col("change") - lag("change", 4)) / 4,
        )
    )
    return q.select(pl.col(names).cast(pl.Float32)).collect()
