"""What is known about exported files after they were checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_gcp import formatting


@dataclass(frozen=True)
class Loading:
    """How a file is loaded where nothing of the user's is imported.

    Args:
        code: What to call, with `path` for the file; empty for formats that other programs load.
        custom_objects: Classes and functions of the user's own that it needs, by their names.
        loads_here: Whether it loads without further arguments in the process that wrote it.
    """

    code: str = ""
    custom_objects: tuple[str, ...] = ()
    loads_here: bool = True


@dataclass(frozen=True)
class ExportedFile:
    """One file that was written, loaded back and found equal to the model.

    Args:
        format: Name of the format, one of `keras_gcp.exporting.FORMATS`.
        path: The file, or the folder of a SavedModel.
        bytes: Size on disk; of a folder, the sum over its files.
        max_difference: Largest difference between file and model over all outputs, a share
            of the model's own output (see `measure`).
        compared_on: `"sample"` if the inputs were real examples, `"random"` if they were drawn.
        seconds: Time to write, load and compare.
        operators: Distinct TFLite operators in the file, sorted; empty for other formats.
        measure: What `max_difference` is: `"relative maximum"` (largest absolute difference
            over largest absolute output) or `"relative rms"` (root mean square of the
            difference over root mean square of the output; quantised formats).
        tolerance: The limit that `max_difference` was held to.
        examples: Number of examples compared.
        loads_with: How to load it, as code: of a `.keras` file of a model with a loss, metric,
            optimizer or layer of your own, `compile=False` or `custom_objects`. Found by loading
            it, here and in a process that has imported Keras only. Empty for other formats.
        custom_objects: Names of these classes and functions. Registered ones
            (`keras.saving.register_keras_serializable`) are found by Keras where the module that
            registers them was imported.
    """

    format: str
    path: Path
    bytes: int
    max_difference: float
    compared_on: str
    seconds: float
    operators: tuple[str, ...] = ()
    measure: str = "relative maximum"
    tolerance: float = 0.0
    examples: int = 0
    loads_with: str = ""
    custom_objects: tuple[str, ...] = ()


class ExportedFiles(tuple[ExportedFile, ...]):
    """The files of one export, in the order of `formats`; printed, a table of them."""

    __slots__ = ()

    def __repr__(self) -> str:
        files = (f"{file.format} {formatting.file_size(file.bytes)}" for file in self)
        return f"<ExportedFiles: {', '.join(files)}>"

    def __str__(self) -> str:
        return "\n".join([formatting.table(_COLUMNS, self._rows(), width=80), *self._lines()])

    def _repr_html_(self) -> str:
        return formatting.html_table(_COLUMNS, self._rows(), self._lines())

    def _rows(self) -> list[list[Any]]:
        return [
            [
                file.format,
                file.path.name,
                formatting.file_size(file.bytes),
                f"{file.max_difference:.2g}",
                f"{file.tolerance:g}",
                formatting.seconds(file.seconds),
            ]
            for file in self
        ]

    def _lines(self) -> list[str]:
        """Where the files are, what was compared, and what the user has to know to load them."""
        folders = sorted({str(file.path.parent) for file in self})
        compared = sorted({f"{file.examples} {_SOURCES[file.compared_on]}" for file in self})
        return [
            *(f"in the folder {folder}" for folder in folders),
            *(f"difference from the model on {examples}" for examples in compared),
            *(f"{f.path.name} loads with {f.loads_with}" for f in self if f.custom_objects),
        ]


_COLUMNS = ("format", "file", "size", "difference", "allowed", "took")
_SOURCES = {"sample": "examples of the sample", "random": "random inputs"}
