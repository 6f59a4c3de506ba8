"""What a network costs, as a function of how many channels each group keeps.

Multiply-adds and parameters are sums of products: the multiply-adds of a convolution are positions
times kernel size times channels in times filters; a weight's size is the product of its axes. Each
axis is a fixed number plus a linear function of the groups' kept channels. Other resources bring a
function of the axes' sizes (`keras_gcp.resources.cost_functions`). No cost ever falls when a group
keeps more channels; selection relies on that. Sees numbers only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

ALWAYS = ("macs", "parameters", "channels")
"""Resources in which every model is counted."""

FURTHER = (
    "tflite_bytes",
    "tflite_bytes_int8",
    "peak_activation_bytes",
    "peak_activation_bytes_int8",
    "latency_ms",
)
"""Resources in which a model is counted only where a budget names them."""

PREDICTED = ("tflite_bytes", "tflite_bytes_int8", "latency_ms")
"""Resources that are predicted while selecting, and then measured on a real file."""

RESOURCES = ALWAYS + FURTHER
"""What a budget can be counted in."""


def in_words(resource: str) -> str:
    """A resource as it is printed."""
    return "MACs" if resource == "macs" else resource


def left_out(uncounted: Mapping[str, str], most: int | None = None) -> list[str]:
    """Lines that name what a number of multiply-adds leaves out; none if it is all of them.

    Args:
        uncounted: Layer to why its multiply-adds are not counted.
        most: Number of layers to name.

    Example:

    >>> left_out({"a": "layer 'a' (class Own)", "b": "layer 'b' (class Own)"}, most=1)
    ["not counted in MACs: layer 'a' (class Own); nor 1 more layer"]
    """
    named = list(uncounted.values())[:most]
    lines = [f"not counted in MACs: {why}" for why in named]
    more = len(uncounted) - len(named)
    if more:
        lines[-1] += f"; nor {more} more layer{'' if more == 1 else 's'}"
    return lines


@dataclass(frozen=True, eq=False)
class Products:
    """A sum of products of axis sizes.

    Attributes:
        factors: `(terms,)`, the fixed factor of every product.
        axes: `(terms, most axes)`, indices into the sizes; the index one past the last axis
            stands for the size 1.
    """

    factors: np.ndarray
    axes: np.ndarray

    @staticmethod
    def of(terms: Sequence[tuple[float, Sequence[int]]], axis_count: int = -1) -> Products:
        """Builds it from pairs (fixed factor, axes); -1 is the size 1 at the end, too."""
        most = max((len(axes) for _, axes in terms), default=0)
        padded = [list(axes) + [axis_count] * (most - len(axes)) for _, axes in terms]
        return Products(
            np.array([factor for factor, _ in terms], np.float64),
            np.array(padded, np.int64).reshape(len(terms), most),
        )

    def total(self, sizes: np.ndarray) -> int:
        """The sum for given axis sizes (1 appended); exact below 2**53."""
        return int((self.factors * sizes[self.axes].prod(axis=1)).sum())

    def of_terms(self, terms: np.ndarray, sizes: np.ndarray) -> int:
        """The sum over some of the terms only."""
        return int((self.factors[terms] * sizes[self.axes[terms]].prod(axis=1)).sum())

    def gradient(self, sizes: np.ndarray) -> np.ndarray:
        """Derivative of the sum by the size of every axis, `(axes,)`, at given sizes."""
        found = np.zeros(len(sizes))
        for place in range(self.axes.shape[1]):
            others = np.delete(self.axes, place, axis=1)
            rest = self.factors * sizes[others].prod(axis=1)
            found += np.bincount(self.axes[:, place], rest, minlength=len(sizes))
        return found[:-1]  # The last one is the 1 at the end.


class CostFunction(Protocol):
    """A cost as a function of the sizes of all axes; it must not fall when an axis grows."""

    def total(self, sizes: np.ndarray) -> float:
        """The cost for given axis sizes (1 appended)."""
        ...


@dataclass(frozen=True, eq=False)
class Slopes:
    """How axes depend on groups: an axis has `slope` positions per kept channel of a group.

    An axis depends on few groups, so only the pairs that occur are listed.

    Attributes:
        axes: `(pairs,)`.
        groups: `(pairs,)`.
        values: `(pairs,)`, the slopes.
    """

    axes: np.ndarray
    groups: np.ndarray
    values: np.ndarray

    def sizes(self, kept: np.ndarray, axis_count: int) -> np.ndarray:
        """What the groups contribute to every axis."""
        return np.bincount(self.axes, self.values * kept[self.groups], minlength=axis_count)


@dataclass(frozen=True, eq=False)
class CostModel:
    """The costs of a network for any number of kept channels per group.

    Attributes:
        fixed: `(axes,)`, positions of each axis that belong to no prunable group.
        slopes: Positions of each axis per kept channel of each group.
        products: Sums of products by resource: `macs`, the `activation_macs` among them (both
            unless sizes are unknown), and `parameters`.
        constants: What each resource counts besides (weights without channels).
        filters: `(groups,)`, output channels of producing layers per kept channel of each group.
        functions: What further resources count, as functions of the axes' sizes.
    """

    fixed: np.ndarray
    slopes: Slopes
    products: Mapping[str, Products]
    constants: Mapping[str, int]
    filters: np.ndarray
    functions: Mapping[str, CostFunction] = field(default_factory=dict)

    def counts(self, resource: str) -> bool:
        """Whether the cost in a resource is known."""
        return resource == "channels" or resource in self.functions or resource in self.products

    def cost(self, resource: str, kept: np.ndarray) -> int | float:
        """The cost in a resource when group g keeps `kept[g]` channels."""
        if resource == "channels":
            return int(self.filters @ kept)
        if resource in self.functions:
            return self.functions[resource].total(self.sizes(kept))
        return self.constants[resource] + self.products[resource].total(self.sizes(kept))

    def derivative(self, resource: str, kept: np.ndarray) -> np.ndarray:
        """What one more channel of each group costs at the margin, `(groups,)`.

        Of the polynomial that a sum of products is in the widths: the layers that produce the
        channels and all that read them take part. Where a width is multiplied by itself (a
        convolution between tied layers), one whole channel more costs a little more than that.

        Args:
            resource: `"channels"`, or one that is a sum of products.
            kept: Channels per group; also more than the model has.
        """
        if resource == "channels":
            return self.filters.astype(np.float64)
        by_axis = self.products[resource].gradient(self.sizes(kept))
        weighted = self.slopes.values * by_axis[self.slopes.axes]
        return np.bincount(self.slopes.groups, weighted, minlength=len(self.filters))

    def bottleneck(self, resource: str, kept: np.ndarray) -> str | None:
        """The layer that alone decides what this costs, for resources that are a maximum."""
        find = getattr(self.functions.get(resource), "bottleneck", None)
        return None if find is None else find(self.sizes(kept))

    def sizes(self, kept: np.ndarray) -> np.ndarray:
        """The size of every axis, and 1 at the end."""
        return np.append(self.fixed + self.slopes.sizes(kept, len(self.fixed)), 1.0)


class IncrementalCost:
    """What a network costs while one group after the other grows.

    For sums of products, the time of a step grows with the group's places in the network, and not
    with the network's size; functions of further resources are computed again.

    Args:
        cost_model: The costs.
        kept: Kept channels per group at the start.
        limits: What may remain, by resource.
    """

    def __init__(
        self, cost_model: CostModel, kept: np.ndarray, limits: Mapping[str, float]
    ) -> None:
        self._cost_model, self._limits = cost_model, limits
        self._sizes = cost_model.sizes(kept)
        self._costs = {resource: cost_model.cost(resource, kept) for resource in limits}
        self._pairs_of = _positions_by_value(cost_model.slopes.groups, len(cost_model.filters))
        self._terms_of = {
            resource: _terms_by_group(cost_model, resource, self._pairs_of)
            for resource in limits
            if resource in cost_model.products
        }

    def grow(self, group: int, more: int) -> bool:
        """Lets a group keep `more` channels more, if all limits hold then; says whether."""
        slopes, pairs = self._cost_model.slopes, self._pairs_of[group]
        costs = {
            resource: cost - self._part(resource, group) for resource, cost in self._costs.items()
        }
        self._sizes[slopes.axes[pairs]] += slopes.values[pairs] * more
        added = {"channels": int(self._cost_model.filters[group]) * more}
        for resource in costs:
            if resource in self._cost_model.functions:
                costs[resource] = self._cost_model.functions[resource].total(self._sizes)
            else:
                costs[resource] += self._part(resource, group) + added.get(resource, 0)
        fits = all(costs[resource] <= limit for resource, limit in self._limits.items())
        if fits:
            self._costs = costs
        else:
            self._sizes[slopes.axes[pairs]] -= slopes.values[pairs] * more
        return fits

    def _part(self, resource: str, group: int) -> int:
        """The products in which the group has a place."""
        if resource not in self._terms_of:
            return 0
        return self._cost_model.products[resource].of_terms(
            self._terms_of[resource][group], self._sizes
        )


def _positions_by_value(values: np.ndarray, count: int) -> list[np.ndarray]:
    """For every integer below `count`, where it stands among the values."""
    order = np.argsort(values, kind="stable")
    return np.split(order, np.searchsorted(values[order], np.arange(1, count)))


def _terms_by_group(
    cost_model: CostModel, resource: str, pairs_of: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """For every group, the products with an axis that depends on it."""
    axes = cost_model.products[resource].axes
    flat_of = _positions_by_value(axes.ravel(), len(cost_model.fixed) + 1)
    terms_of = [flat // max(axes.shape[1], 1) for flat in flat_of]
    none = np.zeros(0, np.int64)
    return [
        np.unique(
            np.concatenate([none, *(terms_of[axis] for axis in cost_model.slopes.axes[pairs])])
        )
        for pairs in pairs_of
    ]
