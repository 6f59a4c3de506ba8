"""The inputs on which a file is compared with its model, and int8 files are calibrated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_gcp.errors import InvalidArgument, UnsupportedModel
from keras_gcp.exporting.structure import input_names

RANDOM_SEED = 0


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


def examples_for(model: keras.Model, sample: Any, count: int) -> Examples:
    """Real examples from `sample`, or `count` seeded standard normal ones if it is None.

    Args:
        model: Functional or Sequential model.
        sample: None; an array `(examples, ...)` for one input; for several inputs a list in
            the order of `model.inputs` or a dict by input name.
        count: Number of examples to draw where `sample` is None.

    Returns:
        `Examples`, cast to the inputs' dtypes.

    Raises:
        InvalidArgument: If the sample does not fit the inputs.
        UnsupportedModel: If there is no sample and an input cannot be drawn at random.
    """
    if sample is None:
        return Examples(_draw(model, count), "random")
    arrays = _in_order(model, sample)
    arrays = [_fitting(tensor, a) for tensor, a in zip(model.inputs, arrays, strict=True)]
    lengths = [len(array) for array in arrays]
    if len(set(lengths)) > 1 or lengths[0] == 0:
        raise InvalidArgument(
            f"`sample` holds {lengths} examples for the inputs {input_names(model)}. "
            "Expected the same number, at least one, for every input."
        )
    return Examples(tuple(arrays), "sample")


def _in_order(model: keras.Model, sample: Any) -> Sequence[Any]:
    names = input_names(model)
    if isinstance(sample, Mapping):
        if set(sample) != set(names):
            raise InvalidArgument(
                f"`sample` has the keys {sorted(map(str, sample))}, "
                f"but the inputs of the model '{model.name}' are {names}."
            )
        return [sample[name] for name in names]
    if len(names) == 1:
        return [sample]
    if not isinstance(sample, list | tuple) or len(sample) != len(names):
        raise InvalidArgument(
            f"The model '{model.name}' has {len(names)} inputs ({names}). Expected `sample` as "
            f"a list of {len(names)} arrays in that order, or a dict by name, "
            f"received {type(sample).__name__}."
        )
    return sample


def _fitting(tensor: Any, values: Any) -> np.ndarray:
    array = np.asarray(values)
    expected = tuple(tensor.shape[1:])
    fits = array.ndim == len(expected) + 1 and all(
        wanted in (None, found) for wanted, found in zip(expected, array.shape[1:], strict=True)
    )
    if not fits:
        raise InvalidArgument(
            f"`sample` for the input '{tensor.name}' has shape {array.shape}. "
            f"Expected (examples, {', '.join(map(str, expected))})."
        )
    if not np.issubdtype(array.dtype, np.number) and array.dtype != bool:
        raise InvalidArgument(
            f"`sample` for the input '{tensor.name}' has dtype {array.dtype}. Expected numbers."
        )
    if not np.isfinite(array).all():
        raise InvalidArgument(
            f"`sample` for the input '{tensor.name}' holds NaN or infinite values. "
            "Remove or replace them."
        )
    return array.astype(tensor.dtype)


def _draw(model: keras.Model, count: int) -> tuple[np.ndarray, ...]:
    generator = np.random.default_rng(RANDOM_SEED)
    for tensor in model.inputs:
        shape = tuple(tensor.shape[1:])
        if None in shape or not np.issubdtype(np.dtype(tensor.dtype), np.floating):
            raise UnsupportedModel(
                f"The input '{tensor.name}' has shape {shape} and dtype {tensor.dtype}: random "
                "examples can be drawn only for floating-point inputs of known shape. "
                "Pass real examples as `sample=`."
            )
    return tuple(
        generator.standard_normal((count, *tensor.shape[1:])).astype(tensor.dtype)
        for tensor in model.inputs
    )
