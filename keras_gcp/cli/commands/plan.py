"""`keras-gcp plan`: which channels would go, before anything is changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras_gcp
from keras_gcp.cli.console import Answer, say
from keras_gcp.cli.data import Examples, read_data
from keras_gcp.cli.files import write_text
from keras_gcp.cli.models import open_model
from keras_gcp.cli.options import (
    BudgetOptions,
    ChoiceOptions,
    DataOptions,
    ModelFile,
    OutputOptions,
    PrunedModelOptions,
)


def plan(
    model: ModelFile,
    /,
    *,
    budget: BudgetOptions = BudgetOptions(),
    options: PrunedModelOptions = PrunedModelOptions(),
    data: DataOptions = DataOptions(),
    choice: ChoiceOptions = ChoiceOptions(),
    output: Path | None = None,
    shown: OutputOptions = OutputOptions(),
) -> Answer:
    """Choose channels so that a budget is met, and say which and why; changes nothing.

    Args:
        model: A .keras or .h5 file.
        output: File for the plan, for `keras-gcp prune --plan`.
    """
    limits = budget.budget()  # Before anything is read that takes long.
    network = open_model(model, options)
    examples = read_data(data, network, options.shape())
    found = planned(network, limits, examples, options, data, choice)
    if output is not None:
        write_text(output, found.to_json())
    written = "" if output is None else f"\nplan: {output}"
    return Answer(found.explain() + written, json.loads(found.to_json()))


def planned(
    model: Any,
    limits: keras_gcp.Budget,
    examples: Examples | None,
    options: PrunedModelOptions,
    data: DataOptions,
    choice: ChoiceOptions,
) -> keras_gcp.Plan:
    """The plan that options describe."""
    selection = choice.selection()
    with_data = "without data" if examples is None else f"with {examples.described}"
    say(f"planning for {limits}, {with_data}")
    return keras_gcp.plan(
        model,
        limits,
        choice.criterion,
        sample_of(examples, choice.sample_size),
        exclude=options.exclude,
        selection=selection,
        rounds=choice.rounds,
        seed=data.seed,
        input_shape=options.shape(),
    )


def sample_of(examples: Examples | None, size: int) -> keras_gcp.Sample | None:
    """The examples that scores and compensation look at."""
    return None if examples is None else keras_gcp.Sample(examples.train.as_sample(), size)
