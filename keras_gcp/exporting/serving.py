"""What runs in the process of `worker`: this file as a script, so that little is imported.

It takes the seconds that Keras and TensorFlow need to be imported only when it is told to, or when
a function of theirs is asked for.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import json
import os
import pickle
import signal
import sys
import threading
from typing import IO, Any


def serve(requests: IO[bytes], answers: IO[bytes], idle: float) -> None:
    """Answers requests until there will be no more, or until there are none for a while.

    Args:
        requests: Of these: a line of JSON, the `sys.path` of who asks; another one, modules to
            import while nobody waits; then pickled `(folder, function, arguments)`, pickled as
            bytes, with the folder that who asks works in, which relative paths start from.
        answers: Gets `(succeeded, result or exception)` for each, pickled; "ready" before them.
        idle: Seconds after which the process ends, with exit code 0.
    """
    sys.path[:] = json.loads(requests.readline())
    _send(answers, "ready")
    for module in json.loads(requests.readline()):
        with contextlib.suppress(Exception):  # It will be told when it is asked for.
            importlib.import_module(module)
    while (request := _next(requests, idle)) is not None:
        try:
            folder, function, arguments = pickle.loads(request)
            if folder is not None:
                os.chdir(folder)
            answer = (True, function(*arguments))
        except Exception as error:
            answer = (False, _to_send(error))
        _send(answers, answer)


def _next(requests: IO[bytes], idle: float) -> Any:
    timer = threading.Timer(idle, os._exit, [0])
    timer.daemon = True
    timer.start()
    try:
        return pickle.load(requests)
    except EOFError:
        return None
    finally:
        timer.cancel()


def _send(answers: IO[bytes], answer: Any) -> None:
    pickle.dump(answer, answers)
    answers.flush()


def _to_send(error: Exception) -> Any:
    """The exception, or its class and text where the class is one that may not be known there."""
    if type(error).__module__ in ("builtins", "keras_gcp.errors"):
        with contextlib.suppress(Exception):
            return pickle.loads(pickle.dumps(error))
    return type(error).__name__, str(error)


if __name__ == "__main__":
    own_answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # What converters print is for the log.
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group of processes.
    faulthandler.enable()
    serve(sys.stdin.buffer, own_answers, float(sys.argv[1]))
