"""What may remain, as people write it: `50%`, `0.5`, `20M`, `250kB`, `12ms`. Sees text only."""

from __future__ import annotations

import re

from keras_gcp.errors import InvalidArgument

_TEXT = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*([%a-zµ]*)", re.IGNORECASE)

_COUNTS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}
_BYTES = {
    **{"": 1.0, "b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9},
    **{"kib": 2.0**10, "mib": 2.0**20, "gib": 2.0**30},
}
_MILLISECONDS = {"": 1.0, "ms": 1.0, "us": 1e-3, "µs": 1e-3, "s": 1e3}

_EXAMPLES = {"counts": "'20M'", "bytes": "'250kB'", "milliseconds": "'12ms'"}


def read_amount(resource: str, text: str) -> tuple[float, bool]:
    """A number, and whether it is a share of the original.

    A percent sign makes a share, and so does a bare number below 1: 0.45 multiply-adds, or bytes,
    are never meant. Units are case-insensitive; kB are 1000 bytes, KiB 1024.

    Args:
        resource: What it is an amount of, one of `keras_gcp.costs.cost_model.RESOURCES`.
        text: What the user wrote.

    Raises:
        InvalidArgument: it is not such a text.

    Example:

    >>> read_amount("macs", "45%"), read_amount("macs", "0.45"), read_amount("macs", "20M")
    ((0.45, True), (0.45, True), (20000000.0, False))
    >>> read_amount("latency_ms", "0.5"), read_amount("latency_ms", "0.5ms")
    ((0.5, True), (0.5, False))
    """
    kind, units = _units_of(resource)
    match = _TEXT.fullmatch(text.strip())
    unit = match[2].lower() if match else None
    if match is None or (unit != "%" and unit not in units):
        known = ", ".join(_shown(unit) for unit in units if unit)
        raise InvalidArgument(
            f"`budget[{resource!r}]` expects a share of the original between 0 and 1, such as "
            f"'50%' or '0.5', or an amount in {kind}, such as {_EXAMPLES[kind]} (units: {known}). "
            f"Received: {text!r}."
        )
    value = float(match[1])
    if unit == "%":
        return value / 100, True
    return value * units[str(unit)], not unit and 0 <= value < 1


def _units_of(resource: str) -> tuple[str, dict[str, float]]:
    if resource == "latency_ms":
        return "milliseconds", _MILLISECONDS
    return ("bytes", _BYTES) if "bytes" in resource else ("counts", _COUNTS)


def _shown(unit: str) -> str:
    """As the unit is usually written: kB, MiB, M, ms."""
    if unit.endswith("s"):
        return unit
    first = unit[0] if unit in ("k", "kb") else unit[0].upper()
    return first + unit[1:].replace("b", "B")
