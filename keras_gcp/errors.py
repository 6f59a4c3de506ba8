"""Exceptions: each says what happened, what was expected, and what to do."""

from __future__ import annotations

import re


class KerasGCPError(Exception):
    """Base class of every error that keras_gcp raises on purpose."""


class InvalidArgument(KerasGCPError, ValueError):
    """An argument is out of range, of the wrong shape, or names something unknown."""


class UnsupportedModel(KerasGCPError, ValueError):
    """The model, or its optimizer, is of a kind that cannot be pruned safely."""


class ImpossibleBudget(KerasGCPError, ValueError):
    """The budget cannot be reached with the floors and anchors that apply."""


class VerificationFailed(KerasGCPError, RuntimeError):
    """The narrowed model does not compute what the masked model computed."""


class ReplicasDisagree(KerasGCPError, RuntimeError):
    """Processes that train one model together did not all take the same step."""


class ExportMismatch(KerasGCPError, RuntimeError):
    """An exported file does not compute what the model computes."""


class BackupFailed(KerasGCPError, RuntimeError):
    """A backup of a training cannot be written or read."""


class WriteFailed(KerasGCPError, OSError):
    """A file cannot be written; what was there before is as it was."""


class MissingPackage(InvalidArgument, ImportError):
    """What was asked for needs a package that is not installed; names the extra that has it."""


class UnsupportedKeras(KerasGCPError, ImportError):
    """The installed version of Keras is too old, or keeps its state elsewhere."""


def first_sentence(error: BaseException, most: int = 200) -> str:
    """What happened, of a message that goes on with what was expected and what to do."""
    first = re.split(r"(?<!e\.g)\.\s", f"{error} ")[0].strip()
    first = first[:1].lower() + first[1:]
    return first if len(first) <= most else f"{first[: most - 2]} …"


def in_short(error: BaseException, most: int = 200) -> str:
    """Class of an exception and the beginning of what it says: those of others may be pages."""
    lines = str(error).strip().splitlines()
    kind = type(error).__name__
    return f"{kind}: {lines[0][:most]}" if lines else kind
