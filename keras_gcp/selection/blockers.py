"""What keeps channels from leaving, in words: the layers that hold most of a cost first."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from keras_gcp.channels.channel_ids import Cause
from keras_gcp.channels.map import Blocker, ChannelMap
from keras_gcp.errors import UnsupportedModel

MOST_LINES = 4
"""Blockers that are written out; the rest is counted."""

MOST_NAMES = 3

LEAST_SHARE = 0.0005
"""What is less reads as 0.0 %, and is not worth naming for an input or output that has to be."""

_UNITS = {"macs": "multiply-adds", "parameters": "parameters", "channels": "output channels"}


@dataclass(frozen=True)
class Held:
    """What one blocker holds, or several that are alike.

    Attributes:
        blockers: The blockers, in network order.
        share: Share of the cost that stays even if all else leaves, and in which their channels
            have a part.
        produced: Layers whose output channels stay because of it.
    """

    blockers: tuple[Blocker, ...]
    share: float
    produced: tuple[str, ...]

    def __str__(self) -> str:
        text = self.cause.text
        if self.cause.path is None and self.produced:
            text += f" ({_listed(self.produced)})"
        others = [one.cause.path for one in self.blockers[1:] if one.cause.path is not None]
        if others:
            text += f" (and {len(others)} more like it: {_listed(others)})"
        return text

    @property
    def cause(self) -> Cause:
        """The first one."""
        return self.blockers[0].cause


def require_prunable(channels: ChannelMap, resource: str = "macs") -> None:
    """Refuses a model of which nothing can leave, with what would have to change.

    Args:
        channels: The model's channel map.
        resource: By what the blockers are ordered, the one that holds most first.

    Raises:
        UnsupportedModel: no channel may be pruned.
    """
    if channels.prunable.any():
        return
    reason = f".\n{what_stays(channels, resource)}"
    if not channels.produced:
        reason = (
            ": none of its layers is known to produce any. Expected convolutions, dense layers or "
            f"embeddings{_named_uncounted(channels)}"
        )
    raise UnsupportedModel(
        f"Model '{channels.model.name}' has no channels that may be pruned{reason}"
    )


def what_stays(channels: ChannelMap, resource: str = "macs", ends: bool = True) -> str:
    """A heading and a line for each of the largest blockers; empty if there are none.

    Args:
        channels: The model's channel map.
        resource: By what they are ordered.
        ends: Whether inputs and outputs of the model are among them, if they hold something.
    """
    counted = counted_as(channels, resource)
    found = blockers_by_cost(channels, counted)
    found = [one for one in found if not one.cause.is_end or (ends and one.share >= LEAST_SHARE)]
    if not found:
        return ""
    lines = [
        "- " + (f"{one.share:.1%}: " if one.share >= LEAST_SHARE else "") + str(one)
        for one in found[:MOST_LINES]
    ]
    rest = sum(len(one.blockers) for one in found[MOST_LINES:])
    if rest:
        lines.append(f"- and {rest} more")
    heading = f"What stays, and why, with its share of the {_UNITS[counted]}:"
    return "\n".join([heading, *lines])


def counted_as(channels: ChannelMap, resource: str) -> str:
    """What the share of a blocker is counted in, for a resource of a budget.

    Files are made of parameters; memory and time go with multiply-adds, where these are defined.
    """
    if resource == "channels":
        return resource
    known = all(site.positions is not None for site in channels.macs)
    return (
        "parameters" if resource.startswith(("parameters", "tflite_bytes")) or not known else "macs"
    )


def blockers_by_cost(channels: ChannelMap, counted: str) -> list[Held]:
    """The blockers, those that are alike together; layers before the model's ends, then by cost.

    A tensor that enters or leaves the model, but holds no channel that a layer produces, is none.
    """
    alike: dict[str, list[Blocker]] = {}
    for blocker in _without_repetition(channels.blockers):
        alike.setdefault(blocker.kind, []).append(blocker)
    terms = _terms(channels, counted)
    found = [_held(channels, blockers, terms) for blockers in alike.values()]
    found = [one for one in found if one.produced or not one.cause.is_end]
    return sorted(found, key=lambda one: (one.cause.is_end, -one.share))


def _without_repetition(blockers: Sequence[Blocker]) -> Iterator[Blocker]:
    """Without those that keep nothing but what an end of the model, or the same layer, keeps."""
    for place, one in enumerate(blockers):
        if not any(
            _repeats(one, other, comes_later=place > there)
            for there, other in enumerate(blockers)
            if there != place
        ):
            yield one


def _repeats(one: Blocker, other: Blocker, comes_later: bool) -> bool:
    if not other.cause.is_end and (one.cause.path is None or other.cause.path != one.cause.path):
        return False
    if not np.isin(one.coupled, other.coupled, assume_unique=True).all():
        return False
    same = len(one.coupled) == len(other.coupled)
    return comes_later or not same or (other.cause.is_end and not one.cause.is_end)


def _held(channels: ChannelMap, blockers: Sequence[Blocker], terms: Sequence[_Term]) -> Held:
    """What they hold of what stays if all leaves that may: their own part, and what hangs on it."""
    inside = np.zeros(channels.coupled_count, bool)
    for blocker in blockers:
        inside[blocker.coupled] = True
    stays, paths = ~channels.prunable, {blocker.cause.path for blocker in blockers}
    held = 0.0
    for term in terms:
        stuck = math.prod(float(stays[coupled].mean()) for coupled in term.axes)
        if term.path in paths:
            held += term.size * stuck
        elif stuck and any(inside[coupled].any() for coupled in term.axes):
            free = stays & ~inside
            without = math.prod(float(free[coupled].mean()) for coupled in term.axes)
            held += term.size * (stuck - without)
    total = sum(term.size for term in terms) or 1.0
    produced = [path for path, coupled in channels.produced.items() if inside[coupled].any()]
    return Held(tuple(blockers), held / total, tuple(produced))


@dataclass(frozen=True, eq=False)
class _Term:
    """A part of a cost: its layer, its size, and the coupled channels along its axes."""

    path: str
    size: float
    axes: Sequence[np.ndarray]


def _terms(channels: ChannelMap, counted: str) -> list[_Term]:
    """A cost as a sum."""
    if counted == "channels":
        return [_Term(p, len(coupled), [coupled]) for p, coupled in channels.produced.items()]
    return list((_parameters if counted == "parameters" else _macs)(channels))


def _parameters(channels: ChannelMap) -> Iterator[_Term]:
    seen: set[int] = set()
    for call in channels.graph.calls:
        for variable in call.weights:
            if id(variable) not in seen:
                seen.add(id(variable))
                known = channels.weights.get(id(variable))
                axes = [] if known is None else list(known.axes.values())
                yield _Term(call.path, float(math.prod(variable.shape)), axes)


def _macs(channels: ChannelMap) -> Iterator[_Term]:
    for site in channels.macs:
        shape = () if site.variable is None else site.variable.shape
        kernel = channels.weights.get(id(site.variable))
        axes = [] if kernel is None else list(kernel.axes.values())
        size = math.prod((*shape, *(len(coupled) for coupled in site.widths)))
        yield _Term(site.path, float((site.positions or 0) * size), [*axes, *site.widths])


def _named_uncounted(channels: ChannelMap) -> str:
    unknown = list(channels.refusals)
    return f"; unknown are {_listed(unknown)}." if unknown else "."


def _listed(names: Iterable[str], most: int = MOST_NAMES) -> str:
    known = [repr(name) for name in names]
    return ", ".join(known[:most]) + (f" and {len(known) - most} more" if len(known) > most else "")
