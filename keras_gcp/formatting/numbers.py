"""Numbers as people read them."""

from __future__ import annotations

import math
import re


def count(value: float) -> str:
    """A count with three digits and a unit: 512, 94.8 k, 1.23 M, 2.10 G.

    >>> count(1_234_567)
    '1.23 M'
    """
    if abs(value) < 1000:
        return f"{value:.0f}" if value == int(value) else three_digits(value)
    for unit, power in (("k", 1e3), ("M", 1e6), ("G", 1e9), ("T", 1e12)):
        scaled = three_digits(value / power)
        if abs(float(scaled)) < 1000:
            return f"{scaled} {unit}"
    return f"{value:.2e}"


def file_size(value: float) -> str:
    """Bytes with three digits, in powers of 1000: 948 B, 94.8 kB, 1.10 MB."""
    text = count(value)
    return f"{text}B" if " " in text else f"{text} B"


def percent(share: float, digits: int = 1) -> str:
    """A share as a percentage: 0.493 is 49.3 %."""
    return f"{100 * share:.{digits}f} %"


def metric(name: str, value: float) -> str:
    """A value of a metric: accuracies as percentages, with two decimals; others with four digits.

    >>> metric("sparse_categorical_accuracy", 0.98765)
    '98.77 %'
    >>> metric("mae", 0.123456)
    '0.1235'
    """
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    is_share = re.search(r"(^|_)(acc|accuracy)(_|$)", words)
    return percent(value, 2) if is_share else f"{value:.4g}"


def seconds(value: float) -> str:
    """A duration: 0.04 s, 2.3 s, 41 s, 3 min 05 s, 2 h 10 min."""
    if value < 60:
        return f"{value:.2f} s" if value < 1 else f"{three_digits(value, 2)} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def milliseconds(value: float) -> str:
    """A latency with three digits: 0.168 ms."""
    return f"{three_digits(value)} ms"


def factor(before: float, after: float) -> str:
    """How many times smaller: 2.04x; an en dash where there is nothing to divide by."""
    return f"{before / after:.2f}x" if after else "–"


def three_digits(value: float, digits: int = 3) -> str:
    """A number rounded to `digits` significant digits, trailing zeros kept: 2.10, 45.6, 123."""
    if value == 0 or not math.isfinite(value):
        return f"{value:.{digits - 1}f}"
    rounded = float(f"{value:.{digits - 1}e}")
    decimals = digits - 1 - math.floor(math.log10(abs(rounded)))
    return f"{rounded:.{max(decimals, 0)}f}"


def amount(resource: str, cost: float) -> str:
    """A cost as people read it: counts with thousands separators, times with four digits."""
    return f"{cost:.4g}" if resource == "latency_ms" else f"{cost:,.0f}"
