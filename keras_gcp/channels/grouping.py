"""Gathers coupled channels into groups: those with the same places everywhere."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from keras_gcp.channels.map import Group, Member, Weight


def build_groups(
    coupled_count: int,
    weights: Iterable[Weight],
    produced: Mapping[str, np.ndarray],
    kinds: Mapping[str, str],
    reasons: Mapping[int, str],
    pieces: Sequence[np.ndarray] = (),
) -> tuple[Group, ...]:
    """Groups the coupled channels.

    Two sets of coupled channels belong to one group if they occur equally often on every axis of
    every weight, and are both free or both anchored for the same reason. Widths of axes are then
    linear in the numbers of kept channels per group, which is what counting rests on.
    """
    axes = [coupled for weight in weights for coupled in weight.axes.values()]
    axes.extend(produced.values())
    axes.extend(pieces)  # A group lies inside a piece or outside, so none becomes empty.
    signatures = _signatures(coupled_count, axes)
    buckets: dict[tuple[bytes, str | None], list[int]] = {}
    for index in _order_of_production(coupled_count, produced).tolist():
        if signatures[index]:
            key = (signatures[index], reasons.get(index))
            buckets.setdefault(key, []).append(index)
    drafts = [np.array(coupled) for coupled in buckets.values()]
    members = _members(coupled_count, drafts, produced, kinds)
    return _named(list(zip(drafts, members, (reason for _, reason in buckets), strict=True)))


def _signatures(coupled_count: int, axes: list[np.ndarray]) -> list[bytes]:
    """On which axes each set of coupled channels occurs and how often, as comparable bytes."""
    if not axes:
        return [b""] * coupled_count
    coupled = np.concatenate(axes)
    axis = np.repeat(np.arange(len(axes)), [len(a) for a in axes])
    pairs, counts = np.unique(coupled.astype(np.int64) * len(axes) + axis, return_counts=True)
    owner = pairs // len(axes)
    entries = np.stack([pairs % len(axes), counts], axis=1)
    starts = np.searchsorted(owner, np.arange(coupled_count + 1))
    return [entries[a:b].tobytes() for a, b in itertools.pairwise(starts)]


def _order_of_production(coupled_count: int, produced: Mapping[str, np.ndarray]) -> np.ndarray:
    seen = np.concatenate([*produced.values(), np.arange(coupled_count)])
    values, first = np.unique(seen, return_index=True)
    return values[np.argsort(first, kind="stable")]


def _members(
    coupled_count: int,
    drafts: Sequence[np.ndarray],
    produced: Mapping[str, np.ndarray],
    kinds: Mapping[str, str],
) -> list[tuple[Member, ...]]:
    """For every draft of a group (its coupled channels), the layers that produce its channels."""
    draft_of = owners_of(coupled_count, drafts)
    found: list[list[Member]] = [[] for _ in drafts]
    for path, coupled in produced.items():
        here, widths = np.unique(draft_of[coupled], return_counts=True)
        for draft, width in zip(here.tolist(), widths.tolist(), strict=True):
            multiplicity = max(1, width // len(drafts[draft]))
            found[draft].append(Member(path, kinds[path], multiplicity, width))
    return [tuple(members) for members in found]


def owners_of(coupled_count: int, parts: Sequence[np.ndarray]) -> np.ndarray:
    """For every set of coupled channels, the position of the part that has it; -1: none."""
    owner = np.full(coupled_count, -1)
    for position, coupled in enumerate(parts):
        owner[coupled] = position
    return owner


def _named(
    drafts: list[tuple[np.ndarray, tuple[Member, ...], str | None]],
) -> tuple[Group, ...]:
    drafts = [draft for draft in drafts if draft[1]]
    leads = Counter(members[0].path for _, members, _ in drafts)
    numbers: Counter[str] = Counter()
    groups = []
    for coupled, members, reason in drafts:
        lead = members[0].path
        numbers[lead] += 1
        name = f"{lead}#{numbers[lead]}" if leads[lead] > 1 else lead
        groups.append(Group(name, coupled, members, reason))
    return tuple(groups)


def with_leasts(
    groups: Sequence[Group], leasts: Sequence[tuple[np.ndarray, int, str]]
) -> tuple[Group, ...]:
    """Adds what an axis must keep to the groups on it.

    Args:
        groups: The groups.
        leasts: Axes as (coupled channels along it, least width, reason). Where several groups
            share an axis, each keeps its part of the least width.
    """
    parts = [group.coupled for group in groups]
    group_of = owners_of(_one_past([*parts, *(coupled for coupled, _, _ in leasts)]), parts)
    found = list(groups)
    for coupled, count, reason in leasts:
        owners = group_of[coupled]
        for position in np.unique(owners[owners >= 0]).tolist():
            group = found[position]
            least = -(-count * len(group.coupled) // len(coupled))
            if least > group.least:
                found[position] = dataclasses.replace(group, least=least, least_reason=reason)
    return tuple(found)


def _one_past(parts: Iterable[np.ndarray]) -> int:
    return 1 + max((int(coupled.max()) for coupled in parts if len(coupled)), default=-1)
