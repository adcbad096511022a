"""Device functions of the Triton scan: exponentials and their kin, one hardware instruction where there is one.

`HARDWARE` is false in Triton's interpreter, which knows no inline assembly. The instructions flush denormal numbers
(below 1e-38) to zero; without that each exponential would cost three instructions more.
"""

from __future__ import annotations

import triton
import triton.language as tl

_LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def exp2(x, HARDWARE: tl.constexpr):
    """2**x, relative error about 2**-22."""
    if HARDWARE:
        return tl.inline_asm_elementwise(
            "ex2.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
        )
    return tl.exp2(x)


@triton.jit
def reciprocal(x, HARDWARE: tl.constexpr):
    """1 / x for x in the normal range, relative error about 2**-23."""
    if HARDWARE:
        return tl.inline_asm_elementwise(
            "rcp.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
        )
    return 1.0 / x


@triton.jit
def sigmoid(x, HARDWARE: tl.constexpr):
    """1 / (1 + exp(-x)); exp overflows to inf and the result to 0 for large negative x, as it should."""
    return reciprocal(1.0 + exp2(-x * _LOG2_E, HARDWARE), HARDWARE)


@triton.jit
def softplus(x, HARDWARE: tl.constexpr):
    """log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|)), log1p(w) = 2 atanh(w / (2 + w)) as a polynomial.

    Keeps its relative accuracy for large negative x, where 1 + exp(x) would lose it: small steps are what dt holds.
    """
    w = exp2(-tl.abs(x) * _LOG2_E, HARDWARE)
    s = w * reciprocal(2.0 + w, HARDWARE)
    q = s * s
    p = 0.14000902 + 0.14005997 * q
    p = 0.20010764 + p * q
    p = 0.33333208 + p * q
    return tl.where(x > 0.0, x, 0.0) + 2.0 * s * (1.0 + p * q)


@triton.jit
def sum_channels(x, COLUMNS: tl.constexpr, PRECISION: tl.constexpr, HARDWARE: tl.constexpr):
    """Sums of x (d_state, channels) over the channels, in every column of (d_state, COLUMNS), on the tensor cores.

    "bf16" rounds the terms to bf16 (they are added in float32), as volatile assembly on purpose: the compiler would
    otherwise compute everything that x depends on a second time in the register layout of the matrix instruction.
    """
    if PRECISION == "bf16" and HARDWARE:
        rounded = tl.inline_asm_elementwise(
            "cvt.rn.bf16x2.f32 $0, $2, $1;", "=r,f,f", [x], dtype=tl.bfloat16, is_pure=False, pack=2
        )
        return tl.dot(rounded, tl.full((x.shape[1], COLUMNS), 1.0, tl.bfloat16))
    elif PRECISION == "bf16":  # the interpreter's product does not know bf16
        x = x.to(tl.bfloat16).to(tl.float32)
        return tl.dot(x, tl.full((x.shape[1], COLUMNS), 1.0, tl.float32))
    else:
        return tl.dot(x, tl.full((x.shape[1], COLUMNS), 1.0, tl.float32), input_precision=PRECISION)


@triton.jit
def widen(x, HARDWARE: tl.constexpr):
    """bf16 to float32, two values with two instructions."""
    if HARDWARE and x.dtype == tl.bfloat16 and x.shape[0] > 1:
        return tl.inline_asm_elementwise(
            "shl.b32 $0, $2, 16; and.b32 $1, $2, 0xffff0000;", "=r,=r,r", [x], dtype=tl.float32, is_pure=True, pack=2
        )
    return x.to(tl.float32)


@triton.jit
def load_states(pointer, n, t, length, FULL: tl.constexpr):
    """B or C of bar t; 0 past the end. `FULL`: no bar lies past the end, so nothing is checked."""
    if FULL:
        return tl.load(pointer + n)
    return tl.load(pointer + n, mask=t + n * 0 < length, other=0.0)


@triton.jit
def load_channels(pointer, d, here, CHECKED: tl.constexpr):
    """One bar's channels; 0 outside when `CHECKED`."""
    if CHECKED:
        return tl.load(pointer + d, mask=here, other=0.0)
    return tl.load(pointer + d)
