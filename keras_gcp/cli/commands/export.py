"""`keras-gcp export`: files of a model, each proved equal to it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

import keras_gcp
from keras_gcp.cli.console import WIDTH, Answer, say
from keras_gcp.cli.data import read_data
from keras_gcp.cli.models import open_model
from keras_gcp.cli.options import DataOptions, ModelFile, ModelOptions, OutputOptions
from keras_gcp.formatting import table

Format = Literal[
    "keras", "saved_model", "tflite", "tflite_float16", "tflite_dynamic", "tflite_int8", "onnx"
]


def export(
    model: ModelFile,
    folder: Path,
    /,
    *,
    formats: Annotated[tuple[Format, ...], Parameter(consume_multiple=True)] = ("keras", "tflite"),
    name: str | None = None,
    tolerance: float | None = None,
    options: ModelOptions = ModelOptions(),
    data: DataOptions = DataOptions(),
    shown: OutputOptions = OutputOptions(),
) -> Answer:
    """Write files of a model for other programs; each is loaded back and compared first.

    Args:
        model: A .keras or .h5 file.
        folder: Where the files go.
        formats: Which files; tflite_int8 is calibrated on `--data`.
        name: Name of the files; that of the model file, if not said.
        tolerance: Largest difference allowed, a share of the output; each format has its own.
    """
    network = open_model(model, options)
    examples = read_data(data, network, options.shape())
    say(f"writing {', '.join(formats)}")
    sample = None if examples is None else examples.train.x
    files = keras_gcp.export(
        network, folder, formats, sample, tolerance=tolerance, name=name or model.stem
    )
    rows = [[one.format, str(one.path), one.bytes, f"{one.max_difference:.2g}"] for one in files]
    compared = files[0]
    inputs = "examples of --data" if compared.compared_on == "sample" else "random inputs"
    lines = [
        table(["format", "file", "bytes", "difference"], rows, width=WIDTH),
        f"difference: from the model's output, on {compared.examples} {inputs}, as a share of it",
    ]
    return Answer("\n".join(lines), {"files": [_record(one) for one in files]})


def _record(file: Any) -> dict[str, Any]:
    return {**asdict(file), "path": str(file.path)}
