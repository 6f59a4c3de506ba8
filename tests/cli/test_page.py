"""The commands on the documentation's page run, in its order, and its limits are all there are."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from keras_gcp.cli.options import option_of
from keras_gcp.costs.cost_model import RESOURCES

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "command_line.md").read_text("utf-8")
COMMANDS = [
    line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()
]


@pytest.mark.slow
def test_every_command_of_the_page_runs(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (files,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(files, "command_line.md", "exec"), {})
    assert len(COMMANDS) >= 8
    for command in COMMANDS:
        program, *arguments = shlex.split(command)
        assert program == "keras-gcp"
        said = run(*arguments)
        assert said.code == 0 and said.out, f"{command}\n{said.err}"


def test_the_page_names_every_limit():
    assert all(f"`{option_of(resource)}`" in PAGE for resource in RESOURCES)
