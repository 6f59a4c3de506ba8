"""Budgets: how much may remain in the end, and in which resource. Sees numbers only."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from keras_gcp.costs.amounts import read_amount
from keras_gcp.costs.cost_model import FURTHER, RESOURCES
from keras_gcp.errors import InvalidArgument
from keras_gcp.formatting import amount
from keras_gcp.validation import (
    LARGEST,
    between,
    number,
    require_integer,
    require_one_of,
    require_path,
)
from keras_gcp.validation.configured import Configured, call_text, changed_fields


@dataclass(frozen=True, repr=False)
class Absolute:
    """An absolute count in a budget; made by `keras_gcp.absolute`."""

    value: float

    def __repr__(self) -> str:
        return f"absolute({self.value!r})"


def absolute(value: float) -> Absolute:
    """An absolute count, for use in a budget instead of a share.

    Args:
        value: How much may remain; positive.

    Returns:
        A marker for budgets.

    Raises:
        InvalidArgument: `value` is not a positive number.

    Example:

    >>> print(keras_gcp.Budget({"macs": keras_gcp.absolute(20e6)}))
    macs <= 20,000,000
    """
    count = between(value, 0.0, sys.float_info.max)
    if not count:
        raise InvalidArgument(
            f"`keras_gcp.absolute` expects a positive number. Received: {value!r}."
        )
    return Absolute(count)


@dataclass(frozen=True, repr=False)
class Timed:
    """A limit on the latency, and how it is measured; made by `keras_gcp.timed`."""

    limit: float | Absolute
    threads: int = 1
    cache_dir: str | None = None

    def __repr__(self) -> str:
        return call_text("timed", changed_fields(self))


def timed(
    limit: float | str | Absolute, threads: int = 1, cache_dir: str | os.PathLike[str] | None = None
) -> Timed:
    """A limit on `"latency_ms"`, with the settings of the measurement.

    A plain share (`{"latency_ms": 0.6}`) means one thread and the usual folder.

    Args:
        limit: Share in (0, 1) of the original model's latency, or `keras_gcp.absolute(5.0)`
            milliseconds; or a text such as `"60%"` or `"5ms"`.
        threads: Threads of the TFLite runtime.
        cache_dir: Folder in which measured layer times are kept, a file per machine, runtime and
            number of threads. None: the folder in the environment variable `KERAS_GCP_CACHE`, else
            where the system has its caches, on Linux `~/.cache/keras_gcp`.

    Returns:
        A marker for budgets.

    Raises:
        InvalidArgument: a value is out of range.

    Example:

    >>> print(keras_gcp.Budget({"latency_ms": keras_gcp.timed(0.6, threads=2)}))
    latency_ms <= 60.0% of the original (2 threads)
    """
    share = _share_or_absolute("latency_ms", limit)
    count = require_integer("threads", threads, 1, LARGEST)
    folder = None if cache_dir is None else require_path("cache_dir", cache_dir)
    return Timed(share, count, folder)


@dataclass(frozen=True, repr=False)
class Budget(Configured):
    """What may remain, by resource. A dict of the limits is short for it.

    Args:
        limits: Resource to a share in (0, 1) of the original model's `"macs"`, `"parameters"`,
            (prunable) `"channels"`, `"tflite_bytes"`, `"tflite_bytes_int8"`,
            `"peak_activation_bytes"`, `"peak_activation_bytes_int8"` or `"latency_ms"` (see
            `keras_gcp.timed`), or to `keras_gcp.absolute(count)`; or to a text that says either:
            `"50%"`, `"20M"`, `"250kB"`, `"12ms"`. All of them must hold.
        reference: Model whose costs and widths shares refer to. None: the one that is pruned, as it
            is at first.

    Raises:
        InvalidArgument: there is no limit, an unknown resource, a share outside (0, 1), or an
            absolute count below 1.

    Example:

    >>> print(keras_gcp.Budget({"macs": "45%", "tflite_bytes_int8": "250kB"}))
    macs <= 45.0% of the original and tflite_bytes_int8 <= 250,000

    ```python
    smaller = keras_gcp.prune(small, keras_gcp.Budget({"macs": 0.25}, reference=model))
    ```
    """

    limits: Mapping[str, float | str | Absolute | Timed]
    reference: Any = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.limits, Mapping) or not self.limits:
            raise InvalidArgument(
                "`budget` expects a dict of what may remain, such as {'macs': 0.5}. "
                f"Received: {self.limits!r}."
            )
        checked = {resource: _entry(resource, value) for resource, value in self.limits.items()}
        object.__setattr__(self, "limits", checked)

    @staticmethod
    def parse(budget: Any) -> Budget:
        """The budget that a user means: one, or a dict of its limits.

        Raises:
            InvalidArgument: it is neither, or malformed.
        """
        return budget if isinstance(budget, Budget) else Budget(budget)

    @property
    def further(self) -> tuple[str, ...]:
        """The resources in which models are not counted anyway."""
        return tuple(resource for resource in self.limits if resource in FURTHER)

    @property
    def timing(self) -> Timed:
        """How the latency is measured."""
        value = self.limits["latency_ms"]
        return value if isinstance(value, Timed) else Timed(limit_of(value))

    def limits_at(self, original: Mapping[str, float], progress: float = 1.0) -> dict[str, float]:
        """What may remain by resource, when `progress` of the way is gone.

        Args:
            original: The original model's cost by resource.
            progress: 0 = nothing removed yet, 1 = the budget itself.

        Example:

        >>> keras_gcp.Budget({"macs": 0.5}).limits_at({"macs": 1000}, progress=0.5)
        {'macs': 750.0}
        """
        limits = {}
        for resource, entry in self.limits.items():
            full, value = original[resource], limit_of(entry)
            final = value.value if isinstance(value, Absolute) else value * full
            limits[resource] = full - progress * (full - final) if final < full else final
        return limits

    def __str__(self) -> str:
        return " and ".join(_in_words(resource, value) for resource, value in self.limits.items())


def check_resource(resource: Any) -> None:
    """Refuses an argument `resource` that names none.

    Raises:
        InvalidArgument: it is unknown.
    """
    require_one_of("resource", resource, RESOURCES)


def limit_of(entry: float | str | Absolute | Timed) -> float | Absolute:
    """The share or amount of a budget's entry, whether it is measured or counted."""
    assert not isinstance(entry, str)  # Texts became numbers when the budget was made.
    return entry.limit if isinstance(entry, Timed) else entry


def _in_words(resource: str, entry: float | str | Absolute | Timed) -> str:
    value = limit_of(entry)
    if isinstance(value, Absolute):
        text = f"{resource} <= {amount(resource, value.value)}"
    else:
        text = f"{resource} <= {value:.1%} of the original"
    if isinstance(entry, Timed):
        text += f" ({entry.threads} thread{'s' if entry.threads > 1 else ''})"
    return text


def _entry(resource: Any, value: Any) -> float | Absolute | Timed:
    """One entry of a budget, checked; a share as a plain number."""
    if not isinstance(resource, str) or resource not in RESOURCES:
        known = ", ".join(repr(name) for name in RESOURCES)
        raise InvalidArgument(f"`budget` names the resource {resource!r}. Expected one of {known}.")
    if isinstance(value, Timed):
        if resource != "latency_ms":
            raise InvalidArgument(
                f"`budget[{resource!r}]` is a `keras_gcp.timed(...)`, which is for 'latency_ms' "
                "only. Expected a share or `keras_gcp.absolute(...)`."
            )
        return value
    return _share_or_absolute(resource, value)


def _share_or_absolute(resource: str, value: Any) -> float | Absolute:
    """What a user wrote as a number, a text or an `absolute(...)`."""
    if isinstance(value, str):
        amount, is_share = read_amount(resource, value)
        if not is_share and amount <= 0:
            raise InvalidArgument(
                f"`budget[{resource!r}]` expects more than nothing. Received: {value!r}."
            )
        return _share(resource, amount, value) if is_share else Absolute(amount)
    if not isinstance(value, Absolute):
        return _share(resource, value, value)
    if value.value < 1 and resource != "latency_ms":
        raise InvalidArgument(
            f"`budget[{resource!r}]` is {value!r}, less than one. Expected a count of 1 or more; a "
            f"share is a plain number: {{{resource!r}: {value.value!r}}}."
        )
    return value


def _share(resource: str, value: Any, received: Any) -> float:
    share = number(value)
    if share is None or not 0 < share < 1:
        is_text = isinstance(received, str)
        count = f" For a count use `keras_gcp.absolute({share!r})`."
        raise InvalidArgument(
            f"`budget[{resource!r}]` is the share of the original that may remain and must lie "
            f"between {'0 % and 100 %' if is_text else '0 and 1'}, both excluded. "
            f"Received: {received!r}.{'' if is_text or share is None else count}"
        )
    return float(share)
