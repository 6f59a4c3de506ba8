"""Gathers channel classes into groups: classes with the same places everywhere."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from keras_gcp.channels.map import Group, Member, Weight


def build_groups(
    class_count: int,
    weights: Iterable[Weight],
    produced: Mapping[str, np.ndarray],
    kinds: Mapping[str, str],
    reasons: Mapping[int, str],
    pieces: Sequence[np.ndarray] = (),
) -> tuple[Group, ...]:
    """Groups the classes.

    Two classes belong together if they occur equally often on every axis of every weight, and
    are both free or both anchored for the same reason. Widths of axes are then linear in the
    numbers of kept channels per group, which is what counting rests on.
    """
    axes = [classes for weight in weights for classes in weight.axes.values()]
    axes.extend(produced.values())
    axes.extend(pieces)  # A group lies inside a piece or outside, so none becomes empty.
    signatures = _signatures(class_count, axes)
    order = _order_of_production(class_count, produced)
    buckets: dict[tuple[bytes, str | None], list[int]] = {}
    for index in order:
        if signatures[index]:
            key = (signatures[index], reasons.get(int(index)))
            buckets.setdefault(key, []).append(int(index))
    return _named(
        [
            (np.array(classes), _members(np.array(classes), produced, kinds), reason)
            for (_, reason), classes in buckets.items()
        ]
    )


def _signatures(class_count: int, axes: list[np.ndarray]) -> list[bytes]:
    """For every class, on which axes it occurs and how often, as comparable bytes."""
    if not axes:
        return [b""] * class_count
    classes = np.concatenate(axes)
    axis = np.repeat(np.arange(len(axes)), [len(a) for a in axes])
    pairs, counts = np.unique(classes.astype(np.int64) * len(axes) + axis, return_counts=True)
    owner = pairs // len(axes)
    entries = np.stack([pairs % len(axes), counts], axis=1)
    starts = np.searchsorted(owner, np.arange(class_count + 1))
    return [entries[a:b].tobytes() for a, b in itertools.pairwise(starts)]


def _order_of_production(class_count: int, produced: Mapping[str, np.ndarray]) -> np.ndarray:
    seen = np.concatenate([*produced.values(), np.arange(class_count)])
    values, first = np.unique(seen, return_index=True)
    return values[np.argsort(first, kind="stable")]


def _members(
    classes: np.ndarray, produced: Mapping[str, np.ndarray], kinds: Mapping[str, str]
) -> tuple[Member, ...]:
    members = []
    for path, layer_classes in produced.items():
        width = int(np.isin(layer_classes, classes).sum())
        if width:
            members.append(Member(path, kinds[path], max(1, width // len(classes)), width))
    return tuple(members)


def _named(
    drafts: list[tuple[np.ndarray, tuple[Member, ...], str | None]],
) -> tuple[Group, ...]:
    leads = [members[0].path if members else "" for _, members, _ in drafts]
    groups = []
    for position, (classes, members, reason) in enumerate(drafts):
        if not members:
            continue
        lead = leads[position]
        several = leads.count(lead) > 1
        name = f"{lead}#{leads[: position + 1].count(lead)}" if several else lead
        groups.append(Group(name, classes, members, reason))
    return tuple(groups)


def with_leasts(
    groups: Sequence[Group], leasts: Sequence[tuple[np.ndarray, int, str]]
) -> tuple[Group, ...]:
    """Adds what an axis must keep to the groups on it.

    Args:
        groups: The groups.
        leasts: Axes as (classes of its positions, least width, reason). Where several groups
            share an axis, each keeps its part of the least width.
    """
    found = []
    for group in groups:
        for classes, count, reason in leasts:
            here = int(np.isin(classes, group.classes).sum())
            least = -(-count * len(group.classes) // len(classes)) if here else 1
            if least > group.least:
                group = dataclasses.replace(group, least=least, least_reason=reason)
        found.append(group)
    return tuple(found)
