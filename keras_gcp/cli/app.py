"""The commands, and one run of one of them: its result, its errors, its exit code."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable, Sequence
from inspect import Parameter as Argument
from inspect import signature
from typing import Any

from cyclopts import App, CycloptsError, Parameter

from keras_gcp._version import __version__
from keras_gcp.cli.commands.compare import compare
from keras_gcp.cli.commands.export import export
from keras_gcp.cli.commands.inspect import inspect
from keras_gcp.cli.commands.plan import plan
from keras_gcp.cli.commands.prune import prune
from keras_gcp.cli.commands.report import report
from keras_gcp.cli.commands.sensitivity import sensitivity
from keras_gcp.cli.console import Answer, say, stdout_for_the_result, wrapped
from keras_gcp.cli.failures import DONE, MISTAKE, exit_code_of, message_of
from keras_gcp.cli.options import OutputOptions

COMMANDS: tuple[Callable[..., Answer], ...] = (
    *(inspect, plan, prune, export),
    *(compare, report, sensitivity),
)

_HELP = "Make trained Keras networks smaller: channel pruning that really removes channels."

_MORE = (
    "Exit codes: 0 done, 2 a mistake in what was asked for, 1 a failure. "
    "Results go to stdout, all else to stderr."
)


def build() -> App:
    """The command line, as cyclopts knows it."""
    app = App(
        name="keras-gcp",
        help=_HELP,
        help_epilogue=_MORE,
        version=f"keras-gcp {__version__}",
        help_format="markdown",
        default_parameter=Parameter(negative=(), show_default=_shown_default),
        exit_on_error=False,
        print_error=False,
    )
    for command in COMMANDS:
        app.command(command, name=command.__name__)
    return app


def _shown_default(value: Any) -> str | None:
    """How help shows a default: not where nothing is the default."""
    if value is None or value is False or value == ():
        return None
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def run(arguments: Sequence[str]) -> int:
    """Runs one command; returns the exit code."""
    app = build()
    try:
        command, bound, _ = app.parse_args(list(arguments))
    except CycloptsError as error:
        say(wrapped(f"keras-gcp: {error}"))
        say(_usage(arguments))
        return MISTAKE
    if command not in COMMANDS:  # Help, or the version.
        command(*bound.args, **bound.kwargs)
        return DONE
    bound.apply_defaults()
    output = next(one for one in bound.arguments.values() if isinstance(one, OutputOptions))
    return _carry_out(command, bound.args, bound.kwargs, output)


def _usage(arguments: Sequence[str]) -> str:
    """How the command that was meant is called; where to look if none of them was."""
    meant = next((one for one in COMMANDS if arguments and one.__name__ == arguments[0]), None)
    if meant is None:
        return "`keras-gcp --help` lists the commands, `keras-gcp COMMAND --help` their options."
    call = ["keras-gcp", meant.__name__]
    for name, argument in signature(meant).parameters.items():
        if argument.kind is Argument.POSITIONAL_ONLY:
            call.append(name.upper())
        if argument.kind is Argument.VAR_POSITIONAL:
            call.append(f"[{name.upper()}...]")
    return wrapped(
        f"Usage: {' '.join(call)} [OPTIONS]. `keras-gcp {meant.__name__} --help` lists the options."
    )


def _carry_out(
    command: Callable[..., Answer], args: Any, kwargs: Any, output: OutputOptions
) -> int:
    # Before TensorFlow is imported: on some CPUs it leaves oneDNN off unless it is told.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    try:
        with stdout_for_the_result() as stdout:
            answer = command(*args, **kwargs)
            text = json.dumps(answer.data, indent=1) if output.json else answer.text
            print(text, file=stdout)
    except BrokenPipeError:  # `| head` has seen enough.
        return DONE
    except (Exception, KeyboardInterrupt) as error:
        if output.traceback:
            traceback.print_exc()
        say(wrapped(f"keras-gcp {command.__name__}: {message_of(error)}"))
        return exit_code_of(error)
    return DONE
