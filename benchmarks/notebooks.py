"""Runs the notebooks of the docs, and keeps what they print.

    python benchmarks/notebooks.py first_steps reading_a_plan

Without names all of them; `pretrained_to_int8` downloads weights.

Warnings, pictures and how often a cell was run are not kept, so that a change can be read.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import nbclient
import nbformat
from absl import app

FOLDER = Path(__file__).parents[1] / "docs" / "notebooks"


def main(arguments: Sequence[str]) -> None:
    """Runs those that are named."""
    for name in arguments[1:] or sorted(path.stem for path in FOLDER.glob("*.ipynb")):
        path = FOLDER / f"{name}.ipynb"
        notebook = nbformat.read(path, as_version=4)
        with tempfile.TemporaryDirectory() as folder:  # Some write files.
            own = {"metadata": {"path": folder}}
            client = nbclient.NotebookClient(
                notebook, timeout=3600, resources=own, coalesce_streams=True
            )
            client.execute()
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.execution_count = None
                cell.outputs = [one for one in cell.outputs if one.get("name") == "stdout"]
                cell.metadata.pop("execution", None)
        nbformat.write(notebook, path)
        print(path)


if __name__ == "__main__":
    app.run(main)
