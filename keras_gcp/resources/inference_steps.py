"""What remains of a network's calls in a file for inference.

A converter drops layers that do nothing at inference, folds a batch normalization into the
convolution or dense layer in front of it, lets a layer apply the clipping activation after it, and
a convolution pad for itself where a layer in front of it pads as `padding="same"` would. What is
left are steps, each with the tensors that it reads and writes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
from keras import layers

from keras_gcp import keras_state
from keras_gcp.channels.inert import INERT
from keras_gcp.channels.map import ChannelMap
from keras_gcp.channels.opaque import WITH_KERNEL
from keras_gcp.errors import UnsupportedModel
from keras_gcp.graph import Call, Graph, Tensor

# Layers and operations, besides those with kernels, that a file lets clip what they compute.
_CLIPPING: frozenset[str] = frozenset(
    {"Add", "AveragePooling2D", "MaxPooling2D", "Multiply", "Subtract"}
)


@dataclass
class Step:
    """One operation of the file.

    Attributes:
        call: The call that it stands for.
        reads: Tensors that it reads, by index.
        writes: Tensors that it writes.
        parts: Calls after it that are part of it.
        clipped: Whether an activation is among them.
    """

    call: Call
    reads: tuple[int, ...]
    writes: tuple[Tensor, ...]
    parts: list[Call] = field(default_factory=list)
    clipped: bool = False


def steps_of(channels: ChannelMap, at_any_size: bool = False) -> list[Step]:
    """The operations of a file for inference, in the order in which they are executed.

    Args:
        channels: The channel map.
        at_any_size: Whether sizes may be unknown: where only weights are counted.

    Raises:
        UnsupportedModel: a tensor has unknown sizes besides the batch.
    """
    graph = channels.counted
    if not at_any_size:
        require_known_sizes(graph)
    kernels = with_kernel(channels)
    silent = _silent(channels)
    same = _handed_through(graph, silent)
    working = [call for call in graph.calls if id(call) not in silent]
    readers = Counter(same(x) for call in working for x in call.inputs)
    ends = {same(x) for x in graph.outputs}
    found: list[Step] = []
    writer: dict[int, Step] = {}
    for call in working:
        source = same(call.inputs[0]) if len(call.inputs) == 1 else None
        step = writer.get(source) if source is not None else None
        alone = source is not None and readers[source] == 1 and source not in ends
        if step is not None and alone and _becomes_part(call, step, kernels):
            step.parts.append(call)
            step.clipped = step.clipped or not is_batch_normalization(call)
            step.writes = call.outputs
        else:
            step = Step(call, tuple(same(x) for x in call.inputs), call.outputs)
            found.append(step)
        writer.update((same(x), step) for x in call.outputs)
    return found


def with_kernel(channels: ChannelMap) -> set[str]:
    """Paths of the convolutions and dense layers, into which a file folds what follows."""
    layer_of = {call.path: call.operation for call in channels.graph.calls}
    paths = {site.path for site in channels.macs}
    return {p for p in paths if isinstance(keras_state.innermost(layer_of[p]), WITH_KERNEL)}


def require_known_sizes(graph: Graph) -> None:
    """Refuses graphs in which a size other than the batch is unknown."""
    for call in graph.calls:
        for x in (*call.inputs, *call.outputs):
            if None in x.shape[1:]:
                raise UnsupportedModel(
                    f"Layer '{call.path}' (class {type(call.operation).__name__}) reads or writes "
                    f"a tensor of shape {x.shape}: its bytes and its time are undefined. Expected "
                    "the size of the input to be known: pass `input_shape=` (without the batch "
                    "axis, such as `input_shape=(224, 224, 3)`), or examples as `sample=`."
                )


def is_batch_normalization(call: Call) -> bool:
    """Whether a call is one of a batch normalization."""
    return type(call.operation) is layers.BatchNormalization


def _does_nothing(call: Call) -> bool:
    return type(call.operation) in INERT and len(call.inputs) == len(call.outputs) == 1


def _silent(channels: ChannelMap) -> set[int]:
    """The calls, by `id`, that are not operations of the file: what leaves is what enters."""
    kernels = with_kernel(channels)
    calls = channels.counted.calls
    readers = channels.counted.readers
    ends = {x.index for x in channels.counted.outputs}
    found = {id(call) for call in calls if _does_nothing(call)}
    for call in calls:
        if type(call.operation) is layers.ZeroPadding2D:
            (padded,) = call.outputs
            readers_here = readers.get(padded.index, [])
            if len(readers_here) == 1 and padded.index not in ends:
                (reader,) = readers_here
                if reader.path in kernels and _pads_as_same(call, reader):
                    found.add(id(call))
    return found


def _pads_as_same(pad: Call, call: Call) -> bool:
    """Whether a convolution after the padding is one with `padding="same"` without it."""
    layer = call.operation
    plain = (
        getattr(layer, "padding", None) == "valid"
        and layer.data_format == pad.operation.data_format == "channels_last"
        and set(layer.dilation_rate) == {1}
    )
    return plain and all(
        tuple(padding) == _same_padding(size or 0, window, stride)
        for padding, size, window, stride in zip(
            pad.operation.padding,
            pad.inputs[0].shape[1:3],
            layer.kernel_size,
            layer.strides,
            strict=True,
        )
    )


def _same_padding(size: int, window: int, stride: int) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + window - size, 0)
    return total // 2, total - total // 2


def _handed_through(graph: Graph, silent: Collection[int]) -> Callable[[Tensor], int]:
    """Tensor to the index of the tensor that it is a second name of."""
    alias: dict[int, int] = {}
    for call in graph.calls:
        if id(call) in silent:
            source = call.inputs[0].index
            alias[call.outputs[0].index] = alias.get(source, source)
    return lambda x: alias.get(x.index, x.index)


def _becomes_part(call: Call, step: Step, kernels: Collection[str]) -> bool:
    has_kernel = step.call.path in kernels
    if step.clipped or not _is_linear(step.call.operation):
        return False
    if is_batch_normalization(call):
        return has_kernel
    kind = type(step.call.operation).__name__
    return _clips(call.operation) and (has_kernel or kind in _CLIPPING)


def _is_linear(operation: Any) -> bool:
    return getattr(operation, "activation", None) in (None, keras.activations.linear)


def _clips(operation: Any) -> bool:
    """Whether a file can let another operation apply this activation."""
    if type(operation).__name__ in _CLIPPING_OPERATIONS:
        return True
    test = _CLIPS.get(type(operation))
    return test is not None and test(operation)


def _plain_relu(layer: Any) -> bool:
    return not layer.negative_slope and not layer.threshold and layer.max_value in (None, 6)


_CLIPPING_OPERATIONS = frozenset({"Relu", "Relu6"})
"""Of `keras.ops`; their classes are private."""

_CLIPS: Mapping[type, Callable[[Any], bool]] = {
    layers.ReLU: _plain_relu,
    layers.Activation: lambda layer: (
        layer.activation
        in (keras.activations.relu, keras.activations.relu6, keras.activations.linear)
    ),
}


def lifetimes(
    steps: Sequence[Step], channels: ChannelMap
) -> tuple[list[Tensor], list[tuple[int, int]]]:
    """Which tensors the steps need in memory, and when.

    A tensor lives from the step that writes it to the last one that reads it, inputs of the model
    from the first step on, outputs to the last. Nothing is computed in place.

    A model that is repeated runs for one step of time after the other, so that its own tensors are
    needed for one of them. What enters it and what leaves it is there all the while; and both are
    copied, since a file has the steps first and the examples second there.

    Returns:
        The tensors, and for each its first and its last step.
    """
    graph = channels.counted
    same = _handed_through(graph, _silent(channels))
    last = max(len(steps) - 1, 0)
    tensors = list(graph.inputs)
    begins = [0] * len(tensors)
    ends = dict.fromkeys((same(x) for x in tensors), 0)
    copies: list[tuple[Tensor, int]] = []
    entered: list[int] = []  # Where models begin that are repeated, and have not ended yet.
    for i, step in enumerate(steps):
        begin = end = i
        if isinstance(step.call.operation, keras_state.StepsAsExamples):
            begin = i + 1
            entered.append(i)
            copies.append((step.call.inputs[0], i))
        elif isinstance(step.call.operation, keras_state.ExamplesAsSteps):
            first = entered.pop()
            begin, end = first + 1, i - 1
            ends.update((index, max(ends[index], end)) for index in steps[first].reads)
            copies.append((step.call.outputs[0], i))
        for x in step.writes:
            tensors.append(x)
            begins.append(begin)
            ends[same(x)] = i
        for index in step.reads:
            ends[index] = max(ends[index], end)
    for x in graph.outputs:
        ends[same(x)] = last
    lives = [(begin, ends[same(x)]) for x, begin in zip(tensors, begins, strict=True)]
    return [*tensors, *(x for x, _ in copies)], [*lives, *((i, i) for _, i in copies)]
