"""Selection: scores, budget, floors and alignment to keep-arrays. Sees numbers only.

One global ranking: blocks of channels (one channel, or as many as alignment asks for) leave in
the order of their mean score until the budget holds; then removed blocks come back, best first,
as long as it still holds. So the budget is met, and no single block could be put back.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from keras_gcp.costs import Ledger, Meter, amount
from keras_gcp.errors import ImpossibleBudget, InvalidArgument

AUTO_BLOCK = 8
AUTO_LEAST_WIDTH = 16
DEFAULT_FLOOR = 0.1

Holds = Callable[[np.ndarray], bool]
"""Whether the budget holds for these numbers of kept channels per group."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """The channels of one prunable group.

    Attributes:
        name: The group's name.
        scores: `(channels,)`, larger = keep.
        multiplicity: Output channels of a layer per channel of the group (grouped convolution).
        original: Channels the group had in the original model.
        least: Channels that it must keep, whatever the floor.
    """

    name: str
    scores: np.ndarray
    multiplicity: int
    original: int
    least: int = 1


@dataclass(frozen=True)
class Block:
    """Channels that leave together: the group shrinks from `upper` to `lower` channels."""

    score: float
    group: int
    upper: int
    lower: int


def select(
    groups: Sequence[Candidates],
    ledger: Ledger,
    limits: Mapping[str, float],
    align: str | int = "auto",
    floor: int | float = DEFAULT_FLOOR,
) -> list[np.ndarray]:
    """Chooses which channels stay.

    Args:
        groups: The prunable groups.
        ledger: Costs for any number of kept channels per group.
        limits: What may remain, by coin.
        align: Widths to prefer: `"auto"` (multiples of 8 for layers of 16 and more, free below)
            or a number.
        floor: Least width: int = channels, float = share of the original width.

    Returns:
        One boolean array `(channels,)` per group, True = kept.

    Raises:
        ImpossibleBudget: floors and alignment do not let the budget be met.
    """
    blocks = sorted(
        (block for i, group in enumerate(groups) for block in _blocks(i, group, align, floor)),
        key=lambda block: (block.score, block.group, -block.upper),
    )
    full = np.array([len(group.scores) for group in groups], np.int64)

    def holds(kept: np.ndarray) -> bool:
        return all(ledger.cost(coin, kept) <= limit for coin, limit in limits.items())

    removed = _fewest_removed(blocks, full, holds)
    if removed is None:
        raise ImpossibleBudget(_how_far(blocks, full, ledger, limits))
    kept = _put_back(blocks[:removed], _after(blocks[:removed], full), ledger, limits)
    return [_best(group.scores, n) for group, n in zip(groups, kept, strict=True)]


def check_align(align: object) -> None:
    """Refuses anything but "auto" and positive integers."""
    if align == "auto" or (isinstance(align, int) and not isinstance(align, bool) and align > 0):
        return
    raise InvalidArgument(f"`align` expects 'auto' or a positive integer. Received: {align!r}.")


def check_floor(floor: object) -> None:
    """Refuses anything but positive integers and shares in [0, 1)."""
    if not isinstance(floor, bool):
        if isinstance(floor, int) and floor >= 1:
            return
        if isinstance(floor, float) and 0 <= floor < 1:
            return
    raise InvalidArgument(
        "`floor` expects an int (channels, at least 1) or a float (share of the original width, "
        f"in [0, 1)). Received: {floor!r}."
    )


def allowed_widths(group: Candidates, align: str | int, floor: int | float) -> list[int]:
    """The numbers of channels that a group may keep, in falling order; the present one first."""
    width = len(group.scores)
    layer_width = group.original * group.multiplicity
    wanted = (
        align if isinstance(align, int) else AUTO_BLOCK if layer_width >= AUTO_LEAST_WIDTH else 1
    )
    step = wanted // int(np.gcd(wanted, group.multiplicity))
    least = floor * group.original if isinstance(floor, float) else floor / group.multiplicity
    least = max(group.least, int(np.ceil(least - 1e-9)))
    top = (width - 1) // step * step
    return [width, *range(top, max(least, step) - 1, -step)]


def _blocks(index: int, group: Candidates, align: str | int, floor: int | float) -> list[Block]:
    ranked = np.sort(group.scores)
    widths = allowed_widths(group, align, floor)
    width = len(ranked)
    return [
        Block(float(ranked[width - upper : width - lower].mean()), index, upper, lower)
        for upper, lower in itertools.pairwise(widths)
    ]


def _after(blocks: Sequence[Block], full: np.ndarray) -> np.ndarray:
    """Kept channels per group once these blocks are gone."""
    groups = np.array([block.group for block in blocks], np.int64)
    sizes = np.array([block.upper - block.lower for block in blocks], np.float64)
    return full - np.bincount(groups, sizes, minlength=len(full)).astype(np.int64)


def _fewest_removed(blocks: Sequence[Block], full: np.ndarray, holds: Holds) -> int | None:
    """Length of the shortest prefix of the ranking whose removal meets the budget."""
    if not holds(_after(blocks, full)):
        return None
    return bisect.bisect_left(
        range(len(blocks)), True, key=lambda n: holds(_after(blocks[:n], full))
    )


def _put_back(
    removed: Sequence[Block], kept: np.ndarray, ledger: Ledger, limits: Mapping[str, float]
) -> np.ndarray:
    """Puts blocks back, best first, while the budget holds.

    A block that does not fit now never will: costs only grow as others come back.
    """
    kept = kept.copy()
    meter = Meter(ledger, kept, limits)
    closed: set[int] = set()
    for block in reversed(removed):
        if block.group in closed:
            continue
        if meter.grow(block.group, block.upper - block.lower):
            kept[block.group] += block.upper - block.lower
        else:
            closed.add(block.group)
    return kept


def _best(scores: np.ndarray, count: int) -> np.ndarray:
    """The `count` best channels; of equal ones the earlier stays."""
    keep = np.zeros(len(scores), bool)
    keep[np.argsort(-scores, kind="stable")[:count]] = True
    return keep


def _how_far(
    blocks: Sequence[Block], full: np.ndarray, ledger: Ledger, limits: Mapping[str, float]
) -> str:
    least = _after(blocks, full)
    parts = []
    for coin, limit in limits.items():
        now, end, asked = (
            amount(coin, cost)
            for cost in (ledger.cost(coin, full), ledger.cost(coin, least), limit)
        )
        parts.append(f"{coin}: asked for {asked}, can go from {now} down to {end}")
    return (
        "The budget cannot be reached with the present floors, alignment and anchored layers ("
        + "; ".join(parts)
        + "). Allow more to remain, lower `floor`, set `align=1`, or shorten `exclude`; "
        "`plan.explain()` of a smaller cut lists what is anchored and why."
    )
