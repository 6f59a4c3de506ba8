"""Settings as frozen data: they read like the call that made them, and go into JSON and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from typing import Any, Self

from keras_gcp.errors import InvalidArgument


class Configured:
    """Base of frozen dataclasses that hold arguments; decorate them with `repr=False`."""

    def __repr__(self) -> str:
        return call_text(type(self).__name__, changed_fields(self), hides_some(self))

    def get_config(self) -> dict[str, Any]:
        """The arguments as a dict, as for Keras objects."""
        return {one.name: getattr(self, one.name) for one in _fields_of(self)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The inverse of `get_config`.

        Raises:
            InvalidArgument: an argument is unknown, or its value malformed.
        """
        return cls(**checked_names(cls, config))


def call_text(name: str, arguments: Mapping[str, Any], more: bool = False) -> str:
    """A call as code: `linear(begin=2, end=8)`.

    Args:
        name: What is called.
        arguments: Its arguments; functions are shown by their names.
        more: Whether there are others that are not shown, such as arrays.
    """
    shown = [f"{key}={_shown(value)}" for key, value in arguments.items()]
    return f"{name}({', '.join(['...', *shown] if more else shown)})"


def hides_some(settings: Any) -> bool:
    """Whether a dataclass has fields that are too large to be shown."""
    return any(not one.repr for one in _fields_of(settings) if one.default is MISSING)


def changed_fields(settings: Any) -> dict[str, Any]:
    """The fields of a dataclass that differ from their defaults, and those without a default."""
    found = ((one, getattr(settings, one.name)) for one in _fields_of(settings) if one.repr)
    return {one.name: value for one, value in found if not _is_default(one, value)}


def checked_names(kind: type, config: Any) -> dict[str, Any]:
    """A dict of arguments, if a dataclass has them all.

    Raises:
        InvalidArgument: it is not a dict, or has others.
    """
    known = [one.name for one in _fields_of(kind)]
    if not isinstance(config, Mapping) or not set(config) <= set(known):
        raise InvalidArgument(
            f"{kind.__name__} expects a dict with some of {', '.join(map(repr, known))}. "
            f"Received: {config!r}."
        )
    return dict(config)


def _fields_of(settings: Any) -> list[Field[Any]]:
    return [one for one in fields(settings) if one.init]


def _is_default(field: Field[Any], value: Any) -> bool:
    if field.default is not MISSING:
        return value is field.default or (
            (type(value) is type(field.default)) and bool(value == field.default)
        )
    return field.default_factory is not MISSING and value == field.default_factory()


def _shown(value: Any) -> str:
    """Values as code; functions and classes by name, and no arrays."""
    if callable(value) and hasattr(value, "__name__"):
        return str(value.__name__)
    return repr(value)
