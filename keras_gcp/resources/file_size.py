"""Bytes of the exported TFLite file: predicted from the weights, corrected by real files."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from keras_gcp.channels.map import ChannelMap
from keras_gcp.costs.cost_model import Products
from keras_gcp.costs.counting import Axes
from keras_gcp.graph import Call, Shapes
from keras_gcp.resources.cost_functions import Sum
from keras_gcp.resources.inference_steps import Step, is_batch_normalization, steps_of, with_kernel
from keras_gcp.resources.tflite_files import converted_bytes

Term = tuple[float, tuple[int, ...]]


@dataclass(frozen=True)
class FileSize:
    """What a file of the model takes.

    Counted are: every kernel and every other weight that survives conversion; one number per
    output channel of a convolution (its bias, into which a batch normalization is folded), two per
    channel of a batch normalization that stands alone. The rest of the file (operators, names) is
    the difference to a real file of the original model, and does not depend on the widths.

    Attributes:
        name: Its name in a budget.
        kind: The format, as in `keras_gcp.export`.
        weight_bytes: Bytes of a weight.
        channel_bytes: Bytes for each output channel of a layer with a kernel: its bias, and its
            scale and zero point in an int8 file.
        rest: Bytes of the file besides the weights.
        shapes: Sizes of the inputs in the file, if the model leaves them open.
    """

    name: str
    kind: str
    weight_bytes: int
    channel_bytes: int
    rest: float = 0.0
    shapes: Shapes | None = None

    scatters: ClassVar[bool] = False

    def function(self, channels: ChannelMap, axes: Axes) -> Sum:
        """The bytes as a function of the sizes of the axes."""
        return Sum(self.rest, Products.of(list(self._terms(channels, axes))))

    def measure(self, model: Any) -> float:
        """Bytes of a real file."""
        return converted_bytes(model, self.kind, self.shapes)

    def corrected(self, predicted: float, measured: float) -> FileSize:
        """So that the prediction would have been what was measured."""
        return replace(self, rest=self.rest + measured - predicted)

    def is_close(self, measured: float, limit: float) -> bool:
        """Never: selecting again with the corrected prediction shows what still fits."""
        return False

    def _terms(self, channels: ChannelMap, axes: Axes) -> Iterator[Term]:
        seen: set[int] = set()
        kernels = with_kernel(channels)
        for step in steps_of(channels, at_any_size=True):
            folded = any(is_batch_normalization(part) for part in step.parts)
            has_kernel = step.call.path in kernels
            yield from self._weights(step.call, channels, axes, seen, has_kernel)
            if has_kernel and (folded or _has_bias(step)) and id(step.call.operation) not in seen:
                seen.add(id(step.call.operation))
                factor, varying = axes.of_tensor(*_channels_only(step, channels))
                yield (factor * self.channel_bytes, varying)

    def _weights(
        self, call: Call, channels: ChannelMap, axes: Axes, seen: set[int], has_kernel: bool
    ) -> Iterator[Term]:
        operation = call.operation
        bias = getattr(operation, "bias", None) if has_kernel else None
        weights = call.weights
        if is_batch_normalization(call):
            weights = [operation.moving_mean, operation.moving_variance]
        for variable in weights:
            if id(variable) in seen or variable is bias:
                continue
            seen.add(id(variable))
            known = channels.weights.get(id(variable))
            axes_with_channels = known.axes if known else {}
            fixed = [n for axis, n in enumerate(variable.shape) if axis not in axes_with_channels]
            yield (
                math.prod(fixed) * self.weight_bytes,
                tuple(axes.add(coupled) for coupled in axes_with_channels.values()),
            )


def _has_bias(step: Step) -> bool:
    """A file gives every convolution a bias; a dense layer has one if the model says so."""
    is_map = len(step.call.outputs[0].shape) > 2
    return is_map or getattr(step.call.operation, "bias", None) is not None


def _channels_only(step: Step, channels: ChannelMap) -> tuple[Any, tuple[int | None, ...]]:
    """The output of a step as if it had a single position."""
    block = channels.tensors[step.call.outputs[0].index]
    shape = step.call.outputs[0].shape
    narrow = [n if size > 1 else 1 for n, size in zip(shape[1:], block.shape, strict=True)]
    return block, (shape[0], *narrow)
