"""Kumaraswamy's distribution on (0, 1): like a Beta distribution, but easy to draw from.

Its distribution function is `1 - (1 - x^a)^b`. All functions are differentiable in `a` and `b`,
for which Keras has neither log-gamma nor digamma; both are here, from their recurrence and
asymptotic series (Abramowitz and Stegun 6.1.41, 6.3.18).
"""

from __future__ import annotations

import math
from typing import Any

from keras import ops

EULER = 0.5772156649015329
"""Euler's constant."""

_SHIFT = 6
"""The series begin at x + 6, where they are exact to float32."""

_NEAREST = 1e-6
"""Logits of probabilities closer to 1 than float32 can tell are those of this distance."""


def mean(a: Any, b: Any) -> Any:
    """The expectation `b B(1 + 1/a, b)`."""
    place = 1.0 + 1.0 / a
    return ops.exp(log_gamma(1.0 + b) + _log_gamma_ratio(place, b))


def logit_of_draw(a: Any, b: Any, u: Any) -> Any:
    """The logit of `(1 - u^(1/b))^(1/a)`, a draw if u is uniform on (0, 1).

    In logarithms, since draws lie as close to 0 and 1 as `a` and `b` are small.
    """
    log_draw = ops.log(-ops.expm1(ops.minimum(ops.log(u) / b, -1e-30))) / a
    log_draw = ops.minimum(log_draw, -_NEAREST)
    return log_draw - ops.log(-ops.expm1(log_draw))


def divergence_from_beta(a: Any, b: Any, alpha: float) -> Any:
    """The Kullback-Leibler divergence of Kumaraswamy(a, b) from Beta(alpha, 1).

    `(1 - alpha/a) (-gamma - digamma(b) - 1/b) + log(a b / alpha) - (b - 1)/b`, with Euler's gamma
    (Nalisnick and Smyth 2017). Digamma(b) + 1/b is digamma(1 + b), which does not cancel.
    """
    return (
        (1.0 - alpha / a) * (-EULER - digamma(1.0 + b))
        + ops.log(a)
        + ops.log(b)
        - math.log(alpha)
        - 1.0
        + 1.0 / b
    )


def log_gamma(x: Any) -> Any:
    """The logarithm of the gamma function, for x > 0."""
    y = x + _SHIFT
    whole = (y - 0.5) * ops.log(y) - y + 0.5 * math.log(2 * math.pi) + _correction(y)
    return whole - ops.sum(ops.log(_shifted(x)), axis=-1)


def digamma(x: Any) -> Any:
    """The derivative of `log_gamma`, for x > 0."""
    y = x + _SHIFT
    z = 1.0 / (y * y)
    series = ops.log(y) - 0.5 / y - z * (1 / 12 - z * (1 / 120 - z / 252))
    return series - ops.sum(1.0 / _shifted(x), axis=-1)


def _log_gamma_ratio(x: Any, b: Any) -> Any:
    """`log_gamma(x) - log_gamma(x + b)`, exact also where x is so large that both are equal."""
    y = x + _SHIFT
    large = b - (y - 0.5) * ops.log1p(b / y) - b * ops.log(y + b)
    large = large + _correction(y) - _correction(y + b)
    return large + ops.sum(ops.log1p(ops.expand_dims(b, -1) / _shifted(x)), axis=-1)


def _shifted(x: Any) -> Any:
    """x, x + 1, and so on up to where the series begin, along a new last axis."""
    return ops.expand_dims(x, -1) + ops.arange(_SHIFT, dtype=x.dtype)


def _correction(y: Any) -> Any:
    """The rest of Stirling's series."""
    z = 1.0 / (y * y)
    return (1 / 12 - z * (1 / 360 - z / 1260)) / y
