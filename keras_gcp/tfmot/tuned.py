"""What `quantize_aware`, `sparsify` and `cluster` return: a model to train, and what it gives."""

from __future__ import annotations

import abc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from keras_gcp.errors import InvalidArgument
from keras_gcp.exporting import ExportedFile
from keras_gcp.tfmot import bridge, compiling, data, equality, tflite
from keras_gcp.tfmot.bridge import Bridge
from keras_gcp.validation import require_integer


class Tuned(abc.ABC):
    """A tf_keras model in the wrappers of tfmot, and the Keras 3 model that it came from.

    Attributes:
        source: The Keras 3 model; it never changes.
        model: The tf_keras model, wrapped by tfmot.
        over: How its layers are called there.
        is_trained: Whether `fit` has ended once.
        file_kind: How the file is converted, a key of `exporting.conversion.KINDS`.
        file_format: The format of `keras_gcp.export` that the file is held to.
        file_suffix: Follows the model's name in that of the file.
        untrained: What is wrong before `fit`, in words that follow the model's name.
    """

    file_kind, file_format, file_suffix = "tflite", "tflite", ""
    untrained = "is not trained yet"

    def __init__(self, over: Bridge, model: Any) -> None:
        self.source, self.model = over.source, model
        self.over, self._is_compiled, self.is_trained = over, False, False

    def compile(
        self,
        loss: Any = None,
        optimizer: Any = None,
        learning_rate: float | None = None,
        metrics: Any = None,
    ) -> None:
        """Compiles the model. What is None is as the Keras 3 model was compiled.

        Args:
            loss: A name, a loss of Keras, or a function of `(y_true, y_pred)`.
            optimizer: A name, or an optimizer of Keras: the same one is made in tf_keras, with
                its settings and the learning rate that it has now, and without its memory.
            learning_rate: A number; fine-tuning wants a tenth or less of the training's.
            metrics: A list of names or of metrics of Keras.

        Raises:
            InvalidArgument: there is no loss, or tf_keras has none of that kind.
        """
        k2 = self.over.packages.tf_keras
        self.model.compile(
            **compiling.settings(self.source, k2, loss, optimizer, learning_rate, metrics)
        )
        self._is_compiled = True

    def fit(
        self,
        x: Any,
        y: Any = None,
        *,
        epochs: int = 1,
        batch_size: int | None = None,
        loss: Any = None,
        optimizer: Any = None,
        learning_rate: float | None = None,
        metrics: Any = None,
        callbacks: Any = (),
        **options: Any,
    ) -> Any:
        """Trains the model; a second call goes on.

        Args:
            x: Inputs as `source.fit` takes them, or a `tf.data.Dataset`.
            y: Labels; of several outputs a list, in the order of `model.outputs`.
            epochs: How many.
            batch_size: Of arrays; None: 32.
            loss: As in `compile`, which is called if one of these is given, or at first.
            optimizer: As in `compile`.
            learning_rate: As in `compile`.
            metrics: As in `compile`.
            callbacks: Callbacks of tf_keras; those that tfmot needs are added.
            **options: Further arguments of `fit` of tf_keras, such as `validation_data`.

        Returns:
            The history of tf_keras.
        """
        epochs = require_integer("epochs", epochs, 1)
        callbacks = _of_tf_keras(callbacks)
        given = (loss, optimizer, learning_rate, metrics)
        if not self._is_compiled or any(one is not None for one in given):
            self.compile(*given)
        tf = self.over.packages.tf
        x = data.arranged(self.source, x, tf)
        self._before(x, epochs, batch_size, options)
        found = self.model.fit(
            x,
            y,
            epochs=epochs,
            batch_size=batch_size,
            callbacks=[*self._callbacks(), *callbacks],
            **self._arranged(options),
        )
        self.is_trained = True
        return found

    def evaluate(self, x: Any, y: Any = None, **options: Any) -> Any:
        """`evaluate` of the tf_keras model: loss and metrics, rounding included where it rounds."""
        if not self._is_compiled:
            self.compile()
        return self.model.evaluate(
            data.arranged(self.source, x, self.over.packages.tf), y, **options
        )

    def predict(self, x: Any, **options: Any) -> Any:
        """`predict` of the tf_keras model."""
        x = data.arranged(self.source, x, self.over.packages.tf)
        return self.model.predict(x, **options)

    def strip(self) -> Any:
        """A plain tf_keras model with the trained weights, without the wrappers of tfmot.

        Raises:
            InvalidArgument: it was not trained as far as that is needed.
        """
        self._require_trained()
        plain, weights_of = bridge.build(self.over), self._trained()
        for call in self.over.weighted():
            layer = plain.get_layer(self.over.name(call))
            layer.set_weights(weights_of(layer))
        return plain

    def to_keras(self) -> Any:
        """A new Keras 3 model with the trained weights, proved equal to `strip()`; not compiled.

        Raises:
            InvalidArgument: it was not trained as far as that is needed.
            VerificationFailed: the two do not compute the same.
        """
        stripped = self.strip()
        copy = bridge.back(self.over, stripped)
        equality.prove(self.over, stripped, copy)
        return copy

    def export(
        self, directory: str | Path, sample: Any = None, *, name: str | None = None
    ) -> ExportedFile:
        """Writes a .tflite file, run and compared with the model before it takes its place.

        Args:
            directory: Where to.
            sample: Real inputs to compare on, as in `keras_gcp.export`; None: random ones.
            name: Of the file; None: the model's, and what was done to it.

        Returns:
            What is known about the file.

        Raises:
            ExportMismatch: the file does not compute what the model computes.
            UnsupportedModel: the converter refuses the model.
            InvalidArgument: it was not trained as far as that is needed.
        """
        self._require_trained()
        name = f"{self.source.name}{self.file_suffix}" if name is None else name
        return tflite.write(
            self.over, self._to_export(), self.file_kind, self.file_format, directory, sample, name
        )

    # --- what the techniques do differently ------------------------------------------------------

    def _before(self, x: Any, epochs: int, batch_size: int | None, options: Any) -> None:  # noqa: B027 (most need nothing)
        """What has to be done before a training."""

    def _callbacks(self) -> list[Any]:
        return []

    def _to_export(self) -> Any:
        return self.strip()

    @abc.abstractmethod
    def _trained(self) -> Callable[[Any], list[Any]]:
        """What finds, for a plain layer, the trained weights in its order."""

    def _require_trained(self) -> None:
        if not self.is_trained:
            raise InvalidArgument(
                f"The model '{self.source.name}' {self.untrained}. Call `fit` first; a few "
                "epochs at a small learning rate are usual."
            )

    def _arranged(self, options: dict[str, Any]) -> dict[str, Any]:
        held_out = options.get("validation_data")
        if not isinstance(held_out, list | tuple):
            return options
        x = data.arranged(self.source, held_out[0], self.over.packages.tf)
        return {**options, "validation_data": (x, *held_out[1:])}

    def __repr__(self) -> str:
        state = "trained" if self.is_trained else "not trained yet"
        return f"<{type(self).__name__} of '{self.source.name}', {state}>"


def _of_tf_keras(callbacks: Any) -> list[Any]:
    listed = list(callbacks) if isinstance(callbacks, list | tuple) else [callbacks]
    listed = [one for one in listed if one is not None]
    for one in listed:
        if isinstance(one, keras.callbacks.Callback):
            kind = type(one).__name__
            raise InvalidArgument(
                f"`callbacks` has a {kind} of Keras 3, but tf_keras is training. Expected "
                f"callbacks of tf_keras, such as `tf_keras.callbacks.{kind}(...)` if it has that."
            )
    return listed
