"""Small selection problems drawn at random, and their exact solutions: all widths are tried."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from keras_gcp.costs.cost_model import CostModel, Products, Slopes
from keras_gcp.selection import Candidates

Terms = Sequence[tuple[int, tuple[int, ...]]]
"""Costs as a sum: a factor times the widths of these groups."""


@dataclass(frozen=True, eq=False)
class Case:
    """A problem.

    Attributes:
        groups: What selection chooses from.
        terms: Multiply-adds and parameters, from which `cost_model` is made.
        filters: Output channels per kept channel of each group.
        limits: What may remain, by resource.
    """

    groups: list[Candidates]
    terms: Mapping[str, Terms]
    filters: np.ndarray
    limits: dict[str, float]

    @property
    def cost_model(self) -> CostModel:
        count = len(self.groups)
        every = np.arange(count)
        return CostModel(
            fixed=np.zeros(count),
            slopes=Slopes(every, every, np.ones(count)),
            products={
                resource: Products.of(terms, count) for resource, terms in self.terms.items()
            },
            constants=dict.fromkeys(self.terms, 0),
            filters=self.filters,
        )

    def cost(self, resource: str, widths: np.ndarray) -> np.ndarray:
        """Costs of many networks at once, `(networks, groups)`; a way of its own to count."""
        if resource == "channels":
            return widths @ self.filters
        return sum(
            factor * widths[:, list(places)].prod(axis=1) for factor, places in self.terms[resource]
        )

    def full(self) -> np.ndarray:
        return np.array([group.widths[0] for group in self.groups])

    def least(self) -> np.ndarray:
        return np.array([group.widths[-1] for group in self.groups])

    def all_that_fit(self) -> np.ndarray:
        """All allowed widths within the limits, `(networks, groups)`."""
        grid = np.array(list(itertools.product(*(group.widths for group in self.groups))))
        fits = [self.cost(resource, grid) <= limit for resource, limit in self.limits.items()]
        return grid[np.all(fits, axis=0)]

    def score(self, widths: np.ndarray) -> np.ndarray:
        """Total scores of the best channels of many networks, `(networks,)`."""
        return sum(
            np.array([np.sort(group.scores)[len(group.scores) - n :].sum() for n in column])
            for group, column in zip(self.groups, widths.T, strict=True)
        )

    def with_limits(self, limits: dict[str, float]) -> Case:
        return Case(self.groups, self.terms, self.filters, limits)


def spaced(width: int, step: int) -> tuple[int, ...]:
    """Widths in steps of a number, and the present one."""
    smaller = range((width - 1) // step * step, 0, -step) if width > step else [1] * (width > 1)
    return (width, *smaller)


def random_case(number: int, most_groups: int = 5, most_networks: int = 3000) -> Case:
    """A network of chained, residual or arbitrary wiring, scores of any kind, one to three
    resources.

    The limits lie anywhere between the least widths and the present ones; those of several
    resources lie at about the same part of the way, so that more than one may be binding.
    """
    rng = np.random.default_rng(number)
    while True:
        count, step = int(rng.integers(1, most_groups + 1)), int(rng.choice([1, 1, 2, 4]))
        groups = [_group(i, int(rng.integers(1, 13)), step, rng) for i in range(count)]
        if 1 < np.prod([len(group.widths) for group in groups]) <= most_networks:
            break
    wiring = _wiring(count, rng)
    positions = rng.choice([1, 4, 16, 64], len(wiring))
    terms = {
        "macs": [(int(p) * f, places) for p, (f, places) in zip(positions, wiring, strict=True)],
        "parameters": wiring,
    }
    filters = rng.integers(1, 5, count) if rng.random() < 0.5 else np.ones(count, int)
    case = Case(groups, terms, filters, {})
    resources = rng.permutation(["macs", "parameters", "channels"])[: rng.choice([1, 1, 1, 2, 3])]
    way = rng.uniform(0.02, 0.98)
    return case.with_limits(
        {
            str(resource): limit_at(case, str(resource), way * rng.uniform(0.9, 1))
            for resource in resources
        }
    )


def limit_at(case: Case, resource: str, way: float) -> float:
    """A limit at a part of the way from the least widths to the present ones."""
    least, full = (int(case.cost(resource, x[None])[0]) for x in (case.least(), case.full()))
    return least + way * (full - least)


def chain(widths: Sequence[int], seed: int = 0) -> Case:
    """Convolutions one after the other, each width free, without limits."""
    groups = [
        Candidates(f"g{i}", np.random.default_rng((seed, i)).random(w), spaced(w, 1), w)
        for i, w in enumerate(widths)
    ]
    terms = [(27, (0,)), *((9, (i, i + 1)) for i in range(len(widths) - 1))]
    terms.append((10, (len(widths) - 1,)))
    return Case(groups, {"macs": terms, "parameters": terms}, np.ones(len(widths), int), {})


def _group(index: int, width: int, step: int, rng: np.random.Generator) -> Candidates:
    scores = {
        "even": lambda: rng.random(width),
        "few large ones": lambda: rng.lognormal(0, 1.5, width),
        "many equal ones": lambda: rng.integers(1, 4, width).astype(float),
        "layers differ": lambda: rng.random(width) * rng.lognormal(0, 1.5),
        "some almost zero": lambda: rng.random(width) ** 3,
    }
    kind = str(rng.choice(list(scores)))
    return Candidates(f"g{index}", scores[kind](), spaced(width, step), width)


def _wiring(count: int, rng: np.random.Generator) -> list[tuple[int, tuple[int, ...]]]:
    others = range(1, count)
    ends = [(27, (0,)), (10, (count - 1,))]
    kind = rng.choice(["chain", "residual", "any"])
    if kind == "chain":
        return [*ends, *((9, (i - 1, i)) for i in others)]
    if kind == "residual":  # group 0 is the stream
        return [*ends, *((9, (0, i)) for i in others), *((9, (i, 0)) for i in others)]
    places = [rng.integers(0, count, rng.integers(1, 3)).tolist() for _ in range(2 * count)]
    return [*((10, (i,)) for i in range(count)), *((9, tuple(p)) for p in places)]
