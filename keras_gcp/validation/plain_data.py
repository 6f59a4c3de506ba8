"""From plain data, as JSON has it, to what type hints say, or where it does not fit."""

from __future__ import annotations

import contextlib
import json
import math
import types
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from keras_gcp.errors import InvalidArgument


class DoesNotFit(ValueError):
    """Data are not what they should be; the text says where, what, and what was expected."""


def loaded(text: Any) -> Any:
    """What a JSON text says.

    Raises:
        DoesNotFit: it is not JSON.
    """
    try:
        return json.loads(text)
    except (TypeError, ValueError) as error:
        raise DoesNotFit(f"it is not JSON ({error})") from error
    except RecursionError as error:
        raise DoesNotFit("it is nested too deep") from error


def with_new_name(items: Any, old: str, new: str) -> Any:
    """Dicts of an older format: what was called `old` is called `new` by now."""
    if not isinstance(items, list):
        return items
    return [
        {new if name == old else name: value for name, value in one.items()}
        if isinstance(one, dict)
        else one
        for one in items
    ]


def check_finite(value: Any, where: str = "", but: Collection[str] = ()) -> None:
    """Refuses NaN and infinite numbers in plain data.

    Args:
        value: The data.
        where: Its name, for messages.
        but: Keys of dicts whose numbers may be anything.

    Raises:
        DoesNotFit: there is one.
    """
    rest = [(where, value)]
    while rest:  # Without recursion: it may be nested as deep as JSON can be read.
        where, value = rest.pop()
        if isinstance(value, float) and not math.isfinite(value):
            raise DoesNotFit(f"{where} is {value}, expected a finite number")
        if isinstance(value, list):
            rest.extend((f"{where}[{i}]", one) for i, one in enumerate(value))
        if isinstance(value, dict):
            rest.extend((_inside(where, key), one) for key, one in value.items() if key not in but)


@contextlib.contextmanager
def told_as(function: str) -> Iterator[None]:
    """Tells whatever does not fit inside as a mistake about what a function has to have returned.

    Raises:
        InvalidArgument: something does not fit.
    """
    try:
        yield
    except DoesNotFit as error:
        raise InvalidArgument(f"Not what `{function}` returned: {error}.") from error


def fields_of(value: Any, version: int) -> dict[str, Any]:
    """The entries of a dict that says of which version its format is, without that.

    Raises:
        DoesNotFit: it is no dict, or of another version.
    """
    if not isinstance(value, Mapping):
        raise DoesNotFit(f"it is of type {type(value).__name__}, expected a dict")
    fields = dict(value)
    if (found := fields.pop("format", None)) != version:
        raise DoesNotFit(f"it has format {found!r}, expected {version}")
    return fields


def parsed(hint: Any, value: Any, where: str = "") -> Any:
    """The value in the types of a hint.

    Args:
        hint: `bool`, `int`, `float`, `str`, `None`, `Any`, a dataclass, `list`, `tuple` or
            `Mapping` of these, or a union.
        value: Dicts, lists, strings, numbers and None.
        where: Name of the value, for messages.

    Raises:
        DoesNotFit: the value, or something in it, is of another type, missing, or unknown.
    """
    if hint is Any:
        return value
    if is_dataclass(hint):
        return _of_dataclass(hint, value, where)
    origin = typing.get_origin(hint)
    parse = _CONTAINERS.get(origin)
    if parse is not None:
        return parse(typing.get_args(hint), value, where)
    accepted = _ACCEPTED.get(hint, (hint,))
    if type(value) not in accepted:
        raise _misfit(where, value, hint)
    return value


def _of_dataclass(hint: Any, value: Any, where: str) -> Any:
    if type(value) is not dict:
        raise _misfit(where, value, dict)
    hints = typing.get_type_hints(hint)
    names = [field.name for field in fields(hint)]
    if missing := [name for name in names if name not in value]:
        raise DoesNotFit(f"{_inside(where, missing[0])} is missing")
    if unknown := sorted(set(value) - set(names)):
        raise DoesNotFit(f"{_inside(where, unknown[0])} is unknown")
    parts = {name: parsed(hints[name], value[name], _inside(where, name)) for name in names}
    try:
        return hint(**parts)
    except InvalidArgument as error:
        raise DoesNotFit(f"{where}: {error}") from error


def _of_list(hints: tuple[Any, ...], value: Any, where: str) -> list[Any]:
    if type(value) not in (list, tuple):
        raise _misfit(where, value, list)
    return [parsed(hints[0], one, f"{where}[{i}]") for i, one in enumerate(value)]


def _of_tuple(hints: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if hints[-1] is Ellipsis:
        return tuple(_of_list(hints, value, where))
    if type(value) not in (list, tuple) or len(value) != len(hints):
        raise DoesNotFit(f"{where} is {_short(value)}, expected a list of {len(hints)} entries")
    pairs = enumerate(zip(hints, value, strict=True))
    return tuple(parsed(hint, one, f"{where}[{i}]") for i, (hint, one) in pairs)


def _of_mapping(hints: tuple[Any, ...], value: Any, where: str) -> dict[str, Any]:
    if type(value) is not dict:
        raise _misfit(where, value, dict)
    return {str(key): parsed(hints[1], one, _inside(where, key)) for key, one in value.items()}


def _of_union(hints: tuple[Any, ...], value: Any, where: str) -> Any:
    for hint in hints:
        try:
            return parsed(hint, value, where)
        except DoesNotFit:
            continue
    raise DoesNotFit(f"{where} is {_short(value)}, expected {' or '.join(map(_named, hints))}")


_CONTAINERS: Mapping[Any, Callable[[tuple[Any, ...], Any, str], Any]] = {
    list: _of_list,
    tuple: _of_tuple,
    dict: _of_mapping,
    Mapping: _of_mapping,
    types.UnionType: _of_union,
    typing.Union: _of_union,
}

_ACCEPTED: Mapping[Any, tuple[Any, ...]] = {
    float: (float, int),
    None: (type(None),),
}


def _misfit(where: str, value: Any, hint: Any) -> DoesNotFit:
    return DoesNotFit(f"{where} is {_short(value)}, expected {_named(hint)}")


def _named(hint: Any) -> str:
    return "None" if hint is type(None) else getattr(hint, "__name__", str(hint))


def _inside(where: str, name: Any) -> str:
    return f"{where}.{name}" if where else str(name)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
