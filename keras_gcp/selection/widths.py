"""Which widths a group of channels may have: alignment, floor and cap. Sees names and numbers.

Each of the three is one value for all layers, or a dict by layer. A dict's key is the name of a
layer, or of a nested model (then it counts for all layers inside), or a path 'model/layer'; "*"
stands for all layers not named, and without it they have the default.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keras_gcp.errors import InvalidArgument
from keras_gcp.validation import integer, number

AUTO = "auto"
AUTO_BLOCK = 8
AUTO_LEAST_WIDTH = 16
DEFAULT_FLOOR = 0.1
OTHERS = "*"

Align = str | int | Mapping[str, str | int]
Floor = int | float | Mapping[str, int | float]
Cap = int | float | Mapping[str, int | float | None] | None


Shares = Mapping[str, float]


@dataclass(frozen=True)
class Producer:
    """A layer that produces channels of a group.

    Attributes:
        path: Address of the layer.
        multiplicity: How many of its channels stand or fall with one channel of the group.
    """

    path: str
    multiplicity: int = 1


@dataclass(frozen=True)
class Bounds:
    """What widths a group may have, counted in its own channels.

    Attributes:
        least: The fewest channels.
        most: The most channels.
        step: Widths are multiples of it.
    """

    least: int
    most: int
    step: int


def checked_align(align: object) -> Align:
    """In plain numbers; refuses anything but "auto", positive integers, and dicts of these."""
    found: Align = _checked("align", align, _align, "'auto' or a positive integer")
    return found


def checked_floor(floor: object) -> Floor:
    """In plain numbers; refuses anything but counts, shares in [0, 1), and dicts of these."""
    found: Floor = _checked(
        "floor",
        floor,
        _floor,
        "an int (channels, at least 1) or a float (share of the original width, in [0, 1))",
    )
    return found


def checked_cap(cap: object) -> Cap:
    """In plain numbers; refuses anything but None, counts, shares in (0, 1], dicts of these."""
    found: Cap = _checked(
        "cap",
        cap,
        lambda value: None if value is None else _cap(value),
        "None, an int (channels, at least 1) or a float (share of the original width, in (0, 1])",
    )
    return found


def checked_shares(shares: Mapping[Any, Any]) -> Shares:
    """In plain numbers; refuses anything but shares in (0, 1] by layer."""
    found: Shares = _checked("ranking", shares, _share, "a share in (0, 1]")
    if not found:
        raise InvalidArgument("`ranking` expects a share for one layer at least. Received: {}.")
    return found


def density_of(paths: Sequence[str], shares: Shares) -> float:
    """What shares by layer say of a group: the mean over its layers; 1 for those not named."""
    found = [float(_of_layer(shares, path, 1.0)) for path in paths]
    return sum(found) / len(found)


def check_layers(
    name: str, setting: Any, layers: Iterable[str], anchored: Mapping[str, str]
) -> None:
    """Refuses a dict that names layers which the model does not have, or which must stay.

    Args:
        name: The argument.
        setting: Its value.
        layers: Paths of all layers that produce channels.
        anchored: Layers of which all channels stay, with the reason.

    Raises:
        InvalidArgument: the dict has an entry without effect.
    """
    if not isinstance(setting, Mapping):
        return
    known = list(layers)
    for key in setting:
        named = [path for path in known if _names(key, path)]
        if key != OTHERS and not named:
            near = difflib.get_close_matches(str(key), known, n=4, cutoff=0.4) or known[:8]
            raise InvalidArgument(
                f"`{name}` names layer {key!r}, which is not a layer of the model that produces "
                f"channels. Did you mean {', '.join(map(repr, near))}? Convolutions, dense layers "
                "and embeddings produce channels; what follows them (normalization, activations) "
                "has their width. Layers of nested models are written 'model/layer'."
            )
        if named and all(path in anchored for path in named):
            raise InvalidArgument(
                f"`{name}` names layer {key!r}, whose channels all stay "
                f"({anchored[named[0]]}), so it would have no effect. Expected layers that may be "
                f"pruned; take it out of `{name}`."
            )


def bounds_of(
    group: str,
    producers: Sequence[Producer],
    original: int,
    least: int,
    align: Align,
    floor: Floor,
    cap: Cap,
) -> Bounds:
    """What the three settings say of a group; those of all its layers hold.

    Args:
        group: The group's name.
        producers: The layers that produce its channels.
        original: Channels it had in the original model.
        least: Channels that it must keep even if the floor is lower.
        align: See `keras_gcp.plan`.
        floor: See `keras_gcp.plan`.
        cap: See `keras_gcp.plan`.

    Raises:
        InvalidArgument: a cap lies below a floor.
    """
    leasts, mosts, steps = [min(least, original)], [original], [1]
    for one in producers:
        leasts.append(_least(_of_layer(floor, one.path, DEFAULT_FLOOR), one, original))
        mosts.append(_most(_of_layer(cap, one.path, None), one, original))
        steps.append(_step(_of_layer(align, one.path, AUTO), one, original))
    if min(mosts) < max(leasts):
        raise InvalidArgument(
            f"`cap` lets the group of layer '{group}' keep at most {min(mosts)} of its {original} "
            f"channels, but it has to keep at least {max(leasts)}. Expected a cap that is not "
            f"below the floor (by default {DEFAULT_FLOOR:.0%} of the original width): raise "
            f"`cap`, or lower `floor`, for '{group}'."
        )
    return Bounds(max(leasts), min(mosts), math.lcm(*steps))


def allowed_widths(group: str, present: int, original: int, bounds: Bounds) -> tuple[int, ...]:
    """The numbers of channels that a group may keep, falling.

    The present one, if the cap allows it, then multiples of the step. A group that was narrower
    than the step from the beginning has the halves of the step instead (of 8: 4, 2, 1), so that it
    shrinks, too.

    Raises:
        InvalidArgument: the cap lies below all of them.
    """
    step = bounds.step
    if original >= step:
        smaller = list(range((present - 1) // step * step, 0, -step))
    else:
        halves = (step >> power for power in range(1, step.bit_length()))
        smaller = [width for width in halves if width < present]
    least, most = min(bounds.least, present), bounds.most
    widths = tuple(width for width in (present, *smaller) if least <= width <= most)
    if not widths:
        raise InvalidArgument(
            f"`cap` lets the group of layer '{group}' keep at most {most} channels, but its "
            f"alignment to multiples of {step} and its floor of {bounds.least} leave no "
            f"such width. Raise `cap`, or set a smaller `align` for '{group}'."
        )
    return widths


def _least(floor: int | float, layer: Producer, original: int) -> int:
    if isinstance(floor, float):
        return min(original, max(1, math.ceil(floor * original - 1e-9)))
    return min(original, -(-floor // layer.multiplicity))


def _most(cap: int | float | None, layer: Producer, original: int) -> int:
    if cap is None:
        return original
    if isinstance(cap, float):
        return min(original, math.floor(cap * original + 1e-9))
    return min(original, cap // layer.multiplicity)


def _step(align: str | int, layer: Producer, original: int) -> int:
    if isinstance(align, int):
        wanted = align
    else:
        wanted = AUTO_BLOCK if original * layer.multiplicity >= AUTO_LEAST_WIDTH else 1
    return wanted // math.gcd(wanted, layer.multiplicity)


def _of_layer(setting: Any, path: str, default: Any) -> Any:
    """The value for a layer: that of the longest key which names it."""
    if not isinstance(setting, Mapping):
        return setting
    keys = [key for key in setting if key != OTHERS and _names(key, path)]
    return setting[max(keys, key=len)] if keys else setting.get(OTHERS, default)


def _names(key: str, path: str) -> bool:
    return path == key or path.startswith(f"{key}/")


def _checked(name: str, setting: object, value_of: Callable[[object], Any], expected: str) -> Any:
    """A setting in plain numbers.

    Args:
        name: The argument.
        setting: One value, or a dict by layer.
        value_of: The plain value; raises ValueError if there is none.
        expected: What it takes, in words.
    """
    if not isinstance(setting, Mapping):
        return _value(f"`{name}`", setting, value_of, f"{expected}, or a dict of these by layer")
    for key in setting:
        if not isinstance(key, str):
            raise InvalidArgument(f"`{name}` expects names of layers as keys. Received: {key!r}.")
    return {
        key: _value(f"`{name}[{key!r}]`", value, value_of, expected)
        for key, value in setting.items()
    }


def _value(argument: str, value: object, value_of: Callable[[object], Any], expected: str) -> Any:
    try:
        return value_of(value)
    except ValueError:
        raise InvalidArgument(f"{argument} expects {expected}. Received: {value!r}.") from None


def _align(value: object) -> str | int:
    return AUTO if isinstance(value, str) and value == AUTO else _count(value)


def _floor(value: object) -> int | float:
    found = number(value)
    if isinstance(found, float) and 0 <= found < 1:
        return found
    return _count(value)


def _cap(value: object) -> int | float:
    found = number(value)
    if isinstance(found, float) and 0 < found <= 1:
        return found
    return _count(value)


def _share(value: object) -> float:
    found = number(value)
    if found is None or not 0 < found <= 1:
        raise ValueError(value)
    return float(found)


def _count(value: object) -> int:
    found = integer(value)
    if found is None or found < 1:
        raise ValueError(value)
    return found
