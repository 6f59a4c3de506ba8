"""Silence covers native output, and never hides an error."""

from __future__ import annotations

import logging
import os
import sys

import pytest

from keras_gcp.exporting.quiet import silenced


def test_python_and_native_output_are_silenced_and_come_back(capfd):
    with silenced():
        print("hidden")
        print("hidden", file=sys.stderr)
        os.write(1, b"hidden\n")
        os.write(2, b"hidden\n")
    print("shown")
    os.write(2, b"shown\n")

    assert capfd.readouterr() == ("shown\n", "shown\n")


def test_errors_pass_and_carry_what_was_printed(capfd):
    with pytest.raises(ValueError, match="broken") as caught, silenced():
        os.write(2, b"the reason\n")
        raise ValueError("broken")

    assert "the reason" in caught.value.__notes__[0]
    print("shown")
    assert capfd.readouterr().out == "shown\n"


def test_log_handlers_made_inside_go_on_working(capsys):
    logger = logging.getLogger("made inside")
    logger.propagate = False
    with silenced():
        handler = logging.StreamHandler()
        logger.addHandler(handler)
        logger.warning("hidden")
    logger.warning("shown")
    logger.removeHandler(handler)

    assert capsys.readouterr().err == "shown\n"
