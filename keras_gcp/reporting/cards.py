"""The cards of a report: one number in large type, what it is compared with, and the verdict."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from keras_gcp import formatting
from keras_gcp.reporting.rows import Pair, Spreads, format_name, overlap

BETTER, WORSE, NEITHER = "better", "worse", "neither"
"""How a change is badged."""

_CERTAIN = 1.96  # standard errors, between which 95 % of differences by chance lie

_Change = tuple[str, str]


@dataclass(frozen=True)
class Card:
    """One number in large type.

    Attributes:
        name: What it is.
        value: The number.
        compared: What it is compared with, and its numbers.
        change: The change in words; empty if there is nothing to say.
        verdict: Whether that is better, worse, or neither.
        note: What one has to know to judge it.
    """

    name: str
    value: str
    compared: tuple[tuple[str, str], ...] = ()
    change: str = ""
    verdict: str = NEITHER
    note: str = ""


def cards_of(
    summary: Mapping[str, tuple[float | None, float]],
    controls: Mapping[str, Mapping[str, float]],
    test_images: int | None,
    seeds: str,
) -> list[Card]:
    """A card for every entry of the summary; its name says what kind of number it is.

    Args:
        summary: Name to value before (or None) and after.
        controls: Name of an accuracy to those of controls.
        test_images: On how many images accuracies were measured.
        seeds: Seeds in words.
    """
    return [
        _accuracy_card(name, *values, controls.get(name, {}), test_images, seeds)
        if is_accuracy(name)
        else _cost_card(name, *values)
        for name, values in summary.items()
    ]


def file_cards(
    sizes: Mapping[str, Pair], latencies: Mapping[str, Pair], spreads: Mapping[str, Spreads]
) -> list[Card]:
    """A card for the bytes of every file, and one for its latency."""
    cards = [_size_card(name, *pair) for name, pair in sizes.items()]
    return cards + [
        _latency_card(name, *pair, spreads.get(name)) for name, pair in latencies.items()
    ]


def is_accuracy(name: str) -> bool:
    """Whether an entry of a summary is an accuracy."""
    return "accuracy" in name.lower()


def _accuracy_card(
    name: str,
    before: float | None,
    after: float,
    controls: Mapping[str, float],
    test_images: int | None,
    seeds: str,
) -> Card:
    dense = {} if before is None else {"dense": before}
    compared = tuple((n, formatting.percent(v, 2)) for n, v in {**dense, **controls}.items())
    change, verdict, chance = (
        ("", NEITHER, "") if before is None else points(before, after, test_images)
    )
    images = "" if test_images is None else f"{test_images:,} test images"
    parts = [chance, images, seeds, "" if compared else "no control was trained"]
    note = ", ".join(part for part in parts if part)
    return Card(name, formatting.percent(after, 2), compared, change, verdict, note)


def points(before: float, after: float, test_images: int | None) -> tuple[str, str, str]:
    """A change of an accuracy in points, the verdict, and whether it may be chance, in words.

    Two accuracies on few images differ by chance; how much is estimated as for two samples.
    """
    text = f"{100 * (after - before):+.2f} points".replace("-", "−")
    if test_images and abs(after - before) <= _CERTAIN * _standard_error(
        before, after, test_images
    ):
        return text, NEITHER, "may be chance"
    return text, _verdict(after > before, after < before), ""


def _standard_error(one: float, other: float, images: int) -> float:
    return math.sqrt((one * (1 - one) + other * (1 - other)) / images)


def _cost_card(name: str, before: float | None, after: float) -> Card:
    text, change_of = _kind_of(name)
    if before is None:
        return Card(name, text(after))
    change, verdict = change_of(before, after)
    return Card(name, text(after), (("before", text(before)),), change, verdict)


def _size_card(name: str, before: float, after: float) -> Card:
    change, verdict = _words("smaller", "larger")(before, after)
    text = formatting.file_size
    return Card(
        f"{format_name(name)} file", text(after), (("before", text(before)),), change, verdict
    )


def _latency_card(name: str, before: float, after: float, spreads: Spreads | None) -> Card:
    change, verdict = _words("faster", "slower")(before, after)
    if spreads is not None and overlap(spreads):
        change, verdict = "not told apart", NEITHER
    text = formatting.milliseconds
    title = f"{format_name(name)} latency"
    note = "" if spreads is None else "median of calls in turns"
    return Card(title, text(after), (("before", text(before)),), change, verdict, note)


def _kind_of(name: str) -> tuple[Callable[[float], str], Callable[[float, float], _Change]]:
    if "seconds" in name.lower():
        return formatting.seconds, _unsaid  # one run each: what differs may be noise
    if name.lower().endswith("_ms"):
        return formatting.milliseconds, _words("less", "more")
    if "bytes" in name.lower():
        return formatting.file_size, _words("smaller", "larger")
    return formatting.count, _words("fewer", "more")


def _unsaid(before: float, after: float) -> _Change:
    return "", NEITHER


def _words(less: str, more: str) -> Callable[[float, float], _Change]:
    def change(before: float, after: float) -> _Change:
        if after == before:
            return "unchanged", NEITHER
        if after < before:
            return f"{formatting.factor(before, after)} {less}", BETTER
        return f"{formatting.factor(after, before)} {more}", WORSE

    return change


def _verdict(better: bool, worse: bool) -> str:
    return BETTER if better else WORSE if worse else NEITHER
