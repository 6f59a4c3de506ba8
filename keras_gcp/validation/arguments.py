"""What a user wrote, checked: numbers, choices, names. Sees plain values, never Keras.

NumPy scalars are numbers, and so are arrays without axes; booleans are none. What is returned is a
plain Python value: so settings read the same in another process, and JSON takes them.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real

import numpy as np

from keras_gcp.errors import InvalidArgument

LARGEST = 2**31 - 1
"""Frameworks take no larger integers for sizes, epochs and threads."""


def number(value: object) -> int | float | None:
    """The plain number that a value is, possibly NaN or infinite; None for anything else.

    >>> number(np.float32(0.5)), number(np.array(3)), number(True), number("3")
    (0.5, 3, None, None)
    """
    if isinstance(value, np.ndarray | np.generic) and value.ndim == 0:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    if isinstance(value, Integral):
        return int(value)
    try:
        return float(value)
    except OverflowError:  # A fraction beyond all floats.
        return None


def integer(value: object) -> int | None:
    """The plain integer that a value is; None for anything else, 2.0 included."""
    found = number(value)
    return found if isinstance(found, int) else None


def between(value: object, low: float, high: float) -> float | None:
    """The number that a value is, if it lies in [low, high]; None otherwise."""
    found = number(value)
    if found is None or not low <= found <= high:
        return None
    try:
        return float(found)
    except OverflowError:  # An integer beyond all floats.
        return None


def require_above_0(name: str, value: object, of: str, such_as: str = "") -> float:
    """The number above 0 that an argument is.

    Args:
        name: The argument.
        value: What was given.
        of: What it is an argument of.
        such_as: A number that suits.

    Raises:
        InvalidArgument: it is something else.
    """
    found = between(value, 0.0, sys.float_info.max)
    if not found:
        example = such_as and f", such as {such_as}"
        raise InvalidArgument(
            f"`{name}` of {of} expects a number above 0{example}. Received: {value!r}."
        )
    return found


def require_from_0(name: str, value: object, of: str) -> float:
    """The number that an argument is, 0 or above; arguments and errors as `require_above_0`."""
    found = between(value, 0.0, sys.float_info.max)
    if found is None:
        raise InvalidArgument(f"`{name}` of {of} expects a number from 0 on. Received: {value!r}.")
    return found


def numbers_in(values: object) -> list[float] | None:
    """The numbers in a list of numbers only, none of them NaN; None for anything else."""
    found = [between(value, -math.inf, math.inf) for value in _listed(values) or []]
    plain = [value for value in found if value is not None]
    return plain if plain and len(plain) == len(found) else None


def require_integer(name: str, value: object, least: int, most: int | None = None) -> int:
    """The integer that an argument is.

    Args:
        name: The argument.
        value: What was given.
        least: The smallest that is allowed.
        most: The largest, or None.

    Raises:
        InvalidArgument: it is not an integer, or out of that range.
    """
    found = integer(value)
    if found is None or found < least:
        raise InvalidArgument(
            f"`{name}` expects an integer of at least {least}. Received: {value!r}."
        )
    if most is not None and found > most:
        raise InvalidArgument(f"`{name}` expects at most {most:,}. Received: {found:,}.")
    return found


def require_seed(value: object) -> int | None:
    """The seed that `seed` is; None stands for another one each time.

    Raises:
        InvalidArgument: it is not an integer from 0.
    """
    found = integer(value)
    if value is not None and (found is None or found < 0):
        raise InvalidArgument(f"`seed` expects an integer from 0, or None. Received: {value!r}.")
    return found


def require_verbose(value: object) -> int:
    """How much is to be printed: 0, 1 or 2; True and False are 1 and 0.

    Raises:
        InvalidArgument: it is something else.
    """
    if isinstance(value, bool | np.bool_):
        return int(value)
    found = integer(value)
    if found not in (0, 1, 2):
        raise InvalidArgument(
            f"`verbose` expects 0 (silent), 1 or 2 (more lines). Received: {value!r}."
        )
    return found


def require_flag(name: str, value: object, or_else: str = "") -> bool:
    """What an argument says that is either True or False.

    Args:
        name: The argument.
        value: What was given.
        or_else: What else it takes, in words.

    Raises:
        InvalidArgument: it is neither.
    """
    if not isinstance(value, bool | np.bool_):
        other = f"{or_else}, " if or_else else ""
        raise InvalidArgument(f"`{name}` expects {other}True or False. Received: {value!r}.")
    return bool(value)


def require_one_of(name: str, value: object, known: Sequence[str]) -> None:
    """Refuses an argument that is not one of some words.

    Raises:
        InvalidArgument: it is another word, or not a word.
    """
    if not isinstance(value, str) or value not in known:  # Arrays compare to arrays.
        raise InvalidArgument(
            f"`{name}` expects one of {', '.join(map(repr, known))}. Received: {value!r}."
        )


def require_kind(name: str, value: object, kind: type, call: str) -> None:
    """Refuses an argument that is neither None nor of a class.

    Args:
        name: The argument.
        value: What was given.
        kind: The class.
        call: How its objects are made, as code.

    Raises:
        InvalidArgument: it is something else.
    """
    if value is not None and not isinstance(value, kind):
        raise InvalidArgument(f"`{name}` expects `{call}` or None. Received: {value!r}.")


def require_path(name: str, value: object) -> str:
    """The path that an argument is.

    Raises:
        InvalidArgument: it is not a path, or not one that a file system takes.
    """
    path = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(path, str) or not path or "\0" in path:
        raise InvalidArgument(
            f"`{name}` expects a path, as text or a `pathlib.Path`. Received: {value!r}."
        )
    return path


def layer_names(argument: str, value: object) -> tuple[str, ...]:
    """The names in an argument that lists layers; None lists none, a text is one name.

    Raises:
        InvalidArgument: it is not a list of names.
    """
    if value is None:
        return ()
    names = [value] if isinstance(value, str) else _listed(value)
    wrong = [] if names is None else [name for name in names if not isinstance(name, str)]
    if names is None or wrong:
        received = value if names is None else wrong[0]
        own_name = getattr(received, "name", None)
        hint = f" Write its name instead: {own_name!r}." if isinstance(own_name, str) else ""
        raise InvalidArgument(
            f"`{argument}` expects names of layers, such as ['conv2d'] ('model/layer' where "
            f"models are nested). Received: {received!r}.{hint}"
        )
    return tuple(map(str, names))


def _listed(value: object) -> list[object] | None:
    if not isinstance(value, Iterable) or isinstance(value, Mapping | bytes | bytearray):
        return None
    try:
        return list(value)
    except (TypeError, ValueError, OSError):  # Arrays without axes, files that cannot be read.
        return None
