"""The command line `keras-gcp`. Help and versions are shown without Keras being imported."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: What stands behind `keras-gcp`; None: that of the process.

    Returns:
        0 if it was done, 2 for a user's mistake, 1 for a failure, 130 if it was interrupted.
    """
    if importlib.util.find_spec("cyclopts") is None:
        print(
            "keras-gcp: the command line needs the package cyclopts, which is not installed. "
            "Install it with `pip install keras-gcp[cli]`.",
            file=sys.stderr,
        )
        return 1
    from keras_gcp.cli.app import run

    return run(sys.argv[1:] if arguments is None else arguments)
