"""Where bars come from and which rows are used: source, simulation, cleaning, patterns, labels, split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from k4_pipeline.errors import ConfigError

SourceKind = Literal[
    "simulated", "folder", "table", "stooq", "yfinance", "tiingo", "polygon", "alpaca", "binance", "plugin"
]  # fmt: skip
FILE_SOURCES = ("folder", "table", "stooq")  # they need a path


@dataclass(frozen=True)
class SourceConfig:
    """Where the bars (and, if wanted, the snapshots) come from."""

    source: SourceKind = "simulated"  # kind of source
    path: str = ""  # folder or file, also of a store (s3://bucket/prefix)
    tickers: tuple[str, ...] = ()  # yfinance universe, or a filter for the others
    start: str = ""  # ISO date, vendors only
    snapshots_path: str = ""  # "" = scan for patterns; else an external snapshot file
    missing_tickers: Literal["fail", "filter", "fetch"] = "fail"  # what becomes of snapshots whose ticker has no bars
    dialect: str = ""  # what the files leave open, as in "decimal=comma date_order=day" (market/dialect)
    prices: Literal["raw", "adjusted"] = "raw"  # which set is used where a file holds both
    max_rows: int = 50_000_000  # of one source; more is refused before it is read
    max_file_mb: int = 1_000  # of one file, unpacked


@dataclass(frozen=True)
class SimulationConfig:
    """The embedded simulated market. `market/sources/simulated.py` documents the process."""

    world: Literal["squeeze", "null"] = "squeeze"  # squeeze: something to learn; null: nothing
    n_tickers: int = 240  # simulated tickers
    n_bars: int = 2000  # bars of each
    end_date: str = "2024-12-31"  # last simulated session
    seed: int = 3  # chosen so that the newest test quarter of the default squeeze market holds K4s
    dirty: bool = True  # with faulty rows, as vendors send them


@dataclass(frozen=True)
class CleaningConfig:
    """Which daily bars are sane. Nothing is repaired; a row is kept as sent or rejected with a reason."""

    range_tolerance: float = 0.005  # open/close may leave [low, high] by this share (vendor rounding)
    jump_factor: float = 4.0  # close-to-close factor listed (not rejected) as suspicious
    stale_bars: int = 20  # identical closes in a row listed as stale
    min_bars: int = 20  # a ticker with fewer clean bars is dropped, with its rows in the rejects
    default_exchange: str = "XNYS"  # calendar of tickers without a suffix (ISO 10383)
    # A bar dated today may still grow. "reject" it; "after_close": keep it once its exchange has closed; "accept" it.
    todays_bar: Literal["reject", "after_close", "accept"] = "reject"
    after_close_minutes: int = 15  # "after_close" waits this long for the vendor's final print
    max_rejected_frac: float = 0.5  # more refused rows than this and the whole input is refused
    max_off_session_frac: float = 0.15  # a ticker with a larger share of its bars on days without a session is refused
    listing_gap_sessions: int = 10  # more silent sessions end a listing (as in the labels): a new history begins


@dataclass(frozen=True)
class PatternConfig:
    """The consolidation state machine of docs/patterns.md and the snapshot sampling."""

    bbw_percentile_max: float = 0.30  # largest percentile of the Bollinger band width
    adx_max: float = 32.0  # largest ADX
    volume_ratio_max: float = 0.80  # largest volume against its mean
    range_ratio_max: float = 1.00  # largest range against its mean
    min_other: int = 2  # how many of the other criteria must hold
    qualifying_bars: int = 10  # bars in a row before a pattern is active
    power_factor: float = 1.005  # power line over the upper boundary
    max_active_bars: int = 90  # a pattern ends after so many bars
    min_history_bars: int = 500  # bars before a pattern may begin
    sample_probability: float = 0.35  # share of the days of a pattern that become snapshots
    sample_probability_late: float = 0.50  # the same for later days
    late_after_bars: int = 15  # from this day of the pattern on
    prior_range_bars: int = 20  # bars before the start bar that set w0 of channel_narrowing_pct
    sampling_seed: int = 0  # seed of the sampling

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> PatternConfig:
        """`standard` (default) or `strict` (the original, very selective rule)."""
        ratios = {"standard": (0.80, 1.00), "strict": (0.35, 0.65)}
        if name not in ratios:
            raise ConfigError(f"pattern preset {name!r} is unknown; use one of {', '.join(sorted(ratios))}")
        volume, rng = ratios[name]
        return cls(**{"volume_ratio_max": volume, "range_ratio_max": rng, **overrides})


@dataclass(frozen=True)
class LabelConfig:
    """The race over the bars after a snapshot."""

    horizon_bars: int = 100  # bars the race lasts at most
    labeling: Literal["race", "first_breach"] = "race"  # rule that names the class
    measured_on: Literal["high_low", "close"] = "high_low"  # prices the race looks at
    gain_thresholds: tuple[float, float, float, float] = (0.05, 0.15, 0.35, 0.75)  # K1, K2, K3, K4
    stop_loss: float = 0.10  # share below the lower boundary at which a pattern has failed
    delisted_after_sessions: int = 10  # a ticker silent for more sessions than this has ended

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> LabelConfig:
        """`race_100` (default) or `rare_30` (30 bars, measured on closes: K4 near its original rarity)."""
        presets: dict[str, dict[str, Any]] = {
            "race_100": {},
            "rare_30": {"horizon_bars": 30, "measured_on": "close"},
        }
        if name not in presets:
            raise ConfigError(f"label preset {name!r} is unknown; use one of {', '.join(sorted(presets))}")
        return cls(**{**presets[name], **overrides})


@dataclass(frozen=True)
class SplitConfig:
    """Membership by dates alone; spans in calendar months and days."""

    test_months: int = 3  # months after as-of that are tested on
    validation_months: int = 18  # months before as-of
    embargo_days: int = 7  # days between the end of a train label and validation
    train_years: int = 0  # 0: all history before validation
    min_train_rows: int = 50  # fewer train rows are an error
    min_validation_rows: int = 10  # fewer validation rows are an error
    weight_by_uniqueness: bool = False  # weight rows by how little their label windows overlap
