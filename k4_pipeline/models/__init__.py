"""The classifiers: MambaAttention and its BiLSTM fallback, behind `build_model`."""

from k4_pipeline.models.build import build_model, check_mask, count_parameters
from k4_pipeline.models.presets import PRESETS, Sizes, sizes_of

__all__ = ["PRESETS", "Sizes", "build_model", "check_mask", "count_parameters", "sizes_of"]
