"""Files that are no Keras models, in the place of one: run as a model is, checked as one is."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_gcp.errors import InvalidArgument, UnsupportedModel
from keras_gcp.exporting import foreign_files
from keras_gcp.exporting.foreign_files import Described, End
from keras_gcp.exporting.tflite import signature_names
from keras_gcp.exporting.worker import in_words, in_worker


@dataclass(frozen=True, eq=False)
class ForeignFile:
    """A file that something else than Keras runs.

    Attributes:
        name: What the user calls it.
        kind: `"tflite"`, `"onnx"` or `"saved_model"`.
        path: The file.
        described: What is known of it.
        timed: The file whose latency is measured; None if there is none.
        reads: For each input of the file, the number of the array that it gets.
        gives: For each array that is wanted, the number of the output that it is.
    """

    name: str
    kind: str
    path: Path
    described: Described
    timed: Path | None
    reads: tuple[int, ...]
    gives: tuple[int, ...]

    @property
    def inputs(self) -> list[End]:
        """What enters, in the order of the arrays."""
        return [self.described.inputs[self.reads.index(i)] for i in range(len(self.reads))]

    @property
    def outputs(self) -> list[End]:
        """What leaves, in the order wanted."""
        return [self.described.outputs[i] for i in self.gives]

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Outputs for many examples.

        Raises:
            UnsupportedModel: the runtime fails on them.
        """
        ends = self.described.inputs
        given = [np.asarray(arrays[i], e.dtype) for i, e in zip(self.reads, ends, strict=True)]
        try:
            found = in_worker(_RUN[self.kind], str(self.path), given)
        except Exception as error:
            raise UnsupportedModel(
                f"'{self.name}': '{self.path}' cannot be run on the data. The reason given: "
                f"{shortly(error)}"
            ) from error
        return [found[i] for i in self.gives]

    def in_order_of(self, model: Any) -> ForeignFile:
        """The same with inputs and outputs in the order of a Keras model: formats sort them.

        Raises:
            InvalidArgument: there are several, and their names are not those of the model.
        """
        signature_inputs, signature_outputs = signature_names(model)
        inputs = [{n, x.name} for n, x in zip(signature_inputs, model.inputs, strict=True)]
        outputs = [{name} for name in signature_outputs]
        return replace(
            self,
            reads=self._places("inputs", self.described.inputs, inputs, model),
            gives=_inverse(self._places("outputs", self.described.outputs, outputs, model)),
        )

    def stand_in(self) -> Any:
        """A model that samples and metrics are checked against as against any other."""
        inputs = [
            keras.Input(batch_shape=end.shape, dtype=end.dtype, name=re.sub(r"\W", "_", end.name))
            for end in self.inputs
        ]
        x = inputs if len(inputs) > 1 else inputs[0]
        outputs = _OfFile(self.outputs)(x)
        if self.described.last != "linear" and len(self.gives) == 1:
            outputs = keras.layers.Activation(self.described.last)(outputs)
        return keras.Model(x, outputs, name=self.name.replace("/", "_"))

    def _places(
        self, what: str, ends: Sequence[End], known: Sequence[set[str]], model: Any
    ) -> tuple[int, ...]:
        """For each end of the file, its place in the model."""
        if len(ends) == len(known) == 1:
            return (0,)
        places = [[i for i, names in enumerate(known) if end.name in names] for end in ends]
        found = tuple(place[0] for place in places if len(place) == 1)
        if sorted(found) == list(range(len(known))) and len(ends) == len(known):
            return found
        if what == "outputs" and self.kind != "tflite" and len(ends) == len(known):
            return tuple(range(len(ends)))  # Nameless there, and in the order of the model.
        names, expected = [end.name for end in ends], [sorted(one) for one in known]
        raise InvalidArgument(
            f"'{self.name}': '{self.path}' has the {what} {names}. Expected those of model "
            f"'{model.name}', by name: {[one[0] for one in expected]}."
        )


def read(name: str, kind: str, path: Path, own_file: Path) -> ForeignFile:
    """Looks at a file.

    Args:
        name: What the user calls it.
        kind: What it is.
        path: Where it is.
        own_file: Where a .tflite file of a SavedModel is made.

    Raises:
        InvalidArgument: it cannot be read.
    """
    more = (str(own_file),) if kind == "saved_model" else ()
    try:
        found = in_worker(_DESCRIBE[kind], str(path), *more)
    except Exception as error:  # Readers of files raise many types.
        raise InvalidArgument(
            f"'{name}': '{path}' cannot be read as {_CALLED[kind]}. Is it whole? The reason given: "
            f"{shortly(error)}"
        ) from error
    timed = path if kind != "saved_model" else own_file if own_file.exists() else None
    ends = range(len(found.inputs)), range(len(found.outputs))
    return ForeignFile(name, kind, path, found, timed, *map(tuple, ends))


def shortly(error: Exception) -> str:
    """What an exception says, in a line: some say pages."""
    line = " ".join(in_words(error).split())
    return line if len(line) <= 300 else f"{line[:298]} …"


class _OfFile(keras.layers.Layer):
    """What enters and leaves a file, in the place of the layers that are in it."""

    def __init__(self, outputs: Sequence[End]) -> None:
        super().__init__(name="file")
        self._ends = outputs

    def build(self, *shapes: Any) -> None:
        """There is nothing to build."""

    def compute_output_spec(self, *inputs: Any, **options: Any) -> Any:
        found = [keras.KerasTensor(end.shape, end.dtype) for end in self._ends]
        return found[0] if len(found) == 1 else found


def _inverse(places: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(places.index(i) for i in range(len(places)))


_CALLED = {"tflite": "a .tflite file", "onnx": "an .onnx file", "saved_model": "a SavedModel"}
_DESCRIBE: Mapping[str, Callable[..., Described]] = {
    "tflite": foreign_files.describe_tflite,
    "onnx": foreign_files.describe_onnx,
    "saved_model": foreign_files.describe_saved_model,
}
_RUN: Mapping[str, Callable[..., list[np.ndarray]]] = {
    "tflite": foreign_files.run_tflite,
    "onnx": foreign_files.run_onnx,
    "saved_model": foreign_files.run_saved_model,
}
