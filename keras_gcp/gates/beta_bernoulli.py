"""Gates that are open by chance, with chances that learn to be nearly 0 or 1."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_gcp import keras_state
from keras_gcp.errors import InvalidArgument
from keras_gcp.gates import kumaraswamy
from keras_gcp.gates.gate import Gate
from keras_gcp.validation import between, require_above_0, require_from_0

_LEAST = 1e-6
"""Of the distribution's parameters, whose reciprocals are taken; of the noise, as well."""


class _DivergenceFromPrior(keras.regularizers.Regularizer):
    """The penalty on a gate's weights: how far its distributions are from their prior."""

    def __init__(self, alpha: float, weight: float, speed: float) -> None:
        self.alpha, self.weight, self.speed = alpha, weight, speed

    def __call__(self, x: Any) -> Any:
        a, b = positive(x, self.speed)
        return self.weight * ops.sum(kumaraswamy.divergence_from_beta(a, b, self.alpha))


def positive(weights: Any, speed: float = 1.0) -> tuple[Any, Any]:
    """`a` and `b` of weights `(2, units)`: `softplus(speed * weights)`."""
    a, b = ops.unstack(ops.softplus(speed * ops.convert_to_tensor(weights)) + _LEAST, axis=0)
    return a, b


def relaxed_bernoulli(logits: Any, v: Any, temperature: float) -> Any:
    """Draws between 0 and 1, the closer to one of them the lower the temperature.

    A draw is above one half with the probability that the logit stands for (Maddison et al. 2017).

    Args:
        logits: `log(p / (1 - p))`.
        v: Uniform on (0, 1).
        temperature: Above 0.
    """
    return ops.sigmoid((logits + ops.log(v) - ops.log1p(-v)) / temperature)


@keras.saving.register_keras_serializable("keras_gcp")
class BetaBernoulli(Gate):
    """Multiplies each channel by 0 or 1 by chance; the chance itself is learned, with its spread.

    While the model trains, a channel's chance is drawn from Kumaraswamy(a, b) in each step, and for
    each example a factor from a relaxed Bernoulli distribution with that chance. It is the same
    wherever the channel is read. Otherwise, and frozen, the factor is the expected chance
    `E = b B(1 + 1/a, b)`, 0 if that is not above `threshold`.

    The divergence of Kumaraswamy(a, b) from the prior Beta(alpha, 1) is added to the loss. With a
    small `alpha` that prior is nearly all at 0, so channels that the loss does not need close.

    Lee et al., 2018, "Adaptive Network Sparsification with Dependent Variational Beta-Bernoulli
    Dropout" (arXiv 1805.10896), without the part that depends on the input; where a and b begin,
    and `speed`, is ours (docs/methods/stamp.md).

    Args:
        channels: The number of channels. None: all that enter.
        whole: One factor for all that enters, as for a residual branch that goes as a whole.
        threshold: A channel is open if its expected chance is larger than this.
        alpha: Of the prior, above 0; its mean is `alpha / (1 + alpha)`.
        temperature: Of the relaxed Bernoulli distribution, above 0.
        kl_weight: Factor of the divergence in the loss. One over the number of training examples
            makes the loss a bound on the likelihood of all of them; larger values close more.
        initial: The expected chance at first, in (0, 1).
        speed: How many times as fast as other weights an optimizer such as Adam, whose steps do
            not depend on the size of gradients, is to move the parameters.

    Raises:
        InvalidArgument: an argument is out of its range.

    Example:

    ```python
    gated = keras_gcp.gates.insert(model, keras_gcp.gates.BetaBernoulli(kl_weight=1 / len(x)))
    gated.compile("adam", "sparse_categorical_crossentropy")
    gated.fit(x, y, epochs=20)
    small = keras_gcp.gates.remove(gated)
    ```
    """

    reads_input = True  # For the number of examples.

    def __init__(
        self,
        channels: int | None = None,
        *,
        whole: bool = False,
        threshold: float = 1e-3,
        alpha: float = 1e-4,
        temperature: float = 0.1,
        kl_weight: float = 1e-4,
        initial: float = 0.9,
        speed: float = 10.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(channels, whole=whole, threshold=threshold, **kwargs)
        self.alpha = require_above_0("alpha", alpha, "BetaBernoulli")
        self.temperature = require_above_0("temperature", temperature, "BetaBernoulli")
        self.speed = require_above_0("speed", speed, "BetaBernoulli")
        self.kl_weight = require_from_0("kl_weight", kl_weight, "BetaBernoulli")
        self.initial = require_chance("initial", initial)
        self.noise = keras.random.SeedGenerator()

    def build_gate(self, units: int, seen: int) -> None:
        a, b = (inverse_softplus(one) / self.speed for one in parameters_at(self.initial))

        def beginning(shape: Any, dtype: Any = None) -> Any:
            # By NumPy: of a tensor that is broadcast, PyTorch keeps one number for all units.
            return ops.cast(np.repeat([[a], [b]], shape[1], axis=1), dtype)

        self.shape_parameters = self.add_weight(
            (2, units),
            initializer=beginning,
            regularizer=_DivergenceFromPrior(self.alpha, self.kl_weight, self.speed),
            autocast=False,
            name="parameters",
        )

    def values(self) -> Any:
        return keras_state.once_per_call(self, "values", self._expected)

    def _expected(self) -> Any:
        a, b = positive(self.shape_parameters, self.speed)
        # Rounding leaves it a little above 1 where b is tiny.
        return ops.clip(kumaraswamy.mean(a, b), 0.0, 1.0)

    def factors(self) -> Any:
        return self.values() * super().factors()

    def dynamic(self, seen: Any, training: Any) -> Any:
        if not training:
            return self.factors()
        examples = ops.shape(seen)[0]
        u, v = keras_state.once_per_call(self, "noise", lambda: self._uniform(examples))
        a, b = positive(self.shape_parameters, self.speed)
        return relaxed_bernoulli(kumaraswamy.logit_of_draw(a, b, u), v, self.temperature)

    def _uniform(self, examples: Any) -> tuple[Any, Any]:
        """Noise for one step: a number for each chance, and one for each factor."""
        units = self.shape_parameters.shape[1]
        return tuple(
            keras.random.uniform(shape, _LEAST, 1 - _LEAST, self.variable_dtype, seed=self.noise)
            for shape in ((units,), (examples, units))
        )

    def per_channel(self) -> list[tuple[Any, int]]:
        return [(self.shape_parameters, 1)]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "alpha": self.alpha,
            "temperature": self.temperature,
            "kl_weight": self.kl_weight,
            "initial": self.initial,
            "speed": self.speed,
        }


def parameters_at(chance: float) -> tuple[float, float]:
    """`(a, b)` with this expectation, and `a = 1`: from there both directions are near."""
    return 1.0, (1.0 - chance) / chance


def inverse_softplus(value: float) -> float:
    """What softplus, with the least value added, turns into a value."""
    return math.log(math.expm1(max(value - _LEAST, _LEAST)))


def require_chance(name: str, value: object) -> float:
    """The probability in (0, 1) that an argument is.

    Raises:
        InvalidArgument: it is something else.
    """
    found = between(value, 1e-4, 1 - 1e-4)
    if found is None:
        raise InvalidArgument(
            f"`{name}` expects a probability from 0.0001 to 0.9999. Received: {value!r}."
        )
    return found
