"""How a cut is compensated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from keras_gcp.errors import InvalidArgument
from keras_gcp.validation import require_flag

METHODS = ("least_squares", "fold")
AUTO = "auto"
DEFAULT = "least_squares"


@dataclass(frozen=True)
class Compensation:
    """What is done, on the sample, about what a cut takes away.

    Attributes:
        method: "least_squares": the kernels that read removed channels are refitted on the others,
            and what stays constant goes into biases. "fold": only the latter. None: neither.
        recalibrate: Whether mean and variance of BatchNormalization layers after a cut follow the
            change of their inputs. (With a method, the mean does in any case.)
        spare_frozen: Whether layers with `trainable=False` keep their numbers.
    """

    method: str | None = DEFAULT
    recalibrate: bool = True
    spare_frozen: bool = False

    def __bool__(self) -> bool:
        return self.method is not None or self.recalibrate


NO_COMPENSATION = Compensation(None, False)


def parse(
    compensate: Any, recalibrate: Any, has_sample: bool, spare_frozen: bool = False
) -> Compensation:
    """Checks what a user wrote.

    Args:
        compensate: "auto", "least_squares", "fold", or None.
        recalibrate: "auto", True or False.
        has_sample: Whether there are examples; without, "auto" means nothing is done.
        spare_frozen: See `Compensation`.

    Raises:
        InvalidArgument: an unknown value, or one that needs a sample where there is none.
    """
    if compensate is not None and not _is_one_of(compensate, (AUTO, *METHODS)):
        raise InvalidArgument(
            f"`compensate` expects one of 'auto', {', '.join(map(repr, METHODS))} or None. "
            f"Received: {compensate!r}."
        )
    if not _is_one_of(recalibrate, (AUTO,)):
        recalibrate = require_flag("recalibrate", recalibrate, or_else="'auto'")
    if not has_sample:
        for name, value in (("compensate", compensate), ("recalibrate", recalibrate)):
            if value not in (AUTO, None, False):
                raise InvalidArgument(
                    f"`{name}={value!r}` needs examples, and no sample was given. Pass "
                    f"`sample=(x, y)`, or leave `{name}` out."
                )
        return NO_COMPENSATION
    return Compensation(
        DEFAULT if compensate == AUTO else compensate,
        True if recalibrate == AUTO else recalibrate,
        spare_frozen,
    )


def _is_one_of(value: Any, words: tuple[str, ...]) -> bool:
    return isinstance(value, str) and value in words
