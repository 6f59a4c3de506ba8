"""The inputs on which a file is compared with its model, and int8 files are calibrated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_gcp import keras_state
from keras_gcp.errors import UnsupportedModel
from keras_gcp.graph import Shapes
from keras_gcp.sample import Sample, draw_sample, is_data_set

RANDOM_SEED = 0

CALIBRATION_EXAMPLES = 256
"""For an int8 file; also what is drawn from a data set."""


@dataclass(frozen=True)
class Examples:
    """Input arrays in the order of `model.inputs`, each `(examples, ...)`, and their source.

    `source` is `"sample"` for real examples and `"random"` for drawn ones.
    """

    arrays: tuple[np.ndarray, ...]
    source: str

    def __len__(self) -> int:
        return len(self.arrays[0])

    def spread(self, count: int) -> Examples:
        """At most `count` examples, evenly spread: a sample sorted by class keeps its classes."""
        kept = np.unique(np.linspace(0, len(self) - 1, count).round().astype(int))
        return Examples(tuple(array[kept] for array in self.arrays), self.source)


def examples_for(
    model: keras.Model, sample: Any, count: int, shapes: Shapes | None = None
) -> Examples:
    """Real examples from `sample`, or `count` seeded standard normal ones if it is None.

    Args:
        model: Functional or Sequential model.
        sample: None, or as in `keras_gcp.plan`; labels are not looked at.
        count: Number of examples to draw where `sample` is None.
        shapes: Sizes of drawn inputs, if the model leaves them open.

    Returns:
        `Examples`, cast to the inputs' dtypes.

    Raises:
        InvalidArgument: If the sample does not fit the inputs.
        UnsupportedModel: If there is no sample and an input cannot be drawn at random.
    """
    if sample is None:
        sizes = shapes or tuple(tuple(tensor.shape[1:]) for tensor in model.inputs)
        return Examples(_draw(model, count, sizes), "random")
    # Of arrays all examples are taken: those that are compared are spread over them.
    data = sample.data if isinstance(sample, Sample) else sample
    size = CALIBRATION_EXAMPLES if is_data_set(data) else None
    drawn = draw_sample(sample, size, RANDOM_SEED, model, needs_labels=False)
    arrays = keras_state.ordered_inputs(model, drawn.x)
    return Examples(tuple(map(_cast, model.inputs, arrays)), "sample")


def _cast(symbol: Any, array: np.ndarray) -> np.ndarray:
    return array if symbol.dtype == "string" else array.astype(symbol.dtype)


def _draw(model: keras.Model, count: int, sizes: Shapes) -> tuple[np.ndarray, ...]:
    generator = np.random.default_rng(RANDOM_SEED)
    for tensor, shape in zip(model.inputs, sizes, strict=True):
        if None in shape or not np.issubdtype(np.dtype(tensor.dtype), np.floating):
            raise UnsupportedModel(
                f"The input '{tensor.name}' has shape {shape} and dtype {tensor.dtype}: random "
                "examples can be drawn only for floating-point inputs of known shape. "
                "Pass real examples as `sample=`."
            )
    return tuple(
        generator.standard_normal((count, *size)).astype(tensor.dtype)
        for tensor, size in zip(model.inputs, sizes, strict=True)
    )
