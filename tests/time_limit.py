"""A fast test is one of a few seconds: this hook of pytest keeps it so."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """The limit is an option, for machines that are much slower or faster.

    Tests are written for 5 s. The same one took 4 s and 9 s on machines that call themselves the
    same, and 12 s beside other work; what is refused must not depend on that.
    """
    told = "processor time that a fast test may take, without its fixtures and other processes"
    parser.addoption("--most-seconds", type=float, default=15.0, help=told)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """A test that is not marked slow fails if it has taken too long.

    On TensorFlow only: what the others compile takes them longer.
    """
    began = time.process_time()
    yield
    seconds = time.process_time() - began
    if item.get_closest_marker("slow") or os.environ["KERAS_BACKEND"] != "tensorflow":
        return
    most = item.config.getoption("most_seconds")
    if seconds > most:
        pytest.fail(
            f"This test took {seconds:.1f} s of processor time, and a fast one may take "
            f"{most:g} s. Make it smaller (fewer epochs or examples, a smaller network, "
            "`run_eagerly=True`), share what is costly in a fixture of the module, or mark it "
            "`@pytest.mark.slow` where another fast test holds its claim.",
            pytrace=False,
        )
