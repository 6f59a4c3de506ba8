"""What a rule sees and says: one call of one layer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_gcp.channels.channel_ids import Cause, ChannelIds
from keras_gcp.channels.findings import (
    ArgumentSite,
    ConfigSite,
    Count,
    Findings,
    HeldSite,
    LeastSite,
    MacsSite,
    MixingSite,
    Restricted,
    WeightSite,
)
from keras_gcp.graph import Call, Shape, leaves


class Unprunable(Exception):
    """Raised by a rule that cannot follow the channels here; says why."""


class Site:
    """One call of one layer, as a rule sees it.

    Attributes:
        layer: The layer (or `keras.ops` operation).
        path: Its address in the model.
        inputs: The block of channel ids of each input tensor.
        input_shapes: Their shapes, batch axis first.
        output_shapes: Shapes of the outputs.
        repeats: Sizes over which wrappers (`TimeDistributed`) repeat the layer.
    """

    def __init__(self, call: Call, inputs: Sequence[ChannelIds], findings: Findings) -> None:
        self.layer = call.operation
        self.path = call.path
        self.call = call
        self.inputs = list(inputs)
        self.input_shapes: list[Shape] = [x.shape for x in call.inputs]
        self.output_shapes: list[Shape] = [x.shape for x in call.outputs]
        self.repeats: Shape = call.repeats
        self._findings = findings

    # ---- where the channels are

    @property
    def channel_axis(self) -> int:
        """The layer's channel axis (batch axis counted), from its `data_format`."""
        rank = len(self.input_shapes[0])
        data_format = getattr(self.layer, "data_format", "channels_last")
        if data_format is None:  # An operation of `keras.ops` that leaves it to the configuration.
            data_format = keras.config.image_data_format()
        return 1 if data_format == "channels_first" else rank - 1

    def channels(self, index: int = 0, axis: int | None = None) -> ChannelIds:
        """The channel ids along one axis of an input, `(size of the axis,)`.

        Args:
            index: Which input.
            axis: Axis, batch axis counted; the layer's channel axis if None.

        Raises:
            Unprunable: the channel ids also vary along another axis, or the size is unknown.
        """
        axis = self.channel_axis if axis is None else axis
        axis = axis % len(self.input_shapes[index])
        block, size = self.inputs[index], self.input_shapes[index][axis]
        if size is None:
            raise Unprunable("the size of its channel axis is unknown")
        if any(n > 1 for i, n in enumerate(block.shape) if i != axis - 1):
            raise Unprunable("its channels lie along another axis than the one it works on")
        return np.broadcast_to(block.reshape(-1), (size,))

    def along(self, ids: ChannelIds, axis: int, rank: int) -> ChannelIds:
        """A block of a rank-`rank` tensor whose channel ids vary along one axis only."""
        shape = [1] * (rank - 1)
        shape[axis % rank - 1] = len(ids)
        return np.asarray(ids).reshape(shape)

    def output_block(self, ids: ChannelIds) -> ChannelIds:
        """A block with the channel ids on the layer's channel axis of its first output."""
        rank = len(self.output_shapes[0])
        axis = 1 if self.channel_axis == 1 and len(self.input_shapes[0]) > 2 else rank - 1
        return self.along(ids, axis, rank)

    # ---- what happens to them

    def fresh(self, count: int) -> ChannelIds:
        """Channel ids for `count` channels that begin here."""
        return self._findings.space.fresh(count)

    def tie(self, first: ChannelIds, second: ChannelIds) -> None:
        """Channels at equal positions live or die together."""
        self._findings.space.tie(first, second)

    def anchor(self, ids: ChannelIds, reason: str) -> None:
        """These channels stay, for the reason given."""
        self._findings.space.anchor(ids, reason, cause=Cause(self.path, reason))

    # ---- what depends on them

    def weight(
        self,
        variable: Any,
        consumes: Mapping[int, ChannelIds] | None = None,
        produces: Mapping[int, ChannelIds] | None = None,
        carries: Mapping[int, ChannelIds] | None = None,
    ) -> None:
        """Declares what the axes of a weight carry; undeclared axes are of fixed size.

        Args:
            variable: The `keras.Variable`; None (no bias, say) is ignored.
            consumes: Axes over which the layer sums, so that a removed channel vanishes if the
                weight is zero there.
            produces: Axes whose channels begin at this layer.
            carries: Axes that belong to channels passing through (scales, depthwise kernels).
        """
        if variable is None:
            return
        groups = [consumes or {}, produces or {}, carries or {}]
        rank = len(variable.shape)
        axes = {axis % rank: ids for group in groups for axis, ids in group.items()}
        for axis, ids in axes.items():
            if len(ids) != variable.shape[axis]:
                raise ValueError(
                    f"Rule of layer '{self.path}' (class {type(self.layer).__name__}) declares "
                    f"{len(ids)} channel ids for axis {axis} of weight '{variable.name}', whose "
                    f"shape is {tuple(variable.shape)}."
                )
        known = self._findings.weights.get(id(variable))
        if known is not None:
            self._tie_to_other_call(known.axes, axes)
            return
        self._findings.weights[id(variable)] = WeightSite(
            variable,
            self.path,
            axes,
            tuple(axis % rank for axis in groups[0]),
            tuple(axis % rank for axis in groups[1]),
        )

    def _tie_to_other_call(
        self, known: Mapping[int, ChannelIds], axes: Mapping[int, ChannelIds]
    ) -> None:
        """A shared layer: its calls see the same channels, or see none to be pruned."""
        for axis in known.keys() | axes.keys():
            if axis in known and axis in axes:
                self.tie(known[axis], axes[axis])
            else:
                ids = known[axis] if axis in known else axes[axis]
                self.anchor(ids, f"shared layer '{self.path}' also works along other axes")

    def ids_of(self, variable: Any) -> Mapping[int, ChannelIds]:
        """The channel ids along the axes of a weight that was declared before."""
        return self._findings.weights[id(variable)].axes

    def at_least(self, ids: ChannelIds, count: int, reason: str) -> None:
        """An axis that has `count` channels or more must not get narrower than that."""
        if len(ids) >= count:
            self._findings.leasts.append(LeastSite(ids, count, reason))

    def begins(self, ids: ChannelIds) -> None:
        """Names the layer as the producer of these channels: criteria score it."""
        self._findings.produced.setdefault(self.path, ids)

    def count(self, ids: ChannelIds) -> Count:
        """Stands, in `config` and `argument`, for how many of these channels are kept."""
        return Count(ids)

    def stays_in_part(self, ids: ChannelIds) -> None:
        """At least one of these channels stays, so that a slice of a tensor is never empty."""
        self._findings.pieces.append(ids)

    def config(
        self, name: str, value: Any, derived: bool = False, attribute: str | None = ""
    ) -> None:
        """Declares a configuration entry, with `site.count(ids)` where a width stands.

        Args:
            name: Name of the constructor's argument.
            value: Its value; lists, tuples, dicts and slices may hold counts.
            derived: Whether it is an attribute only: the layer finds it out when it is built.
            attribute: Name of the attribute, if it is another one; None if the layer only hands
                out what a layer inside it holds, which is declared there.
        """
        attribute = name if attribute == "" else attribute
        saved_as = None if derived else name
        for site in self._findings.configs:
            same = (site.name, site.attribute) == (saved_as, attribute)
            if site.operation is self.layer and same:
                self._tie_counts(site.value, value)
                return
        self._findings.configs.append(ConfigSite(self.layer, saved_as, attribute, value))

    def argument(self, position: int | str, value: Any) -> None:
        """Declares an argument of this call, counts standing where widths stand.

        Args:
            position: Place among the positional arguments, or the keyword.
            value: Its value, as for `config`.
        """
        node = self.call.node
        for site in self._findings.arguments:
            if site.node is node and site.position == position:
                self._tie_counts(site.value, value)
                return
        self._findings.arguments.append(ArgumentSite(node, position, value))

    def _tie_counts(self, first: Any, second: Any) -> None:
        """Two calls share a layer (or a nested model), so its widths are the same in both."""
        for a, b in zip(leaves(first), leaves(second), strict=True):
            counts = isinstance(a, Count), isinstance(b, Count)
            if counts == (True, True) and len(a.ids) == len(b.ids):
                self.tie(a.ids, b.ids)
            elif any(counts) or a != b:
                self._refuse_both([leaf.ids for leaf in (a, b) if isinstance(leaf, Count)])

    def mixes(self, ids: ChannelIds, restricted: Restricted) -> None:
        """Declares that outputs depend on several of these channels, without weights between.

        Masking such a layer means: it computes from the kept channels alone.

        Args:
            ids: The channels, `(channels,)`.
            restricted: `(which of them count, (channels,) booleans) -> call`: what the layer
                computes from those alone. Where it has an output per channel, the others are 0.
        """
        known = self._findings.mixings.get(id(self.layer))
        if known is None:
            self._findings.mixings[id(self.layer)] = MixingSite(self.layer, ids, restricted)
        elif len(known.ids) == len(ids):
            self.tie(known.ids, ids)
        else:
            self._refuse_both([known.ids])

    def _refuse_both(self, ids: Sequence[ChannelIds]) -> None:
        reason = "it is called twice, on tensors of different widths"
        for one in ids:
            self.anchor(one, f"layer '{self.path}': {reason}")
        raise Unprunable(reason)

    # ---- layers inside the layer

    def part(self, layer: Any, block: ChannelIds | None = None, shape: Shape = ()) -> Site:
        """The site of a layer that this one calls.

        Args:
            layer: The layer inside.
            block: The channel ids of what enters it; None: nothing of it depends on widths.
            shape: Its shape, batch axis first.
        """
        inner = Site(self.call, [], self._findings)
        inner.layer, inner.repeats = layer, self.repeats
        inner.input_shapes, inner.output_shapes = [], []
        if block is not None:
            self._findings.held.append(HeldSite(layer, block, shape))
            inner.inputs, inner.input_shapes = [block], [shape]
        return inner

    def whole(self, shape: Shape, reason: str) -> ChannelIds:
        """The block of an output of this shape whose channels stay, for the reason given."""
        ids = self.fresh(1)
        self.anchor(ids, reason)
        return ids.reshape((1,) * max(len(shape) - 1, 0))

    def inside(self, layer: Any, leading: int = 1) -> Site:
        """The site of a layer that a wrapper calls, for that layer's own rule.

        Args:
            layer: The wrapped layer.
            leading: Number of axes, after the batch axis, over which the wrapper repeats it.
        """
        blocks = []
        for block, shape in zip(self.inputs, self.input_shapes, strict=True):
            if any(size > 1 for size in block.shape[:leading]):
                raise Unprunable("its channels lie along the axis that it repeats over")
            blocks.append(block.reshape(block.shape[leading:]))
            self._findings.held.append(
                HeldSite(layer, blocks[-1], (shape[0], *shape[1 + leading :]))
            )
        inner = Site(self.call, blocks, self._findings)
        inner.layer = layer
        inner.repeats = (*self.repeats, *self.input_shapes[0][1 : 1 + leading])
        inner.input_shapes = [(s[0], *s[1 + leading :]) for s in self.input_shapes]
        inner.output_shapes = [(s[0], *s[1 + leading :]) for s in self.output_shapes]
        return inner

    def macs(
        self, variable: Any, positions: Sequence[int | None], widths: Sequence[ChannelIds] = ()
    ) -> None:
        """Declares multiply-adds: the kernel's entries times the number of positions.

        Args:
            variable: The kernel; None where activations are multiplied with each other.
            positions: Sizes whose product says how often.
            widths: Further axes of tensors, by their channel ids, whose sizes are factors, too.
        """
        sizes = [*self.repeats, *positions]
        known = [size for size in sizes if size is not None]
        total = math.prod(known) if len(known) == len(sizes) else None
        self._findings.macs.append(MacsSite(self.path, variable, total, tuple(widths)))
