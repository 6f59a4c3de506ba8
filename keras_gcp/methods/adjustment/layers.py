"""A network built with some widths, and which of its channels each of them means."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_gcp import keras_state
from keras_gcp.channels.map import ChannelMap, Group
from keras_gcp.channels.trace import trace_at
from keras_gcp.costs.counting import (
    build_cost_model,
    count_map,
    full_widths,
    prunable_groups,
    require_known_positions,
)
from keras_gcp.errors import InvalidArgument
from keras_gcp.sample import DrawnSample, draw_sample
from keras_gcp.sample.input_sizes import sizes_of
from keras_gcp.selection.adjusting import WidthGrid
from keras_gcp.selection.widths import Producer, bounds_of

Build = Callable[[dict[str, int]], Any]


@dataclass(frozen=True, eq=False)
class BuiltNetwork:
    """A network that `build` made.

    Attributes:
        widths: What it was asked for.
        model: The model.
        channels: Its channel map.
        groups: The groups that widths stand for, by name of their layer.
        macs: Its multiply-adds.
        examples: The examples to measure on, as the model takes them.
    """

    widths: Mapping[str, int]
    model: Any
    channels: ChannelMap
    groups: Mapping[str, Group]
    macs: int
    examples: DrawnSample

    @property
    def multiplicities(self) -> np.ndarray:
        """How many channels of each layer stand for one of its group, `(layers,)`."""
        pairs = zip(self.widths.values(), self.groups.values(), strict=True)
        return np.array([width // len(group.coupled) for width, group in pairs], np.int64)

    def macs_of(self) -> Callable[[np.ndarray], float]:
        """Multiply-adds for other widths, `(layers,)`, as far as this network tells them."""
        cost_model, full = build_cost_model(self.channels), full_widths(self.channels)
        position = {group.name: i for i, group in enumerate(prunable_groups(self.channels))}
        own = [position[group.name] for group in self.groups.values()]
        multiplicities = self.multiplicities

        def macs(widths: np.ndarray) -> float:
            kept = full.copy()
            kept[own] = widths // multiplicities
            return float(cost_model.cost("macs", kept))

        return macs

    def grids(self, align: Any, least: int) -> list[WidthGrid]:
        """Which widths the layers may have.

        Args:
            align: As in `keras_gcp.Selection`; "auto" goes by the widths of this network.
            least: The fewest channels of a layer.
        """
        found = []
        for group, times in zip(self.groups.values(), self.multiplicities.tolist(), strict=True):
            producers = [Producer(one.path, one.multiplicity) for one in group.members]
            bounds = bounds_of(
                group.name, producers, len(group.coupled), group.least, align, least, None
            )
            found.append(WidthGrid(bounds.least * times, bounds.step * times))
        return found


def built(build: Build, widths: Mapping[str, int], data: Any, seed: int | None) -> BuiltNetwork:
    """Builds a network, and finds the channels that its widths stand for.

    Args:
        build: Makes it.
        widths: Layer to its number of channels.
        data: What to measure on.
        seed: Seed for drawing that.

    Raises:
        InvalidArgument: what was built does not have these widths, or a width stands for no group
            of channels of its own.
        UnsupportedModel: the model cannot be traced or counted.
    """
    return network_of(build(dict(widths)), widths, data, seed)


def network_of(model: Any, widths: Mapping[str, int], data: Any, seed: int | None) -> BuiltNetwork:
    """`built` of a model that exists already."""
    keras_state.require_functional(model)
    examples = draw_sample(data, None, seed, model)
    channels = trace_at(sizes_of(model, None, examples), model, ())
    require_known_positions(channels)
    groups = {path: _group_of(path, width, channels) for path, width in widths.items()}
    _require_different(groups)
    return BuiltNetwork(
        dict(widths), model, channels, groups, int(count_map(channels).macs or 0), examples
    )


def _group_of(path: str, width: int, channels: ChannelMap) -> Group:
    if path not in channels.produced:
        known = list(channels.produced)
        near = difflib.get_close_matches(path, known, n=4, cutoff=0.4) or known[:8]
        raise InvalidArgument(
            f"`widths` names layer {path!r}, and `build(widths)` made no layer of this name that "
            f"produces channels. Did you mean {', '.join(map(repr, near))}? Give layers names in "
            "`build` (`name=...`) and use these as keys."
        )
    coupled = channels.produced[path]
    if len(coupled) != width:
        raise InvalidArgument(
            f"`build(widths)` made layer '{path}' with {len(coupled)} channels. Expected the "
            f"{width} that `widths` asked for."
        )
    own = [group for group in channels.groups if np.isin(coupled, group.coupled).any()]
    if len(own) != 1:
        shared = sorted({member.path for group in own for member in group.members} - {path})
        raise InvalidArgument(
            f"The channels of layer '{path}' fall into {len(own)} groups: some of them are tied to "
            f"channels of other layers ({', '.join(shared)}), others not, as where a shortcut is "
            "padded. Expected one width for all that is tied together: use projections as "
            "shortcuts."
        )
    if own[0].anchored is not None:
        raise InvalidArgument(
            f"`widths` names layer '{path}', whose channels all stay ({own[0].anchored}). Expected "
            "layers whose width is free."
        )
    return own[0]


def _require_different(groups: Mapping[str, Group]) -> None:
    first: dict[str, str] = {}
    for path, group in groups.items():
        other = first.setdefault(group.name, path)
        if other != path:
            raise InvalidArgument(
                f"Layers '{other}' and '{path}' are tied together (their outputs are added, say), "
                "so they have one width. Expected one of them in `widths`; `build` gives the other "
                "one the same."
            )
