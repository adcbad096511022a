"""log and exp as plain arithmetic, so that loops around them become vector instructions with one fixed result.

The C library's functions are scalar and differ by platform in the last bit; a vectorised one may differ between the
body of a loop and its remainder, which would make a value depend on how many bars follow. Both here are within 2 ulp.
Method: argument reduction and polynomials of fdlibm (e_log.c); for exp a Taylor polynomial of degree 13 on |r| < 0.35.
"""

from __future__ import annotations

import math

import numpy as np

from k4_pipeline._numba import njit

_LN2_HI = 6.93147180369123816490e-01
_LN2_LO = 1.90821492927058770002e-10
_L1, _L2, _L3 = 6.666666666666735130e-01, 3.999999999940941908e-01, 2.857142874366239149e-01
_L4, _L5, _L6 = 2.222219843214978396e-01, 1.818357216161805012e-01, 1.531383769920937332e-01
_L7 = 1.479819860511658591e-01
_MANTISSA = np.int64(0x000FFFFFFFFFFFFF)
_ONE = np.int64(0x3FF0000000000000)
_SMALLEST_NORMAL = 2.2250738585072014e-308
_BIAS = 1023


@njit
def log(x: float) -> float:
    """Natural logarithm of a normal x > 0; NaN for anything else."""
    bits = np.float64(x).view(np.int64)
    exponent = float((bits >> 52) - _BIAS)
    m = np.int64((bits & _MANTISSA) | _ONE).view(np.float64)
    high = m > math.sqrt(2.0)
    m = 0.5 * m if high else m
    exponent = exponent + 1.0 if high else exponent
    f = m - 1.0
    s = f / (2.0 + f)
    z = s * s
    r = z * (_L1 + z * (_L2 + z * (_L3 + z * (_L4 + z * (_L5 + z * (_L6 + z * _L7))))))
    half = 0.5 * f * f
    value = exponent * _LN2_HI - ((half - (s * (half + r) + exponent * _LN2_LO)) - f)
    return value if x >= _SMALLEST_NORMAL and x - x == 0.0 else math.nan


@njit
def exp(x: float) -> float:
    """Exponential of |x| < 700; NaN for anything else."""
    inside = abs(x) < 700.0
    bounded = x if inside else 0.0
    k = np.rint(bounded * 1.4426950408889634)
    r = (bounded - k * _LN2_HI) - k * _LN2_LO
    tail = 1.0 / 6227020800.0
    tail = 1.0 / 479001600.0 + r * tail
    tail = 1.0 / 39916800.0 + r * tail
    tail = 1.0 / 3628800.0 + r * tail
    tail = 1.0 / 362880.0 + r * tail
    tail = 1.0 / 40320.0 + r * tail
    tail = 1.0 / 5040.0 + r * tail
    tail = 1.0 / 720.0 + r * tail
    tail = 1.0 / 120.0 + r * tail
    tail = 1.0 / 24.0 + r * tail
    tail = 1.0 / 6.0 + r * tail
    tail = 0.5 + r * tail
    scale = np.int64((np.int64(k) + _BIAS) << 52).view(np.float64)
    value = scale * (1.0 + (r + r * r * tail))
    return value if inside else math.nan
