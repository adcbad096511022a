"""The feature table of the documentation, made from the declarations; `docs/features.md` holds its output."""

from __future__ import annotations

import inspect

from k4_pipeline.features.reference import model_input, source_of
from k4_pipeline.features.spec import FEATURES, FeatureSpec
from k4_pipeline.markdown import markdown_table

_INTRODUCTION = """# The 69 features

Made from `k4_pipeline/features/spec.py` and `reference.py` by `k4 features --markdown > docs/features.md`; do not
edit by hand. `k4 features` prints the same table.

Notation: `C H L V` close, high, low, volume at bar t; windows end at t and include t; `std` with ddof 0; `rank_n(x)`
the share of the last n values that are <= x at t; `r` the one-bar return; `TR` the true range.

- **look-back**: bars needed, t included. With fewer the value is NaN.
- **warm-up**: bars after which a recursive channel agrees with an infinitely long history to 1e-6 relative; given where
  the channel is recursive. The ADX forgets by 13/14 a bar; measured on 3 million real bars from 9,000 starting points,
  400 bars gave 3e-8 at worst and 450 are declared. Run lengths are exact for runs of at most 200 bars; the longest run
  on those bars has 127.
- **scale**: what multiplying all prices by k and dividing all volumes by k does. `invariant` and `count`: nothing;
  `price_level` and `price_width`: times k; `volume`: divided by k. The model sees prices and volumes only in scale-free
  form.
- **clip**: bounds of the model input of an invariant channel.

What is not available is NaN, never filled: too few bars, a division by zero, a missing value anywhere inside the window
of a mean, deviation, slope, rank, maximum or minimum. A run length counts consecutive bars, and a bar on which its
condition cannot be evaluated ends the run. After a missing price the ADX stays NaN. No channel is ever infinite.

Ranks, medians, minima and comparisons see `bbw_20` rounded to 9 decimals; its other uses (means, slopes, the maximum of
#27) see it as it is. Feature 68 reads 25 bars and is declared, as in the canonical table, with 26.

"""

_REFERENCE = """
## The reference of each

`b` holds the bars of one ticker, (n_bars,) each, and other channels by name; `p` is a pattern, `t` bar numbers. `mean`,
`std`, `slope` and `rank` are over windows of n bars that end at t, NaN where the window is not complete
(`features/reference_tools.py`).

"""

_MODEL_INPUT = """
## The model input of each scale class

Before standardisation with the training rows' mean and deviation.

"""


def _row(spec: FeatureSpec) -> list[str]:
    lookback = "pattern" if spec.needs_pattern else str(spec.lookback_bars)
    warmup = str(spec.warmup_bars) if spec.recursive else ""
    clip = f"{spec.clip[0]:g} .. {spec.clip[1]:g}" if spec.clip else ""
    return [str(spec.index), spec.name, spec.group, spec.formula, lookback, warmup, spec.scale, clip]


def markdown() -> str:
    """The whole page."""
    header = ("#", "name", "group", "formula at t", "look-back", "warm-up", "scale", "clip")
    table = markdown_table(header, map(_row, FEATURES))
    sources = "\n\n\n".join(map(source_of, FEATURES))
    formula = inspect.getsource(model_input).strip()
    return f"{_INTRODUCTION}{table}\n{_REFERENCE}```python\n{sources}\n```\n{_MODEL_INPUT}```python\n{formula}\n```\n"
