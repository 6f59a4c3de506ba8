"""The command line `keras-gcp`. Help and versions are shown without Keras being imported."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from keras_gcp.extras import is_installed, missing_text


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: What stands behind `keras-gcp`; None: that of the process.

    Returns:
        0 if it was done, 2 for a user's mistake, 1 for a failure, 130 if it was interrupted.
    """
    if not is_installed("cyclopts"):
        print(f"keras-gcp: {missing_text(['cyclopts'], 'the command line needs')}", file=sys.stderr)
        return 1
    from keras_gcp.cli.app import run

    return run(sys.argv[1:] if arguments is None else arguments)
