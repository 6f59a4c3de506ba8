"""Errors as a user reads them, and the exit code that tells programs of them."""

from __future__ import annotations

from keras_gcp.errors import ImpossibleBudget, InvalidArgument, KerasGCPError, UnsupportedModel

DONE, FAILED, MISTAKE, INTERRUPTED = 0, 1, 2, 130

_MISTAKES = (ImpossibleBudget, InvalidArgument, UnsupportedModel)
"""The package refuses what it was given; all else went wrong on the way."""

_FLAGS = {
    "sample=(x, y)": "--data",
    "`sample=`": "`--data`",
    "`sample`": "`--data`",
    "`data`": "`--data`",
    "`input_shape=`": "`--input-shape`",
    "`input_shape`": "`--input-shape`",
    "`exclude=`": "`--exclude`",
    "`exclude`": "`--exclude`",
    "`formats`": "`--formats`",
    "`criterion`": "`--criterion`",
    "`rounds`": "`--rounds`",
    "`metric`": "`--metric`",
    "`shares`": "`--shares`",
    "`cache`": "`--cache`",
    "`tolerance=`": "`--tolerance`",
    "`align`": "`--align`",
    "`floor`": "`--floor`",
    "`evenness`": "`--evenness`",
}
"""Arguments that messages name as Python has them."""


def exit_code_of(error: BaseException) -> int:
    """What the process ends with."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    return MISTAKE if isinstance(error, _MISTAKES) else FAILED


def message_of(error: BaseException) -> str:
    """What happened, without a traceback."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, KerasGCPError):
        text = str(error)
        for argument, flag in _FLAGS.items():
            text = text.replace(argument, flag)
        return text
    if isinstance(error, OSError) and error.filename:
        return f"'{error.filename}': {error.strerror}."
    if isinstance(error, MemoryError):
        return "there is not enough memory. Fewer examples need less: `--max-examples`."
    return (
        f"{type(error).__name__}: {error}\nThis should not happen. `--traceback` shows where it "
        "did; please report it."
    )
