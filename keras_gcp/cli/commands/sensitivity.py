"""`keras-gcp sensitivity`: which layers can do with fewer channels."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

import keras_gcp
from keras_gcp.cli.commands.plan import sample_of
from keras_gcp.cli.console import Answer, say
from keras_gcp.cli.data import read_data
from keras_gcp.cli.files import write_text
from keras_gcp.cli.models import open_model
from keras_gcp.cli.options import DataOptions, ModelFile, OutputOptions, PrunedModelOptions
from keras_gcp.errors import InvalidArgument


def sensitivity(
    model: ModelFile,
    /,
    *,
    data: DataOptions = DataOptions(),
    options: PrunedModelOptions = PrunedModelOptions(),
    criterion: str = "auto",
    metric: str | None = None,
    shares: Annotated[tuple[float, ...], Parameter(consume_multiple=True)] = (
        0.9,
        0.75,
        0.5,
        0.25,
        0.1,
    ),
    sample_size: int = 512,
    cache: Path | None = None,
    output: Path | None = None,
    plot: Path | None = None,
    shown: OutputOptions = OutputOptions(),
) -> Answer:
    """Measure how a metric falls when one group of channels alone gets narrower.

    Args:
        model: A .keras or .h5 file.
        criterion: What ranks the channels of a group, as in `keras-gcp plan`.
        metric: What to measure: accuracy, loss, or another metric of Keras by its name.
        shares: Shares of a group's channels to keep.
        sample_size: Examples that the criterion looks at.
        cache: File for measurements; a run that was killed goes on there.
        output: File for the result, for `keras-gcp plan --sensitivity`.
        plot: PNG file for the curves.
    """
    if data.data is None:
        raise InvalidArgument("A metric is measured on examples. Expected `--data` with labels.")
    network = open_model(model, options)
    examples = read_data(data, network, options.shape())
    assert examples is not None
    if examples.test.y is None:
        raise InvalidArgument(
            f"`--data {data.data}` has no labels. Expected some, such as 'y' beside 'x', or "
            "'y_test' beside 'x_test'."
        )
    say(f"measuring, with {examples.described}")
    found = keras_gcp.sensitivity(
        network,
        keras_gcp.Sample(examples.test.as_sample(), None),
        criterion,
        sample_of(examples, sample_size),
        metric=metric,
        shares=shares,
        exclude=options.exclude,
        cache=cache,
        seed=data.seed,
        verbose=int(sys.stderr.isatty()),  # A bar in a file is a long line of signs.
    )
    lines = [found.explain()]
    if output is not None:
        write_text(output, json.dumps(found.to_dict()))
        lines.append(f"sensitivity: {output}")
    if plot is not None:
        lines.append(f"plot: {found.plot(plot)}")
    return Answer("\n".join(lines), found.to_dict())
