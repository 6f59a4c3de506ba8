"""Means over seeds with their 95 % intervals (Student's t)."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

T_975 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
"""Quantiles of Student's t by degrees of freedom."""


def half_width(values: Sequence[float]) -> float | None:
    """Half of the 95 % interval of the mean; None for a single value.

    Beyond ten values it is that of ten, and so a little too wide.
    """
    if len(values) < 2:
        return None
    quantile = T_975[min(len(values) - 1, max(T_975))]
    return quantile * statistics.stdev(values) / len(values) ** 0.5


def spread_cells(accuracies: Sequence[float]) -> list[str]:
    """Of a table, in percent: half of the interval, empty for a single value, and each value."""
    half = half_width(accuracies)
    interval = "" if half is None else f"± {100 * half:.2f}"
    return [interval, ", ".join(f"{100 * accuracy:.2f}" for accuracy in accuracies)]


def difference(name: str, values: Sequence[float], unit: str) -> str:
    """Paired differences of shares as a line, in points."""
    mean, half = statistics.mean(values), half_width(values)
    if half is None:
        return f"{name}: {100 * mean:+.2f} points (one {unit})"
    low, high = 100 * (mean - half), 100 * (mean + half)
    return f"{name}: {100 * mean:+.2f} points, 95 % interval {low:+.2f} to {high:+.2f}"
