"""Gates that look at the input, and learn to agree on one decision for all of them."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_gcp.errors import InvalidArgument
from keras_gcp.gates.gate import Gate
from keras_gcp.validation import between, require_integer


@keras.saving.register_keras_serializable("keras_gcp")
class ConsensusGate(Gate):
    """Opens or closes each channel for each example, by what enters.

    With `m` the means over all positions of what enters, `q = sigmoid(W2 relu(W1 m + b1) + b2)`;
    a channel is multiplied by 1 if its q is above one half, else by 0. Gradients go to q as if the
    factor were q itself (a straight-through estimator). At first all channels are open: W2 is 0,
    b2 is `bias`.

    `polarization` is how strongly `ConsensusPruning` pushes the gate to decide alike for all
    inputs, 0 without it, and `target` the share that it wants open at present. Frozen, a channel is
    open if it has been open for more than `threshold` of the examples lately: `values()` is a
    running mean of the training.

    Zhi et al., 2023 (arXiv 2302.10798) train such gates; their form is ours
    (docs/methods/consensus.md). `keras_gcp.methods.ConsensusPruning` trains them to a budget.

    Args:
        channels: The number of channels. None: all that enter.
        whole: One decision for all that enters.
        threshold: A frozen channel is open if it was open for a larger share of examples.
        hidden: Width of the layer between.
        bias: Where b2 starts; positive: open.
        momentum: How much of its running mean a batch leaves as it was, in (0, 1).

    Raises:
        InvalidArgument: an argument is out of its range.

    Example:

    ```python
    gated = keras_gcp.gates.insert(model, keras_gcp.gates.ConsensusGate())
    ```
    """

    reads_input = True

    def __init__(
        self,
        channels: int | None = None,
        *,
        whole: bool = False,
        threshold: float = 0.5,
        hidden: int = 16,
        bias: float = 1.0,
        momentum: float = 0.9,
        **kwargs: Any,
    ) -> None:
        super().__init__(channels, whole=whole, threshold=threshold, **kwargs)
        self.hidden = require_integer("hidden", hidden, least=1)
        self.bias = float(bias)
        found = between(momentum, 0.0, 1.0)
        if not found or found == 1:
            raise InvalidArgument(
                f"`momentum` of ConsensusGate expects a number in (0, 1). Received: {momentum!r}."
            )
        self.momentum = found
        self._decisions: list[Any] | None = None

    def build_gate(self, units: int, seen: int) -> None:
        self.first = self.add_weight((seen, self.hidden), autocast=False, name="first")
        self.first_shift = self.add_weight(
            (self.hidden,), initializer="zeros", autocast=False, name="first_shift"
        )
        self.second = self.add_weight(
            (self.hidden, units), initializer="zeros", autocast=False, name="second"
        )
        self.second_shift = self.add_weight(
            (units,),
            initializer=keras.initializers.Constant(self.bias),
            autocast=False,
            name="second_shift",
        )
        self.open_share = self.add_weight(
            (units,), initializer="ones", trainable=False, autocast=False, name="open_share"
        )
        # Weights of the model, so that code compiled before they change goes by them, on JAX too.
        self.polarization = self.add_weight(
            (), initializer="zeros", trainable=False, autocast=False, name="polarization"
        )
        self.target = self.add_weight(
            (), initializer="ones", trainable=False, autocast=False, name="target"
        )

    def values(self) -> Any:
        return ops.convert_to_tensor(self.open_share)

    def dynamic(self, seen: Any, training: Any) -> Any:
        inner = ops.relu(ops.matmul(seen, self.first) + self.first_shift)
        q = ops.sigmoid(ops.matmul(inner, self.second) + self.second_shift)
        decided = ops.cast(q > 0.5, q.dtype)
        factors = q + ops.stop_gradient(decided - q)
        if training:
            self._note(decided, factors)
        return factors

    def _note(self, decided: Any, factors: Any) -> None:
        """Keeps the running mean, and what a callback asked for."""
        now = ops.mean(decided, axis=0)
        mean = self.momentum * self.open_share + (1 - self.momentum) * now
        self.open_share.assign(self.if_frozen(self.values(), mean))
        if self._decisions is not None:
            self._decisions.append(factors)

    def listen(self, listens: bool = True) -> None:
        """Whether decisions of training steps are kept until `heard` asks for them."""
        self._decisions = [] if listens else None

    def heard(self) -> list[Any]:
        """The decisions of the step that runs, `(batch, units)` for each call; differentiable."""
        found, self._decisions = list(self._decisions or []), []
        return found

    def per_channel(self) -> list[tuple[Any, int]]:
        return [(self.second, 1), (self.second_shift, 0), (self.open_share, 0)]

    def summed(self) -> list[tuple[Any, int]]:
        return [(self.first, 0)]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "hidden": self.hidden,
            "bias": self.bias,
            "momentum": self.momentum,
        }
