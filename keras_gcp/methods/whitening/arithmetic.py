"""Equations of batch whitening: inverse roots of correlations, probabilities, soft masks.

Vectors over channels come in groups, `(groups, width)`, and matrices are `(groups, width, width)`.
Shao et al., 2021 (arXiv 2105.06423).
"""

from __future__ import annotations

import math
from typing import Any

from keras import ops

_TINY = 1e-12
"""Added to what is divided by, where it may be zero."""

_LEAST_PROBABILITY = 1e-6
"""Logarithms of probabilities stay finite, and 1 minus it is still a number of 32 bits."""


def group_shape(channels: int, most: int) -> tuple[int, int]:
    """How many groups of at most so many channels, and how wide they are: nearly equally.

    Example:

    >>> group_shape(32, 16), group_shape(24, 16), group_shape(17, 16)
    ((2, 16), (2, 12), (2, 9))
    """
    count = math.ceil(channels / most)
    return count, math.ceil(channels / count)


def in_groups(x: Any, shape: tuple[int, int]) -> Any:
    """`(..., channels)` to `(..., groups, width)`; the last group is filled up with zeros.

    A channel of zeros has a scale of zero, so it has no part in what others become.
    """
    count, width = shape
    missing = count * width - x.shape[-1]
    if missing:
        x = ops.pad(x, [[0, 0]] * (len(x.shape) - 1) + [[0, missing]])
    return ops.reshape(x, (*ops.shape(x)[:-1], count, width))


def out_of_groups(x: Any, channels: int) -> Any:
    """`(..., groups, width)` to `(..., channels)`: what was filled up is gone."""
    flat = ops.reshape(x, (*ops.shape(x)[:-2], x.shape[-2] * x.shape[-1]))
    return flat[..., :channels]


def covariance(rows: Any) -> Any:
    """Covariances within groups of what has mean 0: `(rows, groups, width)`."""
    by_group = ops.transpose(rows, (1, 2, 0))
    count = ops.cast(ops.shape(rows)[0], rows.dtype)
    return ops.matmul(by_group, ops.transpose(by_group, (0, 2, 1))) / count


def inverse_root(correlation: Any, gamma: Any, iterations: int) -> Any:
    """About `Sigma^(-1/2)` with `Sigma = (gamma gamma^T o correlation) / |gamma|^2`.

    Sigma has trace 1, so its eigenvalues lie in [0, 1] and Newton's iteration converges from the
    identity: `S <- (3 S - S^3 Sigma) / 2`. Directions with an eigenvalue of 0 grow by 1.5 in each
    iteration and do not disturb others.

    Written with `S Sigma` carried along (the coupled form): the same, were there no rounding. By
    itself the iteration feeds on its roundings, and ends in NaN where Sigma is ill-conditioned.

    Args:
        correlation: `(groups, width, width)`.
        gamma: `(groups, width)`.
        iterations: How many.
    """
    outer = gamma[:, :, None] * gamma[:, None, :]
    total = ops.sum(ops.square(gamma), axis=1)[:, None, None]
    sigma = outer * correlation / (total + _TINY)
    width = gamma.shape[1]
    identity = ops.broadcast_to(ops.eye(width, dtype=sigma.dtype), ops.shape(sigma))
    root, rest = identity, sigma  # `rest` goes to Sigma^(1/2), their product to the identity.
    for _ in range(iterations):
        step = 1.5 * identity - 0.5 * ops.matmul(root, rest)
        root, rest = ops.matmul(step, root), ops.matmul(rest, step)
    return root


def times(matrix: Any, vector: Any) -> Any:
    """Products within groups: `(groups, width, width)` times `(groups, width)`."""
    return ops.sum(matrix * vector[:, None, :], axis=-1)


def activation_probability(gamma: Any, beta: Any, delta: float) -> Any:
    """`P(gamma z + beta > delta)` for a standard normal z: `(1 + erf((beta - delta) / ...)) / 2`.

    It is 0 only if gamma goes to 0 and beta is not above delta.

    Args:
        gamma: Scales after whitening, `S gamma`.
        beta: Shifts after whitening, `S beta`.
        delta: From which value on a channel counts as active.
    """
    return 0.5 * (1.0 + ops.erf((beta - delta) / (math.sqrt(2.0) * ops.abs(gamma) + 1e-6)))


def soft_mask(probability: Any, noise: Any, temperature: Any, sharpness: Any) -> Any:
    """The two-way Gumbel-softmax of probabilities, in (0, 1) and differentiable.

    The difference of two Gumbel variables is a logistic one, so one noise per channel suffices:
    `sigmoid((sharpness * logit(P) + noise) / temperature)`.

    Args:
        probability: Of being active.
        noise: Uniform in (0, 1), of the same shape.
        temperature: Towards 0, masks become 0 or 1.
        sharpness: Factor of the logits: above 1 it moves probabilities towards 0 and 1.
    """
    logistic = _logit(ops.clip(noise, _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY))
    clipped = ops.clip(probability, _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
    return ops.sigmoid((sharpness * _logit(clipped) + logistic) / temperature)


def _logit(probability: Any) -> Any:
    return ops.log(probability) - ops.log(1 - probability)
