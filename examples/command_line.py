"""Runs a script: its help shows all of its flags, ends with 0, and imports no TensorFlow."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from absl import app, flags

HELP = {"--help", "-help", "-h", "--helpshort", "--helpfull"}


def run(
    main: Callable[[Sequence[str]], Any], about: str | None, argv: Sequence[str] | None = None
) -> None:
    """Parses the flags and calls `main`.

    Args:
        main: What to run with the arguments that are left.
        about: The script's docstring.
        argv: The command line; None: that of the process.
    """

    def parse(arguments: Sequence[str]) -> list[str]:
        if HELP & set(arguments[1:]):
            print(f"{(about or '').strip()}\n\nFlags:\n{all_flags()}")
            sys.exit(0)
        return app.parse_flags_with_usage(arguments)

    app.run(main, argv=None if argv is None else list(argv), flags_parser=parse)


def all_flags() -> str:
    """The flags of the script, and of what it shares with others; not those of absl itself."""
    modules = flags.FLAGS.flags_by_module_dict()
    own = [name for name in modules if not name.startswith("absl.")]
    texts = (flags.FLAGS.module_help(name) for name in own)
    # Without the line that names the file.
    return "\n".join(text.strip("\n").partition("\n")[2] for text in texts)
