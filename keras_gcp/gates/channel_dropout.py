"""A gate that drops whole channels by chance."""

from __future__ import annotations

import zlib
from typing import Any

import keras
from keras import ops

from keras_gcp.errors import InvalidArgument
from keras_gcp.gates.gate import Gate
from keras_gcp.validation import between, require_flag, require_seed


@keras.saving.register_keras_serializable("keras_gcp")
class ChannelDropout(Gate):
    """Drops each channel of each example with some probability; those that stay are scaled up.

    Channels that stay are divided by `1 - rate`, so what the readers sum up is what it was, on
    average. In training every place where the channels are read draws anew. At inference nothing is
    dropped, unless `measuring` is set: then all places drop the same channels of an example, which
    is what a cut would do, and the same ones at every call until `draw` is called.

    It learns nothing; frozen, and for `keras_gcp.gates.remove`, all channels are open. With `whole`
    it drops residual branches.

    Chen et al., "Network Adjustment", CVPR 2020 (arXiv 2004.02767), train and measure with it.

    Args:
        channels: The number of channels. None: all that enter.
        rate: Probability of dropping a channel, in [0, 1).
        whole: One decision for all that enters.
        seed: Seed of what is dropped in training; None: another one each time.

    Attributes:
        rate: May be set at any time, such as by a callback at each epoch; compiled code follows.
        measuring: Whether channels are dropped at inference, too. May be set likewise.

    Raises:
        InvalidArgument: an argument is out of its range.

    Example:

    ```python
    gated = keras_gcp.gates.insert(model, keras_gcp.gates.ChannelDropout(rate=0.05, seed=0))
    gated.compile("adam", "sparse_categorical_crossentropy")
    gated.fit(x, y)
    trained = keras_gcp.gates.remove(gated)
    ```
    """

    reads_input = True  # For the number of examples.

    def __init__(
        self,
        channels: int | None = None,
        *,
        rate: float = 0.1,
        whole: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(channels, whole=whole, **kwargs)
        self._starting_rate = _checked_rate(rate)
        self.seed = seed = require_seed(seed)
        # With the name, since gates of one seed that are as wide would drop the same channels.
        own = None if seed is None else (seed + zlib.crc32(self.name.encode())) % 2**31
        self._generator = keras.random.SeedGenerator(own)
        self._rate: Any = None
        self._measuring: Any = None

    def build_gate(self, units: int, seen: int) -> None:
        # Weights, not attributes: what was compiled before they change goes by them, too.
        def state(
            name: str, value: float, shape: tuple[int, ...] = (), dtype: str | None = None
        ) -> Any:
            return self.add_weight(
                shape,
                initializer=keras.initializers.Constant(value),
                trainable=False,
                autocast=False,
                dtype=dtype,
                name=name,
            )

        self._rate = state("rate", self._starting_rate)
        self._measuring = state("measuring", 0.0)
        self._drawn = state("drawn", 0, (2,), "int32")
        self._held = _HeldSeed(self._drawn)

    @property
    def rate(self) -> float:
        """Probability of dropping a channel."""
        return (
            self._starting_rate if self._rate is None else float(ops.convert_to_numpy(self._rate))
        )

    @rate.setter
    def rate(self, value: float) -> None:
        self._starting_rate = _checked_rate(value)
        if self._rate is not None:
            self._rate.assign(self._starting_rate)

    @property
    def measuring(self) -> bool:
        """Whether channels are dropped at inference, too."""
        return self._measuring is not None and bool(ops.convert_to_numpy(self._measuring) > 0)

    @measuring.setter
    def measuring(self, value: bool) -> None:
        if self._measuring is None:
            raise InvalidArgument(
                f"ChannelDropout '{self.name}' has not been built, so it cannot measure. Expected "
                "one of a model, from `keras_gcp.gates.insert`."
            )
        self._measuring.assign(float(require_flag("measuring", value)))

    @property
    def measuring_state(self) -> tuple[Any, Any, Any]:
        """The weights `(rate, measuring, drawn)`, for code that runs with other values of them.

        `drawn` is two integers: others drop other channels.
        """
        return self._rate, self._measuring, self._drawn

    def values(self) -> Any:
        return ops.ones((1 if self.whole else int(self.channels or 1),), self.variable_dtype)

    def dynamic(self, seen: Any, training: Any) -> Any:
        source = self._generator if training else self._held
        shape = (ops.shape(seen)[0], 1 if self.whole else int(self.channels or 1))
        rate = self._rate if training else self._rate * self._measuring
        stays = keras.random.uniform(shape, dtype=self.variable_dtype, seed=source) >= rate
        return ops.cast(stays, self.variable_dtype) / (1.0 - rate)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}


class _HeldSeed(keras.random.SeedGenerator):
    """Gives the value of a weight as the seed, and leaves it as it is."""

    def __init__(self, weight: Any) -> None:
        super().__init__(0)
        self._weight = weight

    def next(self, ordered: bool = True) -> Any:
        return ops.cast(self._weight, self.state.dtype)


def _checked_rate(rate: Any) -> float:
    found = between(rate, 0.0, 1.0)
    if found is None or found == 1:
        raise InvalidArgument(
            f"`rate` of ChannelDropout expects a probability in [0, 1). Received: {rate!r}."
        )
    return found
