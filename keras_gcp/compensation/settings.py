"""How a cut is compensated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from keras_gcp.errors import InvalidArgument
from keras_gcp.validation import require_flag, require_one_of
from keras_gcp.validation.configured import Configured

METHODS = ("least_squares", "fold")
AUTO = "auto"


@dataclass(frozen=True, repr=False)
class Compensation(Configured):
    """What is done, on the sample, about what a cut takes away.

    A method's name is short for it, and so is a dict of its arguments.

    Args:
        method: `"least_squares"`: the kernels that read removed channels are refitted on those that
            stay, so that their outputs on the sample come nearest to the wide model's, and biases
            take what is constant. `"fold"`: only biases (and the means of normalizations) change.
            None: neither.
        recalibrate: Whether mean and variance of the `BatchNormalization` layers after a cut follow
            the change of their inputs. (With a method, the mean does in any case.)
        spare_frozen: Whether layers with `trainable=False` keep their numbers. None: in `fit` they
            do, elsewhere they do not.

    Raises:
        InvalidArgument: an argument is malformed.

    Example:

    ```python
    compensation = keras_gcp.Compensation("fold", recalibrate=False)
    small = keras_gcp.prune(model, {"macs": 0.5}, sample=x, compensation=compensation)
    ```
    """

    method: str | None = "least_squares"
    recalibrate: bool = True
    spare_frozen: bool | None = None

    def __post_init__(self) -> None:
        if self.method is not None:
            require_one_of("method", self.method, METHODS)
        object.__setattr__(self, "recalibrate", require_flag("recalibrate", self.recalibrate))
        if self.spare_frozen is not None:
            spared = require_flag("spare_frozen", self.spare_frozen)
            object.__setattr__(self, "spare_frozen", spared)

    def __bool__(self) -> bool:
        return self.method is not None or self.recalibrate


NO_COMPENSATION = Compensation(None, False)


def is_auto(compensation: Any) -> bool:
    """Whether a user leaves it to the function what is done."""
    return isinstance(compensation, str) and compensation == AUTO


def parse(compensation: Any, has_examples: bool, spare_frozen: bool = False) -> Compensation:
    """The compensation that a user means.

    Args:
        compensation: `"auto"` (least squares, if there are examples), a method's name, None (none
            at all), or a `Compensation`.
        has_examples: Whether there is a sample, or noise that may take its place.
        spare_frozen: What is done about frozen layers where the user does not say it.

    Raises:
        InvalidArgument: an unknown value, or one that needs a sample where there is none.
    """
    wanted = _of(compensation)
    if wanted and not has_examples:
        if is_auto(compensation):
            return NO_COMPENSATION
        raise InvalidArgument(
            f"`compensation={compensation!r}` needs examples, and no sample was given. Pass "
            "`sample=(x, y)`, or leave `compensation` out. (Outside `fit`, noise can take their "
            "place if the model has trained BatchNormalization layers, and inputs of floats only.)"
        )
    return replace(wanted, spare_frozen=spare_frozen) if wanted.spare_frozen is None else wanted


def _of(compensation: Any) -> Compensation:
    if compensation is None:
        return NO_COMPENSATION
    if isinstance(compensation, Compensation):
        return compensation
    if isinstance(compensation, Mapping):
        return Compensation.from_config(compensation)
    if isinstance(compensation, str) and compensation in (AUTO, *METHODS):
        return Compensation(METHODS[0] if compensation == AUTO else compensation)
    raise InvalidArgument(
        f"`compensation` expects 'auto', {', '.join(map(repr, METHODS))}, None, "
        "`keras_gcp.Compensation(...)`, or a dict of its arguments such as "
        f"{{'recalibrate': False}}. Received: {compensation!r}."
    )
