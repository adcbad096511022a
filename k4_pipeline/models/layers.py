"""Dense layers and dropout by backend: torch's own for `naive`, the faster ones with the same meaning otherwise.

A model of backend `naive` is plain PyTorch from end to end, which makes it the reference for all the others.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from k4_pipeline.kernels.dropout import Dropout
from k4_pipeline.kernels.linear import Linear, linear


def linear_function(backend: str) -> Callable[..., Tensor]:
    """`torch.nn.functional.linear` or the faster one."""
    return F.linear if backend == "naive" else linear


def linear_layer(backend: str, inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
    """A dense layer; parameters and initialisation are those of `torch.nn.Linear` in either case."""
    return (nn.Linear if backend == "naive" else Linear)(inputs, outputs, bias=bias)


def dropout_layer(backend: str, rate: float) -> nn.Dropout:
    """`torch.nn.Dropout`, or the one with the same rate and other random numbers."""
    return (nn.Dropout if backend == "naive" else Dropout)(rate)
