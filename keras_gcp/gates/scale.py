"""Gates that learn one factor for each channel."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_gcp.gates.gate import Gate


@keras.saving.register_keras_serializable("keras_gcp")
class UnitInterval(keras.constraints.Constraint):
    """Keeps weights in [0, 1]."""

    def __call__(self, w: Any) -> Any:
        return ops.clip(w, 0.0, 1.0)


@keras.saving.register_keras_serializable("keras_gcp")
class ScaleGate(Gate):
    """One learned factor in [0, 1] for each channel; 1 at first.

    With an L1 penalty, factors of channels that the loss does not need fall to 0 exactly, since
    what an optimizer would make negative becomes 0. Frozen, open channels keep their factors.

    Args:
        channels: The number of channels. None: all that enter.
        whole: One factor for all that enters.
        threshold: A channel is open if its factor is larger than this.
        regularizer: Penalty on the factors, such as `keras.regularizers.L1(1e-3)`.

    Raises:
        InvalidArgument: an argument is out of its range.

    Example:

    ```python
    gated = keras_gcp.gates.insert(
        model, keras_gcp.gates.ScaleGate(regularizer=keras.regularizers.L1(1e-3))
    )
    gated.compile("adam", "sparse_categorical_crossentropy")
    gated.fit(x, y, epochs=10)
    small = keras_gcp.gates.remove(gated)
    ```
    """

    def __init__(
        self,
        channels: int | None = None,
        *,
        whole: bool = False,
        threshold: float = 0.01,
        regularizer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(channels, whole=whole, threshold=threshold, **kwargs)
        self.regularizer = keras.regularizers.get(regularizer)

    def build_gate(self, units: int, seen: int) -> None:
        self.factor = self.add_weight(
            (units,),
            initializer="ones",
            regularizer=self.regularizer,
            constraint=UnitInterval(),
            autocast=False,
            name="factor",
        )

    def values(self) -> Any:
        return ops.convert_to_tensor(self.factor)

    def dynamic(self, seen: Any, training: Any) -> Any:
        return self.values()

    def factors(self) -> Any:
        return self.values() * super().factors()

    def per_channel(self) -> list[tuple[Any, int]]:
        return [(self.factor, 0)]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "regularizer": keras.regularizers.serialize(self.regularizer),
        }
