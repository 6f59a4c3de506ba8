"""The limit on the time of a fast test."""

from __future__ import annotations

import pytest

TESTS = """
import time
import pytest

def work():
    end = time.process_time() + 0.1
    while time.process_time() < end:
        pass

@pytest.fixture
def costly():
    work()
    yield
    work()

def test_quick():
    pass

def test_with_a_costly_fixture(costly):
    pass

@pytest.mark.slow
def test_marked():
    work()

def test_too_long():
    work()
"""


@pytest.mark.needs_tensorflow("the limit is for tests on TensorFlow")
def test_a_fast_test_that_takes_longer_fails_and_says_what_to_do(pytester):
    pytester.makepyfile(TESTS)
    options = ("-p", "time_limit", "--most-seconds=0.05", "-p", "no:cacheprovider")
    result = pytester.runpytest_inprocess(*options)
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["*a fast one may take 0.05 s.*mark it `@pytest.mark.slow`*"])
    result.stdout.fnmatch_lines(["FAILED *::test_too_long*"])
