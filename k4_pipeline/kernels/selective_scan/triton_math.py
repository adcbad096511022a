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


# Per warp: 32 channels, 16 states in the registers of each thread. Four of a thread's values are the B operand of a
# matrix instruction: 16 rows (of 4 threads and 4 values) and 8 columns (groups of 4 threads). The A operand has rows
# that select one of the four values: rows 0 to 3 do, and rows 12 to 15 do the same once more. Of the first and third
# product the upper rows are used, of the second and fourth the lower ones, so that two sums of results are tiles of
# (8 states, 8 groups), and a last product adds the groups into the column of the bar.
_WARP_SUMS = tl.constexpr("""
{
.reg .b32 v<8>, t<4>;
.reg .f32 p<4>, q<4>, r<4>, s<4>, o;
mov.f32 o, 0f00000000;
cvt.rn.bf16x2.f32 v0, $17, $16;
cvt.rn.bf16x2.f32 v1, $19, $18;
cvt.rn.bf16x2.f32 v2, $21, $20;
cvt.rn.bf16x2.f32 v3, $23, $22;
cvt.rn.bf16x2.f32 v4, $25, $24;
cvt.rn.bf16x2.f32 v5, $27, $26;
cvt.rn.bf16x2.f32 v6, $29, $28;
cvt.rn.bf16x2.f32 v7, $31, $30;
mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {p0,p1,p2,p3}, {$48,$50,$49,$51}, {v0,v1}, {o,o,o,o};
mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {q0,q1,q2,q3}, {$48,$50,$49,$51}, {v2,v3}, {o,o,o,o};
mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {r0,r1,r2,r3}, {$48,$50,$49,$51}, {v4,v5}, {o,o,o,o};
mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {s0,s1,s2,s3}, {$48,$50,$49,$51}, {v6,v7}, {o,o,o,o};
add.f32 p0, p0, q2;
add.f32 p1, p1, q3;
add.f32 r0, r0, s2;
add.f32 r1, r1, s3;
mov.b32 t0, p0;
mov.b32 t1, r0;
mov.b32 t2, p1;
mov.b32 t3, r1;
mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {$0,$1,$2,$3}, {t0,t1,t2,t3}, {$64,$64}, {$32,$33,$34,$35};
}
""")
# the same with the second four registers as the accumulator
_UPPER_SUMS = tl.constexpr(
    _WARP_SUMS.value.replace("{$0,$1,$2,$3}", "{$4,$5,$6,$7}").replace("{$32,$33,$34,$35}", "{$36,$37,$38,$39}")
)
_WARP_SUMS_OPERANDS = tl.constexpr(",".join(["=f"] * 16 + ["f"] * 32 + ["r"] * 32))


@triton.jit
def warp_selectors(n, d):
    """The selecting rows of `add_warp_sums` as (16, channels) int32; the first four registers of a thread count."""
    group = ((d % 32) // 4)[None, :]
    return tl.where(group == 2 * n[:, None], 0x3F80, 0) | tl.where(group == 2 * n[:, None] + 1, 0x3F800000, 0)


@triton.jit
def add_warp_sums(totals, x, selectors, d, bar: tl.constexpr, UPPER: tl.constexpr):
    """Adds the sums over every 32 channels of x (16, channels) to column `bar` (up to 7) of a tile, on tensor cores.

    The terms are rounded to bf16 and added in float32 (the sums of four channels pass through tf32). A tile of 16
    states and 8 bars lies in four registers of the threads of a warp: register r < 4 of the thread of channel d holds
    state d % 32 // 4 + 8 * (r // 2) at bar 2 * (d % 4) + r % 2. `totals` (16, channels) is four registers for such a
    tile, four (`UPPER`) for another, and rows without meaning. Needs the layout in which a thread owns a channel;
    triton_check.py asks whether the compiler gave it. Volatile, so that nothing computes it again in another layout.
    """
    column = tl.where((d % 32) // 4 == bar, 0x3F800000, 0)[None, :] + tl.zeros(x.shape, tl.int32)
    if UPPER:
        return tl.inline_asm_elementwise(
            _UPPER_SUMS, _WARP_SUMS_OPERANDS, [x, totals, selectors, column], dtype=tl.float32, is_pure=False, pack=16
        )
    return tl.inline_asm_elementwise(
        _WARP_SUMS, _WARP_SUMS_OPERANDS, [x, totals, selectors, column], dtype=tl.float32, is_pure=False, pack=16
    )


@triton.jit
def fold_warps(lower, upper, n, WARPS: tl.constexpr):
    """The two tiles of `add_warp_sums`, each from its own tensor, added over the warps: (8, 32)."""
    both = tl.where(n[:, None] < 4, lower, upper)
    both = tl.permute(tl.reshape(both, (2, 8, WARPS * 32)), (1, 2, 0))
    tiles, _ = tl.split(both)
    if WARPS > 1:
        tiles = tl.sum(tl.reshape(tiles, (8, WARPS, 32)), axis=1)
    return tiles


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
