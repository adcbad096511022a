"""The predictions table: keys, raw and calibrated probabilities, expected values, signal, certified tier."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from k4_pipeline.config import N_CLASSES, SignalConfig
from k4_pipeline.evaluation.calibration import Calibrator
from k4_pipeline.evaluation.expected_value import expected_value
from k4_pipeline.evaluation.signals import assign_signals
from k4_pipeline.evaluation.tiers import Certificate, assign_tiers

KEY_COLUMNS = ("ticker", "pattern_id", "start_date", "snapshot_date")
RAW_COLUMNS = tuple(f"p_raw_{i}" for i in range(N_CLASSES))
CERTIFIED_SCORE = "p_k4_certified"  # calibrated P(K4) of the fits that were certified: what the tier is read from
PROBABILITY_COLUMNS = tuple(f"p_{i}" for i in range(N_CLASSES))


def build_predictions(
    keys: pd.DataFrame, p_raw: np.ndarray, calibrator: Calibrator, signal_config: SignalConfig
) -> pd.DataFrame:
    """Rows as `keys` (which holds `KEY_COLUMNS` and `split`), one per row of `p_raw` (n, 6).

    EV and signal come from the calibrated probabilities; `ev_raw` is kept beside them because a 500x class weight
    makes raw probabilities far too high, and the difference shows by how much.
    """
    if len(keys) != len(p_raw):
        raise ValueError(f"{len(keys)} keys but {len(p_raw)} rows of probabilities")
    p_raw = np.asarray(p_raw, dtype=np.float64)
    p = calibrator.transform(p_raw)
    ev = expected_value(p)
    table = keys[[*KEY_COLUMNS, "split"]].reset_index(drop=True)
    table[list(RAW_COLUMNS)] = p_raw
    table[list(PROBABILITY_COLUMNS)] = p
    table["ev_raw"] = expected_value(p_raw)
    table["ev"] = ev
    table["signal"] = pd.Series(assign_signals(p, ev, signal_config), dtype="str")
    return table


def with_tiers(table: pd.DataFrame, p_certified: np.ndarray, certificates: Sequence[Certificate]) -> pd.DataFrame:
    """The table with `p_k4_certified` (n,) and the best certified `tier` that it reaches, AVOID where it reaches none.

    The tier stands beside the signal, which follows expected value: a tier is a promise that was proved, a signal is
    a rule.
    """
    p_certified = np.asarray(p_certified, np.float64)
    tier = pd.Series(assign_tiers(p_certified, certificates), index=table.index, dtype="str")
    return table.assign(**{CERTIFIED_SCORE: p_certified, "tier": tier})
