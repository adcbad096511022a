"""Constants of the format and of the classes: names, counts, values."""

from __future__ import annotations

SEQUENCE_BARS = 50
# Channels as declared in features/spec.py, which refuses to load when it declares another number.
N_MARKET_FEATURES = 55
N_PATTERN_FEATURES = 14
N_FEATURES = N_MARKET_FEATURES + N_PATTERN_FEATURES
N_CLASSES = 6
K2, K3, K4, K5 = 2, 3, 4, 5
CLASS_NAMES = ("K0_STAGNANT", "K1_MINIMAL", "K2_QUALITY", "K3_STRONG", "K4_EXCEPTIONAL", "K5_FAILED")
CLASS_VALUES = (-2.0, -0.2, 1.0, 3.0, 10.0, -10.0)
CLASS_WEIGHTS = (1.0, 1.0, 2.0, 10.0, 500.0, 5.0)

SIGNAL_NAMES = ("STRONG", "GOOD", "MODERATE", "AVOID")
BUYS = SIGNAL_NAMES[:-1]  # signals and tiers that say: buy

SPLIT_NAMES = ("train", "validation", "test")
KEYS = ["ticker", "start_date", "snapshot_date"]  # of a snapshot, in every table that has one row per snapshot
EXCLUDED = "excluded"
EXCLUSION_REASONS = (
    "label_not_known_before_validation",
    "embargo",
    "before_train_span",
    "label_not_known_at_as_of",
    "pattern_in_earlier_split",
    "after_test",
)
MIN_VALID_HISTORY_BARS = 20  # a bar of a sequence is valid from its ticker's 20th bar on
MEAN_VOLUME_BARS = 250  # look-back of m, the volume unit of the model inputs
