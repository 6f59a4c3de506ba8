"""`keras-gcp compare`: any number of models and files side by side."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.types import ExistingPath

import keras_gcp
from keras_gcp.cli.console import Answer, say
from keras_gcp.cli.data import read_data
from keras_gcp.cli.models import open_model
from keras_gcp.cli.options import DataOptions, ModelOptions, OutputOptions
from keras_gcp.errors import InvalidArgument

Cost = Literal["macs", "parameters", "bytes", "latency_ms", "peak_bytes"]


def compare(
    first: ExistingPath,
    /,
    *others: ExistingPath,
    metric: str | None = None,
    latency: Annotated[bool, Parameter(negative="--no-latency")] = True,
    threads: int = 1,
    plot: Path | None = None,
    cost: Cost = "macs",
    options: ModelOptions = ModelOptions(),
    data: DataOptions = DataOptions(),
    shown: OutputOptions = OutputOptions(),
) -> Answer:
    """Compare models and files: how good, how large, how fast; the first is what others refer to.

    Args:
        first: A .keras, .h5, .tflite or .onnx file, or the folder of a SavedModel.
        others: More of these.
        metric: What to measure on labelled data; accuracy, if not said.
        latency: Whether to measure it.
        threads: Threads for the latency.
        plot: File for a picture with the Pareto front (.svg or .png).
        cost: What the picture shows the metric against.
    """
    files = (first, *others)
    model = next((one for one in files if one.suffix in (".keras", ".h5", ".hdf5")), None)
    if model is None and data.data is not None:
        raise InvalidArgument(
            "`--data` is read for the inputs of a Keras model. Expected a .keras or .h5 file among "
            f"those compared. Received: {', '.join(map(str, files))}."
        )
    examples = None
    if model is not None:
        examples = read_data(data, open_model(model, options), options.shape())
    say(f"comparing {len(files)} files")
    found = keras_gcp.compare(
        named(files),
        None if examples is None else keras_gcp.Sample(examples.test.as_sample(), None),
        metric=metric,
        measure_latency=latency,
        threads=threads,
        verbose=int(sys.stderr.isatty()),
    )
    lines = [str(found)]
    if plot is not None:
        lines.append(f"plot: {found.plot(plot, cost)}")
    return Answer("\n".join(lines), found.to_dict())


def named(files: tuple[Path, ...]) -> dict[str, str]:
    """Files by their names; by their paths where two have one name."""
    names = [file.name for file in files]
    return {str(file) if names.count(file.name) > 1 else file.name: str(file) for file in files}
