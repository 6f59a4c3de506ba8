"""Counts what a model costs, from its channel map."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from keras_gcp.channels.findings import MacsSite
from keras_gcp.channels.grouping import owners_of
from keras_gcp.channels.map import ChannelMap, Group
from keras_gcp.channels.trace import trace_at
from keras_gcp.costs.cost_model import CostFunction, CostModel, Products, Slopes
from keras_gcp.costs.costs import LayerCosts, ModelCosts
from keras_gcp.errors import UnsupportedModel
from keras_gcp.graph import Shape
from keras_gcp.sample.input_sizes import sizes_of


def count(model: Any, exclude: Sequence[str] = (), input_shape: Any = None) -> ModelCosts:
    """Counts multiply-adds, parameters and channels of a model.

    Args:
        model: A built functional or sequential `keras.Model`.
        exclude: As in `keras_gcp.plan`. The multiply-adds of a layer that hides other layers, and
            is named here, are not counted.
        input_shape: The size to count at, if the model leaves sizes of its input open
            (`keras.Input((None, None, 3))`): a tuple without the batch axis, such as
            `(224, 224, 3)`; for several inputs a list of tuples in the order of `model.inputs`, or
            a dict by their names.

    Returns:
        A `ModelCosts` with `.macs` (multiply-adds of convolutions, dense and recurrent layers and
        attention for one example), `.activation_macs` (those of them without a kernel: attention
        and matrix products of activations), `.parameters` (`model.count_params()`), `.weights`
        (kernels only, the papers' count), `.channels` (prunable output channels), and `.layers`,
        the same per layer. `.uncounted` names the layers whose multiply-adds are left out, each
        with the reason: layers that hide others, and layers with code of their own (`Lambda`s).
        `.macs` is None where sizes are unknown; all else needs none.

    Raises:
        UnsupportedModel: the model has no functional graph, or hides layers inside others.
        InvalidArgument: `input_shape` does not fit the model.

    Example:

    >>> model = keras_gcp.models.resnet20(shortcut="pad")
    >>> keras_gcp.count(model).macs
    40551040
    """
    return count_map(trace_at(sizes_of(model, input_shape), model, exclude))


def count_map(channels: ChannelMap, resources: Sequence[Resource] = ()) -> ModelCosts:
    """`count` for a model that is traced already, in further resources, too."""
    unknown = {site.path for site in channels.macs if site.positions is None}
    layers: dict[str, LayerCosts] = {}
    macs: dict[str, int] = defaultdict(int)
    between: dict[str, int] = defaultdict(int)
    kernels: dict[str, dict[int, int]] = defaultdict(dict)
    for site in channels.macs:
        shape = () if site.variable is None else site.variable.shape
        times = (site.positions or 0) * math.prod(len(coupled) for coupled in site.widths)
        macs[site.path] += times * math.prod(shape)
        if site.variable is None:
            between[site.path] += times
        else:
            kernels[site.path][id(site.variable)] = math.prod(shape)
    seen: set[int] = set()
    for call in channels.graph.calls:
        owned = [v for v in call.weights if id(v) not in seen]
        seen.update(id(v) for v in owned)
        if owned or call.path in macs:
            old = layers.get(call.path, LayerCosts(0, 0, 0))
            layers[call.path] = LayerCosts(
                None if call.path in unknown else macs[call.path],
                old.parameters + sum(math.prod(v.shape) for v in owned),
                sum(kernels[call.path].values()),
                None if call.path in unknown else between[call.path],
            )
    # A kernel that several layers share is one set of weights.
    unique = {key: size for sizes in kernels.values() for key, size in sizes.items()}
    return ModelCosts(
        macs=None if unknown else sum(macs.values()),
        parameters=channels.model.count_params(),
        weights=sum(unique.values()),
        channels=int(sum(channels.prunable[c].sum() for c in channels.produced.values())),
        layers=layers,
        further=_further(channels, resources),
        activation_macs=None if unknown else sum(between.values()),
        uncounted=dict(channels.uncounted),
    )


def _further(channels: ChannelMap, resources: Sequence[Resource]) -> dict[str, float]:
    if not resources:
        return {}
    cost_model, full = build_cost_model(channels, resources), full_widths(channels)
    return {resource.name: cost_model.cost(resource.name, full) for resource in resources}


def require_known_positions(channels: ChannelMap) -> None:
    """Refuses models whose multiply-adds are undefined."""
    unknown = [site.path for site in channels.macs if site.positions is None]
    if not unknown:
        return
    shapes = channels.counted.input_sizes
    if any(None in shape for shape in shapes):
        raise UnsupportedModel(
            f"The number of positions at which layer '{unknown[0]}' is applied is unknown, because "
            f"the model leaves sizes of its input open, {', '.join(map(str, shapes))}; so "
            "multiply-adds are undefined. Expected the size to count at: pass `input_shape=` "
            "(without the batch axis, such as `input_shape=(224, 224, 3)`), or examples as "
            "`sample=`. The model itself keeps its open sizes. Budgets in 'parameters' and "
            "'channels' need no size."
        )
    raise UnsupportedModel(
        f"The number of positions at which layer '{unknown[0]}' is applied is unknown: it depends "
        "on the values that go in, not on their shape alone, as the length of a text does "
        "(`TextVectorization` without `output_sequence_length`); so multiply-adds are undefined. "
        "Expected a fixed length there, or a budget in 'parameters' or 'channels'."
    )


def prunable_groups(channels: ChannelMap) -> tuple[Group, ...]:
    """The groups that may be pruned, in network order."""
    return tuple(group for group in channels.groups if group.anchored is None)


def full_widths(channels: ChannelMap) -> np.ndarray:
    """Channels of each prunable group, `(groups,)`."""
    return np.array([len(group.coupled) for group in prunable_groups(channels)], np.int64)


class Resource(Protocol):
    """A further resource: how it counts a traced model at any width."""

    @property
    def name(self) -> str:
        """Its name in a budget."""
        ...

    def function(self, channels: ChannelMap, axes: Axes) -> CostFunction:
        """The cost as a function of the sizes of the axes."""
        ...


def build_cost_model(channels: ChannelMap, resources: Sequence[Resource] = ()) -> CostModel:
    """The model's costs as a function of the kept channels of each prunable group.

    Args:
        channels: The model's channel map.
        resources: Resources to count in besides multiply-adds, parameters and channels.
    """
    groups = prunable_groups(channels)
    axes = Axes(channels.coupled_count, groups)
    axes_of = {
        key: {axis: axes.add(coupled) for axis, coupled in weight.axes.items()}
        for key, weight in channels.weights.items()
    }
    functions = {resource.name: resource.function(channels, axes) for resource in resources}
    varying = sum(math.prod(w.variable.shape) for w in channels.weights.values())
    products = {
        "parameters": [
            _term(1, weight.variable, axes_of[key]) for key, weight in channels.weights.items()
        ]
    }
    if all(site.positions is not None for site in channels.macs):
        macs = [(site.variable is None, _macs_term(site, axes_of, axes)) for site in channels.macs]
        products["macs"] = [term for _, term in macs]
        products["activation_macs"] = [term for between, term in macs if between]
    constants = {
        "macs": 0,
        "activation_macs": 0,
        "parameters": channels.model.count_params() - varying,
    }
    return CostModel(
        fixed=np.array(axes.fixed, np.float64),
        slopes=axes.slopes(),
        products={
            resource: Products.of(terms, len(axes.fixed)) for resource, terms in products.items()
        },
        constants=constants,
        filters=np.array([sum(m.multiplicity for m in g.members) for g in groups], np.int64),
        functions=functions,
    )


class Axes:
    """The different axes of all weights and tensors: most are those of several."""

    def __init__(self, coupled_count: int, groups: Sequence[Group]) -> None:
        self.fixed: list[int] = []
        self._known: dict[bytes, int] = {}
        self._group_of = owners_of(coupled_count, [group.coupled for group in groups])
        self._group_sizes = np.array([len(group.coupled) for group in groups], np.float64)
        self._groups: list[np.ndarray] = []
        self._positions: list[np.ndarray] = []

    def add(self, coupled: np.ndarray) -> int:
        """The number of the axis with these coupled channels."""
        key = coupled.tobytes()
        if key not in self._known:
            self._known[key] = len(self.fixed)
            owners = self._group_of[coupled]
            groups, positions = np.unique(owners[owners >= 0], return_counts=True)
            self._groups.append(groups)
            self._positions.append(positions)
            self.fixed.append(len(owners) - int(positions.sum()))
        return self._known[key]

    def of_tensor(self, block: np.ndarray, shape: Shape) -> tuple[int, tuple[int, ...]]:
        """The elements of a tensor for one example: a fixed factor, and axes that depend on widths.

        Args:
            block: Its coupled channels, a block of the tensor's rank without the batch axis.
            shape: Its shape, batch axis first; all other sizes known.
        """
        factor, found = 1, []
        for axis, size in enumerate(shape[1:]):
            line = np.moveaxis(block, axis, 0).reshape(block.shape[axis], -1)
            coupled = line[:, 0]
            varies = len(coupled) > 1 and bool((coupled != coupled[0]).any())
            if varies and (coupled.tobytes() in self._known or self._is_even(coupled)):
                found.append(self.add(coupled))
            else:
                factor *= size or 1
        return factor, tuple(found)

    def _is_even(self, coupled: np.ndarray) -> bool:
        """Whether the axis is linear in the kept channels of every group: so are those of weights.

        An axis of a tensor that is not counts in full, which is never too little.
        """
        owners = self._group_of[coupled]
        present = np.unique(owners[owners >= 0])
        each, counts = np.unique(coupled[owners >= 0], return_counts=True)
        return all(
            (self._group_of[each] == group).sum() == self._group_sizes[group]
            and len(np.unique(counts[self._group_of[each] == group])) == 1
            for group in present
        )

    def slopes(self) -> Slopes:
        """How the axes depend on the groups."""
        none = np.zeros(0, np.int64)
        groups = np.concatenate([none, *self._groups])
        return Slopes(
            axes=np.repeat(np.arange(len(self.fixed)), [len(g) for g in self._groups]),
            groups=groups,
            values=np.concatenate([none, *self._positions]) / self._group_sizes[groups],
        )


def _macs_term(
    site: MacsSite, axes_of: Mapping[int, dict[int, int]], axes: Axes
) -> tuple[int, list[int]]:
    """Multiply-adds as a fixed factor and axes."""
    factor, found = site.positions or 0, [axes.add(coupled) for coupled in site.widths]
    if site.variable is None:
        return factor, found
    factor, own = _term(factor, site.variable, axes_of.get(id(site.variable), {}))
    return factor, [*found, *own]


def _term(factor: int, variable: Any, axes: dict[int, int]) -> tuple[int, list[int]]:
    free = [size for axis, size in enumerate(variable.shape) if axis not in axes]
    return factor * math.prod(free), list(axes.values())
