"""`keras-gcp prune`: a model file in, a narrow model file out."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from cyclopts.types import ExistingFile

import keras_gcp
from keras_gcp.cli.commands.plan import planned, sample_of
from keras_gcp.cli.console import Answer, say
from keras_gcp.cli.data import read_data
from keras_gcp.cli.files import read_text
from keras_gcp.cli.measuring import Measured, measure
from keras_gcp.cli.models import open_model
from keras_gcp.cli.options import (
    BudgetOptions,
    ChoiceOptions,
    DataOptions,
    ModelFile,
    OutputOptions,
    PrunedModelOptions,
)
from keras_gcp.errors import InvalidArgument
from keras_gcp.formatting import file_size, percent, table

Compensation = Literal["auto", "least_squares", "fold", "none"]


def prune(
    model: ModelFile,
    narrow: Path,
    /,
    *,
    budget: BudgetOptions = BudgetOptions(),
    options: PrunedModelOptions = PrunedModelOptions(),
    data: DataOptions = DataOptions(),
    choice: ChoiceOptions = ChoiceOptions(),
    plan: ExistingFile | None = None,
    compensation: Compensation = "auto",
    shown: OutputOptions = OutputOptions(),
) -> Answer:
    """Write a narrow model that meets a budget, or follows a plan; proved before it is written.

    Args:
        model: A .keras or .h5 file.
        narrow: The .keras file to write.
        plan: A file of `keras-gcp plan --output` instead of a budget.
        compensation: What is done about what removed channels did; auto: least squares with data;
            without, on noise that BatchNormalization layers give the statistics of the training
            data, unless a plan is followed.
    """
    _require_target(narrow, model)
    if plan is not None and budget.given():
        raise InvalidArgument(
            "Both a plan and limits say what may remain. Expected `--plan` or limits such as "
            "`--macs`, not both."
        )
    settled = [*choice.given(), *(["--exclude"] if options.exclude else [])]
    if plan is not None and settled:
        raise InvalidArgument(
            f"A plan says which channels leave, so {', '.join(settled)} would change nothing. "
            "Expected it with `keras-gcp plan`, or without `--plan`."
        )
    limits = None if plan is not None else budget.budget()
    network = open_model(model, options)
    examples = read_data(data, network, options.shape())
    if limits is not None:
        ready = planned(network, limits, examples, options, data, choice)
    else:
        assert plan is not None
        ready = keras_gcp.Plan.from_json(read_text(plan))
    from keras_gcp.compensation import free_to_choose

    say("cutting")
    sample = sample_of(examples, choice.sample_size)
    settings: Any = None if compensation == "none" else compensation
    if plan is None:
        settings = free_to_choose(settings, sample is not None, network)
    pruned = keras_gcp.apply(
        network,
        ready,
        sample,
        compensation=settings,
        seed=data.seed,
        input_shape=options.shape(),
    )
    file = _written(pruned, narrow, examples)
    before, after = (measure(one, examples) for one in (network, pruned))
    rows = _rows(ready, before, after)
    facts = {
        "file": str(narrow),
        "bytes": file.bytes,
        "costs": {name: {"before": b, "after": ready.after[name]} for name, b in _costs(ready)},
        "metric": None
        if before is None or after is None
        else {"before": asdict(before), "after": asdict(after)},
        "widths": ready.widths(),
    }
    explained = "" if plan is not None else f"{ready.explain()}\n\n"
    return Answer(explained + _text(rows, before, file), facts)


def _require_target(narrow: Path, model: Path) -> None:
    if narrow.suffix != ".keras":
        raise InvalidArgument(
            f"The narrow model is written as a .keras file. Received: '{narrow}'. "
            "`keras-gcp export` writes other formats."
        )
    if narrow.resolve() == model.resolve():
        raise InvalidArgument(f"'{narrow}' is the model itself. Expected another file to write.")


def _written(pruned: Any, narrow: Path, examples: Any) -> Any:
    say(f"writing {narrow}")
    sample = None if examples is None else examples.train.x
    (file,) = keras_gcp.export(pruned, narrow.parent, ("keras",), sample, name=narrow.stem)
    return file


def _costs(plan: keras_gcp.Plan) -> list[tuple[str, float]]:
    return [(name, cost) for name, cost in plan.before.items() if name in plan.after]


def _rows(plan: keras_gcp.Plan, before: Measured | None, after: Measured | None) -> list[list[Any]]:
    rows: list[list[Any]] = [
        [name, round(cost), round(plan.after[name]), percent(plan.after[name] / cost)]
        for name, cost in _costs(plan)
        if name != "latency_ms" and cost
    ]
    if before is not None and after is not None:
        change = f"{100 * (after.value - before.value):+.2f} points" if "%" in after.shown else None
        rows.append([before.name, before.shown, after.shown, change])
    return rows


def _text(rows: list[list[Any]], metric: Measured | None, file: Any) -> str:
    lines = [table(["", "before", "after", ""], rows)]
    if metric is not None:
        lines.append(f"{metric.name} on {metric.examples:,} examples; not trained after the cut")
    else:
        lines.append("not trained after the cut; labelled --data would tell what it costs")
    return "\n".join([*lines, f"narrow model: {file.path} ({file_size(file.bytes)})"])
