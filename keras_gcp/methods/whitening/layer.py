"""The layer that takes the place of batch normalization: it whitens groups, and masks channels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops
from keras.optimizers import schedules

from keras_gcp.channels.channel_ids import ChannelIds
from keras_gcp.channels.registry import register_rule
from keras_gcp.channels.site import Site
from keras_gcp.errors import InvalidArgument
from keras_gcp.methods.whitening.arithmetic import (
    activation_probability,
    covariance,
    group_shape,
    in_groups,
    inverse_root,
    out_of_groups,
    soft_mask,
    times,
)
from keras_gcp.validation import between, integer, require_flag, require_integer, require_seed


@keras.saving.register_keras_serializable("keras_gcp")
class BatchWhitening(keras.layers.Layer):
    """Normalises, scales, whitens within groups of channels, and masks channels by probability.

    In training, with `xbar` normalised by the batch, `rho` its correlations within a group and
    `Sigma = (gamma gamma^T o rho) / |gamma|^2`:

        S = Sigma^(-1/2)                                     by Newton's iteration
        P = P(S gamma z + S beta > delta), z standard normal
        y = GumbelSoftmax(P) * S (gamma * xbar + beta)

    so within a group channels have variance `|gamma|^2` and no covariance. In inference mean,
    variance and S are running averages, and the mask is 1 where P is above `threshold`, else 0.
    While training goes on, the layer adds `scale_penalty * |gamma| + shift_penalty * beta`, summed
    over channels, to the loss; the second term has a sign, so it pushes beta below zero.

    The layer counts its training steps in a weight: temperature and sharpness follow that, in any
    training loop, and go on where a saved model or a backup was.

    Shao, Yu, Zhang, Xu, Li, Luo, 2021 (arXiv 2105.06423).

    Args:
        groups: Most channels of one group. Groups are nearly equally wide: 24 channels are two of
            12. With 1, nothing is whitened, and the layer is a batch normalization with masks.
        axis: The channel axis, batch axis counted.
        momentum: Of the running averages.
        epsilon: Added to variances.
        newton_iterations: How many.
        delta: From which value on a channel counts as active.
        threshold: Channels with at most this probability are closed in inference.
        temperature: Of the Gumbel-softmax: a number above 0, or a schedule of
            `keras.optimizers.schedules`.
        sharpness: Factor of the logits of P, number or schedule.
        scale_penalty: Factor of `|gamma|`.
        shift_penalty: Factor of `beta`.
        warmup_steps: For so many training steps masks are open, and there is no penalty.
        prune: Whether there are masks and penalties at all; if not, the layer only whitens.
        gamma_regularizer: As of `keras.layers.BatchNormalization`.
        beta_regularizer: As of `keras.layers.BatchNormalization`.
        seed: For the noise of the Gumbel-softmax.
        **kwargs: As of every layer: `name`, `dtype`, `trainable`.

    Shapes: any, with a known number of channels; the output has that of the input. Statistics,
    matrices and masks are computed with 32 bits at least.

    Raises:
        InvalidArgument: an argument is out of its range, or the number of channels is unknown.

    Example:

    ```python
    cooling = keras.optimizers.schedules.PolynomialDecay(1.0, 5000, 0.1)
    whitening = keras_gcp.methods.BatchWhitening(groups=16, temperature=cooling)
    y = whitening(np.random.default_rng(0).normal(size=(8, 5, 5, 32)), training=True)
    ```
    """

    def __init__(
        self,
        groups: int = 16,
        *,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        newton_iterations: int = 5,
        delta: float = 0.05,
        threshold: float = 0.5,
        temperature: Any = 0.5,
        sharpness: Any = 4.0,
        scale_penalty: float = 4e-5,
        shift_penalty: float = 8e-5,
        warmup_steps: int = 0,
        prune: bool = True,
        gamma_regularizer: Any = None,
        beta_regularizer: Any = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.groups = require_integer("groups", groups, least=1)
        self.axis = _axis(axis)
        self.momentum = _number("momentum", momentum, 0.0, 1.0)
        self.epsilon = _number("epsilon", epsilon, 1e-12, math.inf)
        self.newton_iterations = require_integer("newton_iterations", newton_iterations, least=1)
        self.delta = _number("delta", delta, -math.inf, math.inf)
        self.threshold = _number("threshold", threshold, 0.0, 1.0)
        self.temperature = _scheduled("temperature", temperature)
        self.sharpness = _scheduled("sharpness", sharpness)
        self.scale_penalty = _number("scale_penalty", scale_penalty, 0.0, math.inf)
        self.shift_penalty = _number("shift_penalty", shift_penalty, 0.0, math.inf)
        self.warmup_steps = require_integer("warmup_steps", warmup_steps, least=0)
        self.prune = require_flag("prune", prune)
        self.gamma_regularizer = keras.regularizers.get(gamma_regularizer)
        self.beta_regularizer = keras.regularizers.get(beta_regularizer)
        self.seed = require_seed(seed)
        self.noise = keras.random.SeedGenerator(self.seed)

    def build(self, input_shape: Any) -> None:
        channels = input_shape[self.axis]
        if channels is None:
            raise InvalidArgument(
                f"Layer '{self.name}' (class BatchWhitening) expects a known number of channels "
                f"along axis {self.axis}. Received: an input of shape {tuple(input_shape)}."
            )
        self.channels = int(channels)
        self.shape_of_groups = group_shape(self.channels, self.groups)
        count, width = self.shape_of_groups
        self.gamma = self._channel_weight("gamma", "ones", regularizer=self.gamma_regularizer)
        self.beta = self._channel_weight("beta", "zeros", regularizer=self.beta_regularizer)
        self.moving_mean = self._channel_weight("moving_mean", "zeros", trainable=False)
        self.moving_variance = self._channel_weight("moving_variance", "ones", trainable=False)
        self.moving_whitening = self.add_weight(
            name="moving_whitening",
            shape=(count, width, width),
            initializer=_identities,
            trainable=False,
            autocast=False,
        )
        self.steps = self.add_weight(
            name="steps", shape=(), initializer="zeros", dtype="int32", trainable=False
        )

    def _channel_weight(self, name: str, initializer: str, **options: Any) -> Any:
        # Keras' own normalizations keep theirs out of autocasting, too: 16 bits are too few.
        shape = (self.channels,)
        return self.add_weight(
            name=name, shape=shape, initializer=initializer, autocast=False, **options
        )

    def call(self, inputs: Any, training: bool = False, mask: Any = None) -> Any:
        """Whitens and masks; frozen (`trainable = False`) it does so as in inference.

        Args:
            inputs: The input.
            training: Whether statistics are those of the batch.
            mask: None. It stands here because batch normalization has it, which the layer replaces.
        """
        if mask is not None:
            raise InvalidArgument(
                f"Layer '{self.name}' (class BatchWhitening) received a mask of the steps that "
                "count, which its statistics leave no room for. Expected an input without one."
            )
        x = ops.moveaxis(ops.cast(inputs, self._precision), self.axis, -1)
        if training and self.trainable:
            y = self._by_batch(x)
        else:
            y = self._by_averages(x)
        return ops.cast(ops.moveaxis(y, -1, self.axis), self.compute_dtype)

    @property
    def _is_single(self) -> bool:
        """Whether every channel is a group of its own."""
        return bool(self.shape_of_groups[1] == 1)

    @property
    def _precision(self) -> str:
        return str(keras.backend.result_type(self.compute_dtype, "float32"))

    def _by_batch(self, x: Any) -> Any:
        mean = ops.mean(x, axis=tuple(range(len(x.shape) - 1)))
        x = x - mean
        rows = in_groups(ops.reshape(x, (-1, self.channels)), self.shape_of_groups)
        if self._is_single:
            products = ops.mean(ops.square(rows), axis=0)[:, :, None]
        else:
            products = covariance(rows)
        variance = ops.diagonal(products, axis1=1, axis2=2)
        deviation = ops.sqrt(variance + self.epsilon)
        correlation = products / (deviation[:, :, None] * deviation[:, None, :])
        root = self._root(correlation)
        mask = self._soft_mask(root)
        self._add_penalty()
        self._update(mean, out_of_groups(variance, self.channels), root)
        matrix = mask[:, :, None] * root * (self._grouped(self.gamma) / deviation)[:, None, :]
        shift = mask * times(root, self._grouped(self.beta))
        return self._mapped(x, matrix, shift)

    def _by_averages(self, x: Any) -> Any:
        root = ops.cast(self.moving_whitening, self._precision)
        gamma, beta = self._grouped(self.gamma), self._grouped(self.beta)
        deviation = ops.sqrt(self._grouped(self.moving_variance) + self.epsilon)
        mask = self._hard_mask(root)
        matrix = mask[:, :, None] * root * (gamma / deviation)[:, None, :]
        shift = mask * times(root, beta) - times(matrix, self._grouped(self.moving_mean))
        return self._mapped(x, matrix, shift)

    def _mapped(self, x: Any, matrix: Any, shift: Any) -> Any:
        """`matrix x + shift` at every position; a mere factor where groups are single channels."""
        shift = out_of_groups(shift, self.channels)
        if self._is_single:
            return x * matrix[:, 0, 0] + shift
        rows = in_groups(ops.reshape(x, (-1, self.channels)), self.shape_of_groups)
        mapped = ops.matmul(ops.transpose(rows, (1, 0, 2)), ops.transpose(matrix, (0, 2, 1)))
        flat = out_of_groups(ops.transpose(mapped, (1, 0, 2)), self.channels)
        return ops.reshape(flat, ops.shape(x)) + shift

    def _grouped(self, variable: Any) -> Any:
        value = ops.cast(ops.convert_to_tensor(variable), self._precision)
        return in_groups(value, self.shape_of_groups)

    def _root(self, correlation: Any) -> Any:
        if self._is_single:  # The inverse root of a single 1.
            return ops.ones_like(correlation)
        return inverse_root(correlation, self._grouped(self.gamma), self.newton_iterations)

    # ---- masks

    def _probability(self, root: Any) -> Any:
        gamma, beta = (times(root, self._grouped(one)) for one in (self.gamma, self.beta))
        return activation_probability(gamma, beta, self.delta)

    def _soft_mask(self, root: Any) -> Any:
        if not self.prune:
            return ops.ones(self.shape_of_groups, dtype=self._precision)
        step = ops.convert_to_tensor(self.steps)
        noise = keras.random.uniform(self.shape_of_groups, dtype=self._precision, seed=self.noise)
        mask = soft_mask(
            self._probability(root),
            noise,
            _value_at(self.temperature, step, self._precision),
            _value_at(self.sharpness, step, self._precision),
        )
        return self._open_in_warmup(mask)

    def _hard_mask(self, root: Any) -> Any:
        if not self.prune:
            return ops.ones(self.shape_of_groups, dtype=self._precision)
        mask = ops.cast(self._probability(root) > self.threshold, self._precision)
        return self._open_in_warmup(mask)

    def _open_in_warmup(self, mask: Any) -> Any:
        return mask if not self.warmup_steps else ops.where(self._warm(), mask, 1.0)

    def _warm(self) -> Any:
        return ops.convert_to_tensor(self.steps) >= self.warmup_steps

    def _add_penalty(self) -> None:
        """The regularizer of shifts and scales, of this layer's channels."""
        if not self.prune or not (self.scale_penalty or self.shift_penalty):
            return
        gamma, beta = ops.convert_to_tensor(self.gamma), ops.convert_to_tensor(self.beta)
        penalty = self.scale_penalty * ops.sum(ops.abs(gamma)) + self.shift_penalty * ops.sum(beta)
        self.add_loss(ops.where(self._warm(), penalty, ops.zeros_like(penalty)))

    def _update(self, mean: Any, variance: Any, root: Any) -> None:
        pairs = (
            (self.moving_mean, mean),
            (self.moving_variance, variance),
            (self.moving_whitening, root),
        )
        for average, value in pairs:
            value = ops.cast(ops.stop_gradient(value), average.dtype)
            average.assign(self.momentum * average + (1.0 - self.momentum) * value)
        self.steps.assign(self.steps + 1)

    # ---- what it has learnt, as arrays

    def activation_probabilities(self) -> np.ndarray:
        """The probability of each channel as in inference, `(channels,)`."""
        root = ops.cast(self.moving_whitening, self._precision)
        found = out_of_groups(self._probability(root), self.channels)
        return np.asarray(ops.convert_to_numpy(found))

    def open_channels(self) -> np.ndarray:
        """Which channels inference lets through, `(channels,)` booleans."""
        mask = self._hard_mask(ops.cast(self.moving_whitening, self._precision))
        return np.asarray(ops.convert_to_numpy(out_of_groups(mask, self.channels)) > 0)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        plain = (
            "groups axis momentum epsilon newton_iterations delta threshold scale_penalty "
            "shift_penalty warmup_steps prune seed"
        )
        made = ("temperature", "sharpness", "gamma_regularizer", "beta_regularizer")
        return {
            **super().get_config(),
            **{name: getattr(self, name) for name in plain.split()},
            **{name: keras.saving.serialize_keras_object(getattr(self, name)) for name in made},
        }


@register_rule(BatchWhitening)
def batch_whitening(site: Site) -> ChannelIds:
    """Its outputs depend on whole groups, so its channels stay until it is folded."""
    layer = site.layer
    reason = (
        f"layer '{site.path}' (class BatchWhitening) mixes the channels of a group; "
        "`keras_gcp.methods.fold_bwcp(model)` folds it and cuts what it has closed"
    )
    site.anchor(site.inputs[0], reason)
    if layer.shape_of_groups[1] > 1:
        axis = layer.axis % len(site.input_shapes[0])
        positions = [n for a, n in enumerate(site.input_shapes[0]) if a not in (0, axis)]
        site.macs(layer.moving_whitening, positions)
    return site.inputs[0]


def _identities(shape: Any, dtype: Any = None) -> Any:
    # A tensor of its own: PyTorch writes into what it was given.
    return ops.tile(ops.eye(shape[-1], dtype=dtype)[None], (shape[0], 1, 1))


def _axis(value: Any) -> int:
    found = integer(value)
    if not found:
        raise InvalidArgument(
            "`axis` of BatchWhitening expects an integer other than 0, which is the batch axis. "
            f"Received: {value!r}."
        )
    return found


def _number(name: str, value: Any, low: float, high: float) -> float:
    found = between(value, low, high)
    if found is None or math.isinf(found):
        bounds = "a finite number" if math.isinf(low) else f"a number from {low:g}"
        bounds += "" if math.isinf(high) else f" to {high:g}"
        raise InvalidArgument(f"`{name}` of BatchWhitening expects {bounds}. Received: {value!r}.")
    return found


def _scheduled(name: str, value: Any) -> Any:
    """A positive number, or a schedule, or what `get_config` has made of a schedule."""
    if isinstance(value, Mapping):
        value = keras.saving.deserialize_keras_object(dict(value))
    if isinstance(value, schedules.LearningRateSchedule):
        return value
    found = between(value, 0.0, math.inf)
    if not found or math.isinf(found):
        raise InvalidArgument(
            f"`{name}` of BatchWhitening expects a number above 0, or a schedule of "
            f"`keras.optimizers.schedules`. Received: {value!r}."
        )
    return found


def _value_at(scheduled: Any, step: Any, dtype: str) -> Any:
    return ops.cast(scheduled(step) if callable(scheduled) else scheduled, dtype)
