"""The sizes behind `ModelConfig.preset`. Each total (69 features, 6 classes) is asserted within 10% of its name."""

from __future__ import annotations

from dataclasses import dataclass

from k4_pipeline.errors import ConfigError


@dataclass(frozen=True)
class Sizes:
    """Widths and depths of one preset; what is not listed here is the same in all of them."""

    d_model: int
    n_mamba_blocks: int
    head: tuple[int, ...]  # widths of the dense layers before the logits
    lstm_hidden: int  # BiLSTM fallback: units per direction, chosen for an equal parameter count
    target_parameters: int
    lstm_layers: int = 2
    d_state: int = 16
    d_conv: int = 4
    expand: int = 2
    n_attention_heads: int = 8


PRESETS: dict[str, Sizes] = {
    # Enough to show that fitting and predicting are honest, hundreds of times over; too little to learn from.
    "micro": Sizes(
        d_model=16, n_mamba_blocks=1, head=(32, 16), lstm_hidden=10, target_parameters=7_000, n_attention_heads=1
    ),
    "tiny": Sizes(d_model=32, n_mamba_blocks=2, head=(128, 64, 32), lstm_hidden=24, target_parameters=41_000),
    "compact": Sizes(
        d_model=64, n_mamba_blocks=2, head=(256, 128), lstm_hidden=40, target_parameters=137_000, n_attention_heads=4
    ),
    "small": Sizes(d_model=128, n_mamba_blocks=2, head=(512, 256, 128), lstm_hidden=80, target_parameters=500_000),
    "base": Sizes(d_model=256, n_mamba_blocks=3, head=(512, 256, 128), lstm_hidden=192, target_parameters=2_000_000),
    "large": Sizes(d_model=512, n_mamba_blocks=4, head=(512, 256, 128), lstm_hidden=432, target_parameters=8_000_000),
}


def sizes_of(preset: str) -> Sizes:
    """The `Sizes` of a preset; `ConfigError` for an unknown name."""
    if preset not in PRESETS:
        raise ConfigError(f"model preset {preset!r} is unknown; use one of {', '.join(PRESETS)}")
    return PRESETS[preset]
