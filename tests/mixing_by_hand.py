"""Layers that mix channels, from the kept channels alone: written out in NumPy, another way."""

from __future__ import annotations

import keras
import numpy as np

REDUCTIONS = {
    "All": np.all,
    "Amax": np.max,
    "Amin": np.min,
    "Any": np.any,
    "Logsumexp": lambda x, axis, keepdims: np.log(np.exp(x).sum(axis=axis, keepdims=keepdims)),
    "Max": np.max,
    "Mean": np.mean,
    "Median": np.median,
    "Min": np.min,
    "Prod": np.prod,
    "Std": np.std,
    "Sum": np.sum,
    "Var": np.var,
}


def mixed_by_hand(layer, x, kept, axis):
    """What a layer computes from the kept channels of `x`; zeros in place of the others."""
    name = type(layer).__name__
    selected = np.compress(kept, x, axis)
    if name in REDUCTIONS:
        axes = tuple(layer.axis) if isinstance(layer.axis, list | tuple) else layer.axis
        return REDUCTIONS[name](selected, axis=axes, keepdims=layer.keepdims)
    y = _normalised(layer, name, selected.astype("float64"), kept, axis)
    full = np.zeros(x.shape, "float64")
    np.moveaxis(full, axis, 0)[kept] = np.moveaxis(y, axis, 0)
    return full.astype(x.dtype)


def attention_by_hand(layer, query, value, key, kept):
    """Attention without projections from the kept channels; all of the values."""
    query, key = (np.compress(kept, x, -1) for x in (query, key))
    query, key = query[:, :, None], key[:, None]
    if type(layer).__name__ == "AdditiveAttention":
        scale = 1.0
        if layer.scale is not None:
            scale = np.compress(kept, keras.ops.convert_to_numpy(layer.scale))
        scores = (scale * np.tanh(query + key)).sum(-1)
    elif layer.score_mode == "concat":
        scores = float(layer.concat_score_weight) * np.tanh(query + key).sum(-1)
    else:
        scores = (query * key).sum(-1)
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    return (scores / scores.sum(-1, keepdims=True)) @ value


def _normalised(layer, name, x, kept, axis):
    if name == "GroupNormalization":
        parts = np.split(x, layer.groups, axis)
        axes = tuple(range(1, x.ndim))
        y = np.concatenate([_standardised(part, axes, layer.epsilon) for part in parts], axis)
        return _scaled(y, layer.gamma, layer.beta, [axis], kept, axis)
    if name == "RmsNorm2d":  # keras-hub
        size = np.mean(x**2, axis=axis, keepdims=True)
        return _scaled(x / np.sqrt(size + layer.eps), layer.gamma, None, [axis], kept, axis)
    axes = layer.axis if isinstance(layer.axis, list | tuple) else [layer.axis]
    axes = [a % x.ndim for a in axes]
    if name == "LayerNormalization":
        y = _standardised(x, tuple(axes), layer.epsilon)
        return _scaled(y, layer.gamma, layer.beta, axes, kept, axis)
    if name == "RMSNormalization":
        size = np.mean(x**2, axis=tuple(axes), keepdims=True)
        epsilon = layer.epsilon or 1e-7
        return _scaled(x / np.sqrt(size + epsilon), layer.scale, None, axes, kept, axis)
    assert name == "UnitNormalization", name
    return x / np.sqrt(np.maximum(np.sum(x**2, axis=tuple(axes), keepdims=True), 1e-24))


def _standardised(x, axes, epsilon):
    mean = x.mean(axis=axes, keepdims=True)
    return (x - mean) / np.sqrt(((x - mean) ** 2).mean(axis=axes, keepdims=True) + epsilon)


def _scaled(y, gamma, beta, axes, kept, axis):
    for weight, combine in ((gamma, np.multiply), (beta, np.add)):
        if weight is not None:
            values = np.compress(kept, keras.ops.convert_to_numpy(weight), axes.index(axis))
            shape = [size if a in axes else 1 for a, size in enumerate(y.shape)]
            y = combine(y, values.reshape(shape))
    return y
