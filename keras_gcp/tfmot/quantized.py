"""Training that knows the rounding to 8 bits (quantization-aware training)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras_gcp.tfmot import bridge, equality, packages, refusals
from keras_gcp.tfmot.tuned import Tuned

_PREFIX = "quant_"


class QuantizeAware(Tuned):
    """A model that rounds its weights and activations to 8 bits while it trains.

    Attributes:
        source: The Keras 3 model; it never changes.
        model: The tf_keras model, wrapped by tfmot.
    """

    file_kind, file_format, file_suffix = "tflite_trained_int8", "tflite_int8", "_qat_int8"
    untrained = "has not learnt the ranges of its activations yet"

    def _to_export(self) -> Any:
        return self.model

    def _trained(self) -> Callable[[Any], list[Any]]:
        return self._weights_of

    def _weights_of(self, layer: Any) -> list[Any]:
        # The wrapper takes over what it rounds, and keeps the names of weights.
        wrapper = self.model.get_layer(f"{_PREFIX}{layer.name}")
        values = {weight.name: weight.numpy() for weight in wrapper.weights}
        return [values[weight.name] for weight in layer.weights]


def quantize_aware(model: Any) -> QuantizeAware:
    """Prepares a Keras 3 model for training with 8-bit rounding, by tfmot.

    Args:
        model: Functional or Sequential model, pruned or not, of layers that tfmot knows:
            convolutions, batch normalization right after them, ReLU, additions, pooling, dense
            layers. It does not change.

    Returns:
        `fit`, then `export(directory)` for the int8 file, or `to_keras()`.

    Raises:
        UnsupportedModel: tfmot cannot treat a layer; says which one, why, and what else to do.
        VerificationFailed: the twin in tf_keras does not compute the same.
        InvalidArgument: a package is missing.

    Example:

    ```python
    tuned = keras_gcp.tfmot.quantize_aware(pruned)
    tuned.fit(x, y, epochs=2, learning_rate=1e-4)
    tuned.export("exported", sample=x).bytes
    ```
    """
    packages.check_backend()
    graph = refusals.read(model, "quantize_aware", refusals.quantization_problems)
    over = bridge.bridge(model, graph, packages.load())
    plain = bridge.build(over)
    equality.prove(over, plain)
    wrapped = over.packages.tfmot.quantization.keras.quantize_model(plain, _PREFIX)
    return QuantizeAware(over, wrapped)
