"""Labels of snapshots made elsewhere: the class from the file where it gives one, its date always from the bars."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from k4_pipeline.config import N_CLASSES, LabelConfig
from k4_pipeline.errors import BadInputError
from k4_pipeline.market.bars import Bars, DayLike
from k4_pipeline.patterns.external import ExternalSnapshots
from k4_pipeline.patterns.labels import label_snapshots


@dataclass(frozen=True, eq=False)
class ExternalLabels:
    """An external table with its labels, and how far the file's classes agree with the bars.

    `labeled`: the labeled_snapshots table. `counts`: rows; given (class in the file); computed (class from the bars);
    given_but_not_known (the bars do not reach the end of the label window); agree and disagree (file against bars,
    where both speak). `confusion`: (6, 6) int64, class of the file by class from the bars.
    """

    labeled: pd.DataFrame
    counts: dict[str, int]
    confusion: np.ndarray

    @property
    def agreement(self) -> float:
        """Share of the compared rows with equal classes; NaN when none could be compared."""
        compared = self.counts["agree"] + self.counts["disagree"]
        return self.counts["agree"] / compared if compared else float("nan")


def label_external(
    bars: Bars,
    external: ExternalSnapshots,
    config: LabelConfig,
    *,
    default_exchange: str = "XNYS",
    data_end: DayLike | None = None,
) -> ExternalLabels:
    """Label an external table: classes from the file where given, otherwise computed.

    `label_end_date`, `censored` and `label_bars` always come from the bars (`label_snapshots`). A class whose label
    window the bars do not cover is not known, whatever the file says: without a date it could not be purged. Such rows
    stay in the table without a class and are counted.
    """
    labeled = label_snapshots(bars, external.snapshots, config, default_exchange=default_exchange, data_end=data_end)
    confusion = np.zeros((N_CLASSES, N_CLASSES), dtype=np.int64)
    computed = labeled["outcome_class"]
    if external.outcomes is None:
        given = pd.Series(False, index=labeled.index)
    else:
        if len(external.outcomes) != len(labeled):
            raise BadInputError(
                f"{len(external.outcomes)} outcomes for {len(labeled)} external snapshots; they must be aligned"
            )
        given = external.outcomes.notna()
    known = computed.notna()
    both = (given & known).to_numpy()
    if external.outcomes is not None and both.any():
        from_file = external.outcomes.to_numpy(dtype="int64", na_value=0)
        np.add.at(confusion, (from_file[both], computed.to_numpy(dtype="int64", na_value=0)[both]), 1)
        labeled["outcome_class"] = computed.where(~both, external.outcomes)
    agree = int(np.trace(confusion))
    counts = {
        "rows": len(labeled),
        "given": int(given.sum()),
        "computed": int((known & ~given).sum()),
        "given_but_not_known": int((given & ~known).sum()),
        "agree": agree,
        "disagree": int(both.sum()) - agree,
    }
    return ExternalLabels(labeled, counts, confusion)
