"""Outputs of a model in inference mode, on which inputs, and how far apart two of them are."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np

from keras_gcp import keras_state
from keras_gcp.backend.inference import predict
from keras_gcp.graph import Shapes

# Every channel has a part in every example, so a few are as good as many; two passes through a
# network on sixteen photographs would take longer than building it.
_MOST_EXAMPLES = 16
_LEAST_SCALE = 1e-6
"""Outputs that are smaller are taken for rounded zeros."""

_MOST_NUMBERS = _MOST_EXAMPLES * 32 * 32 * 3


def outputs_in_inference(model: Any, inputs: Any) -> list[np.ndarray]:
    """The model's outputs in inference mode, flattened, as floats of 32 bits or more."""
    outputs = keras.tree.flatten(predict(model, inputs))
    return [y if y.dtype == np.float64 else y.astype("float32") for y in outputs]


def relative_maximum(actual: np.ndarray, expected: np.ndarray, least: float = 0.0) -> float:
    """Largest absolute difference, relative to the largest absolute value that is expected.

    Args:
        actual: Finite numbers; NaN or infinity make the result that.
        expected: As many of them.
        least: What the difference is relative to where all that is expected is smaller. Where that
            is 0, too, the difference itself is returned.
    """
    difference = float(np.abs(actual - expected).max(initial=0.0))
    scale = max(float(np.abs(expected).max(initial=0.0)), least)
    return difference / scale if scale > 0 else difference


def relative_difference(actual: list[np.ndarray], expected: list[np.ndarray]) -> float:
    """The largest `relative_maximum` of some outputs; infinite where shapes differ, or NaN."""
    worst = 0.0
    for a, b in zip(actual, expected, strict=True):
        if a.shape != b.shape:
            return float("inf")
        if not np.array_equal(np.isfinite(a), np.isfinite(b)):
            return float("inf")
        finite = np.isfinite(b)
        worst = max(worst, relative_maximum(a[finite], b[finite], _LEAST_SCALE))
    return worst


def example_count(model: Any, shapes: Shapes | None = None) -> int:
    """On how many examples a cut is verified: fewer where they are large, at least one.

    Args:
        model: The model.
        shapes: The sizes of its inputs; None where its own are fixed.
    """
    numbers = sum(math.prod(shape) for shape in shapes or _own_shapes(model))
    count = max(1, min(_MOST_EXAMPLES, _MOST_NUMBERS // max(1, numbers)))
    return keras_state.whole_batches(model, count)


def _own_shapes(model: Any) -> Shapes:
    return tuple(tuple(symbol.shape[1:]) for symbol in model.inputs)


def random_inputs(model: Any, batch: int, seed: int = 0, shapes: Shapes | None = None) -> Any:
    """Random inputs of the model's shapes: standard normal, or 0 and 1, or words.

    Args:
        model: The model.
        batch: Number of examples.
        seed: For the numbers.
        shapes: The sizes of its inputs; None where its own are fixed.
    """
    rng = np.random.default_rng(seed)

    def draw(symbol: Any, size: tuple[int, ...]) -> np.ndarray:
        shape = (batch, *size)
        if symbol.dtype == "string":
            return _texts(rng, shape, _vocabulary(model))
        if "int" in symbol.dtype or symbol.dtype == "bool":
            return rng.integers(0, 2, shape).astype(symbol.dtype)
        return rng.standard_normal(shape).astype(symbol.dtype)

    pairs = zip(model.inputs, shapes or _own_shapes(model), strict=True)
    return keras_state.packed_inputs(model, [draw(*pair) for pair in pairs])


def _vocabulary(model: Any) -> list[str]:
    """Words that the model knows; any others if it has no list of them."""
    found = [
        word
        for one in keras_state.operations(model)
        for word in getattr(one, "get_vocabulary", list)()
        if isinstance(word, str) and word
    ]
    return found or [str(number) for number in range(10)]


def _texts(rng: np.random.Generator, shape: tuple[int, ...], words: list[str]) -> np.ndarray:
    """By turns a word, which a look-up takes, and a text of eight words."""
    drawn = rng.choice(words, (math.prod(shape), 8))
    texts = [" ".join(row[: 1 if i % 2 else 8]) for i, row in enumerate(drawn)]
    return np.array(texts, dtype=object).reshape(shape)
