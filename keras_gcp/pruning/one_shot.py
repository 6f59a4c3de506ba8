"""The stages once, outside fit: plan, apply, prune, narrow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from keras_gcp import backend, criteria, keras_state, resources
from keras_gcp.backend.comparison import example_count, random_inputs
from keras_gcp.backend.sizes_to_run import sizes_for_cut
from keras_gcp.channels.map import ChannelMap
from keras_gcp.channels.trace import trace_as_planned, trace_at
from keras_gcp.compensation import (
    AUTO,
    Compensation,
    free_to_choose,
    is_auto,
    makes_up_for_examples,
)
from keras_gcp.compensation import parse as parse_compensation
from keras_gcp.costs.budget import Budget
from keras_gcp.costs.costs import Costs
from keras_gcp.costs.counting import build_cost_model, count_map
from keras_gcp.keras_state import Transaction
from keras_gcp.pruning.original import Original
from keras_gcp.pruning.rounds import Rounds, checked_rounds
from keras_gcp.pruning.stages import (
    compensated_weights,
    decided,
    in_words,
    require_costs,
    settled,
)
from keras_gcp.sample import DrawnSample, sample_of
from keras_gcp.sample.input_sizes import sizes_of
from keras_gcp.selection import Selection
from keras_gcp.selection.blockers import require_prunable
from keras_gcp.selection.plan import Plan, check_plan
from keras_gcp.selection.planning import keep_of, limits_of, plan_of, require_reachable
from keras_gcp.surgery.cut import Cut, cut_in_place, put_values
from keras_gcp.surgery.model_copy import copy_model
from keras_gcp.surgery.optimizer import check_optimizer
from keras_gcp.surgery.verify import masked_outputs


def plan(
    model: Any,
    budget: Any,
    criterion: Any = "auto",
    sample: Any = None,
    *,
    exclude: Sequence[str] = (),
    selection: Any = Selection(),
    rounds: int = 1,
    seed: int | None = None,
    input_shape: Any = None,
) -> Plan:
    """Chooses which channels to keep so that a budget is met; changes nothing.

    Args:
        model: A built functional or sequential `keras.Model`.
        budget: What may *remain*: a dict of shares in (0, 1) of this model's `"macs"`,
            `"parameters"`, (prunable) `"channels"`, `"tflite_bytes"`, `"tflite_bytes_int8"`,
            `"peak_activation_bytes"`, `"peak_activation_bytes_int8"` or `"latency_ms"` (see
            `keras_gcp.timed`), or of `keras_gcp.absolute(count)`; or a `keras_gcp.Budget`, whose
            shares may be those of another model. All entries must hold.
        criterion: Name of a criterion, or a callable `(model, channels, sample) -> {path of a
            producing layer: (width,) scores}`, larger = keep. `"auto"`: `"loss_aware"` where
            it applies, else the first of `"compensation_aware"`, `"feature_relevance"`, `"taylor"`
            and `"l2_norm"` that does; without a sample, `"l2_norm"`. `plan.explain()` says which,
            and why.
        sample: Examples for criteria that look at data, as `fit` takes them: `x`, `(x, y)` or
            `(x, y, weight)`, with `x` a dict by name or a list in the order of `model.inputs` for
            several inputs; a `tf.data.Dataset`, a `keras.utils.PyDataset`, or another iterable of
            batches. 512 of them are drawn; a `keras_gcp.Sample` says how many else. Labels are
            asked for by criteria that read them (`"feature_relevance"`, `"taylor"`).
        exclude: Names (or paths) of layers whose outputs, and all that is tied to them, stay. A
            layer that hides convolutions or dense layers, and cannot be opened by
            `keras_gcp.flatten`, has to be named here; its multiply-adds are not counted.
        selection: How to select: a `keras_gcp.Selection`, or a dict of its arguments `align`,
            `floor`, `cap`, `ranking`, `prior`, `normalize` and `evenness`.
        rounds: In how many cuts to go to the budget, each leaving about the same share of what
            there is. Each but the first asks the criterion again, about a copy that is cut as
            planned so far and compensated (if there is a sample) by what this model computes.
            Widths, floors and budget are those of this model, and so is the plan. Every further
            round takes as long as scoring and `apply`.
        seed: Seed for drawing the sample and for the random criterion.
        input_shape: The size to count multiply-adds, memory and latency at, if the model leaves
            sizes of its input open (`keras.Input((None, None, 3))`): a tuple without the batch
            axis, such as `(224, 224, 3)`; for several inputs a list of tuples in the order of
            `model.inputs`, or a dict by their names. None: the size of the sample, if there is one.
            The model keeps its open sizes. Budgets in parameters, channels and bytes of files need
            no size.

    Returns:
        A `Plan`: `.explain()`, `.kept(layer)`, `.to_json()`.

    Raises:
        UnsupportedModel: the model cannot be traced or counted.
        InvalidArgument: an argument is malformed, or the budget is already met.
        ImpossibleBudget: floors and anchored layers do not let the budget be met.

    Example:

    ```python
    plan = keras_gcp.plan(model, {"macs": 0.5})
    print(plan.explain())
    narrow_model = keras_gcp.apply(model, plan)
    ```
    """
    return _plan(
        model,
        budget,
        criterion,
        sample,
        exclude=exclude,
        selection=selection,
        rounds=rounds,
        compensation=AUTO,
        seed=seed,
        input_shape=input_shape,
        in_place=True,
    )


def _plan(
    model: Any,
    budget: Any,
    criterion: Any,
    sample: Any,
    *,
    exclude: Sequence[str],
    selection: Any,
    rounds: int,
    compensation: Any,
    seed: int | None,
    input_shape: Any,
    in_place: bool,
) -> Plan:
    """`plan`; `in_place` tells whether the model itself may be cut by it, or only a copy."""
    rounds = checked_rounds(rounds)
    parsed, selected = Budget.parse(budget), Selection.parse(selection)
    resources.require_environment(parsed)
    scorer = criteria.get(criterion, seed=seed)
    said = sizes_of(model, input_shape)  # Refuses what has no inputs before any data are read.
    drawn = sample_of(sample, seed, model)
    shapes = said or sizes_of(model, None, drawn)
    channels = trace_at(shapes, model, exclude, in_place)
    require_prunable(channels, next(iter(parsed.limits)))
    if parsed.reference is None:
        original = Original.of_traced(channels, parsed)
        costs = original.costs
    else:
        original = Original.of(model, exclude, parsed, shapes)
        costs = count_map(channels, original.resources)
    limits = limits_of(parsed, costs, original.costs, channels)
    cost_model = build_cost_model(channels, original.resources)
    # Scoring may take long.
    require_reachable(channels, limits, selected, cost_model, original.widths)
    decision = decided(scorer, channels, drawn)

    def cut_copy(so_far: Plan) -> ChannelMap:
        narrow = apply(model, so_far, drawn, compensation=compensation)
        keras_state.compile_alike(narrow, model)  # Criteria may look at the loss.
        return trace_at(shapes, narrow, exclude)

    way = Rounds(
        channels,
        decision.scorer,
        drawn,
        settled(selected, decision.scorer),
        original,
        cost_model,
        cut_copy,
    )
    found = way.plan(limits, costs, str(parsed), rounds)
    words = in_words(decision, selected.normalize)
    return replace(found, criterion=words if rounds == 1 else f"{words}; in {rounds} rounds")


def apply(
    model: Any,
    plan: Plan,
    sample: Any = None,
    *,
    compensation: Any = AUTO,
    seed: int | None = None,
    input_shape: Any = None,
) -> Any:
    """Makes a narrow copy of a model; the original stays as it is.

    The copy is cut, then compared with the masked original on random inputs.

    Args:
        model: The model.
        plan: A plan for this model, or for one of the same architecture.
        sample: Examples to compensate the cut with, as in `keras_gcp.plan`. Labels are not looked
            at.
        compensation: What is done about what removed channels did: `"least_squares"`, `"fold"`,
            None, or a `keras_gcp.Compensation` (or a dict of its arguments). `"auto"`: least
            squares if there is a sample, else nothing. If there is none, and another value asks for
            it, noise takes its place, to which the model's `BatchNormalization` layers give the
            statistics of the training data.
        seed: Seed for drawing the sample.
        input_shape: The size at which the copy is compared, if the model leaves sizes of its input
            open; as in `plan`. None: that of the sample, or of the plan, or one that the model
            takes.

    Returns:
        A new, narrow plain `keras.Model` with the kept trained weights.

    Raises:
        InvalidArgument: the plan was made for another model, or an argument is malformed.
        UnsupportedModel: a layer cannot be made again from its configuration, or the model leaves
            sizes of its input open, and runs at none of those that were tried.
        VerificationFailed: the copy does not compute what the masked model computes.
    """
    keras_state.require_functional(model)
    check_plan(plan)
    drawn = sample_of(sample, seed, model)
    settings = _settings_of(compensation, drawn, model)
    shapes = sizes_for_cut(model, drawn, input_shape, plan.counted_at)
    channels = trace_as_planned(model, shapes=shapes)
    keep = keep_of(plan, channels)  # Refuses a foreign plan before anything is built.
    copy = copy_model(model)
    values = compensated_weights(channels, keep, drawn, settings)
    cut = Cut(channels, keep, values)
    # Of the original, not of the copy: so the copying is verified, too.
    inputs = random_inputs(model, example_count(model, shapes), shapes=shapes)
    with Transaction() as exchange:
        put_values(cut, exchange)
        expected = masked_outputs(channels, keep, inputs)
        exchange.rollback()
    places = {
        id(variable): copied for variable, copied in zip(model.weights, copy.weights, strict=True)
    }
    own = trace_as_planned(copy, shapes=shapes)
    copied = {id(places[key]): value for key, value in values.items()}
    _carry_out(Cut(own, keep_of(plan, own), copied), plan, inputs, expected)
    return copy


def prune(
    model: Any,
    budget: Any,
    criterion: Any = "auto",
    sample: Any = None,
    *,
    exclude: Sequence[str] = (),
    selection: Any = Selection(),
    rounds: int = 1,
    compensation: Any = AUTO,
    seed: int | None = None,
    input_shape: Any = None,
) -> Any:
    """`plan`, then `apply`: a narrow copy that meets a budget. Arguments as there.

    With several `rounds`, copies on the way are compensated as the result is. Without a sample,
    `compensation="auto"` is least squares on noise, if the model has `BatchNormalization` layers
    and inputs of floats (see `apply`); else nothing.

    Example:

    ```python
    small = keras_gcp.prune(model, {"macs": 0.5, "parameters": 0.6})
    ```
    """
    rounds = checked_rounds(rounds)
    drawn = sample_of(sample, seed, model)
    keras_state.require_functional(model)
    compensation = free_to_choose(compensation, drawn is not None, model)
    _settings_of(compensation, drawn, model)  # Refuses it before the long part.
    chosen = _plan(
        model,
        budget,
        criterion,
        drawn,
        exclude=exclude,
        selection=selection,
        rounds=rounds,
        compensation=compensation,
        seed=seed,
        input_shape=input_shape,
        in_place=False,
    )
    return apply(model, chosen, drawn, compensation=compensation)


def narrow(
    model: Any,
    plan: Plan,
    sample: Any = None,
    *,
    optimizer: Any = None,
    compensation: Any = AUTO,
    seed: int | None = None,
    input_shape: Any = None,
) -> None:
    """Makes a model narrower in place, for custom training loops.

    Layers and variables stay the same objects; their values, the slots of the optimizer, the
    configuration and all shapes become narrow. The result is compared with the masked model on
    random inputs; on any failure everything is as it was before.

    Compiled functions of your own that captured the old variables must be made again. A
    `tf.function` that was not fails when it is called (its first kernel has no elements); functions
    of `jax.jit` are compiled again, and refuse state that was taken out of the model before; an
    optimizer of PyTorch that holds old parameters is named in a warning.

    Args:
        model: The model.
        plan: A plan for it.
        sample: As in `apply`.
        optimizer: An optimizer whose slots follow the weights. The optimizer that the model was
            compiled with always follows.
        compensation: As in `apply`.
        seed: As in `apply`.
        input_shape: As in `apply`.

    Raises:
        InvalidArgument: the plan was made for another model, or an argument is malformed.
        UnsupportedModel: the optimizer keeps state that cannot be cut, or the model leaves sizes of
            its input open, and runs at none of those that were tried.
        VerificationFailed: the narrow model does not compute what the masked model computes.
        ReplicasDisagree: processes that train the model together have other plans, or one failed.
    """
    keras_state.require_functional(model)
    check_plan(plan)
    keras_state.check_strategy(model)
    drawn = sample_of(sample, seed, model)
    settings = _settings_of(compensation, drawn, model)
    given = [] if optimizer is None else [optimizer]
    for one in [*given, *keras_state.optimizers_of(model)]:
        check_optimizer(one)
    backend.assert_equal(model, "their plans", plan.digest())
    shapes = sizes_for_cut(model, drawn, input_shape, plan.counted_at)
    channels = trace_as_planned(model, in_place=True, shapes=shapes)
    keep = keep_of(plan, channels)
    inputs = random_inputs(model, example_count(model, shapes), shapes=shapes)
    values = compensated_weights(channels, keep, drawn, settings)
    before = keras_state.backend_values(model)
    _carry_out(Cut(channels, keep, values), plan, inputs, optimizers=given)
    keras_state.notice_cut(model, before)


def _settings_of(compensation: Any, sample: DrawnSample | None, model: Any) -> Compensation:
    """How a cut is compensated: on the sample; where there is none and one asks for it, on noise.

    `"auto"` does not ask: without a sample, `apply` and `narrow` carry out a plan to the letter.
    """
    noise = not is_auto(compensation) and makes_up_for_examples(model)
    has_examples = sample is not None or noise
    return parse_compensation(compensation, has_examples)


def _carry_out(
    cut: Cut,
    plan: Plan,
    inputs: Any,
    expected: list[np.ndarray] | None = None,
    optimizers: Sequence[Any] = (),
) -> None:
    """Narrows a model in place, compares and counts it; on any failure it is as it was before.

    Args:
        cut: What is cut.
        plan: What it was planned by.
        inputs: What the comparison is made on.
        expected: What has to come out; None takes what the masked model computes.
        optimizers: Whose slots follow, besides those that the model holds.
    """
    model, shapes = cut.channels.model, cut.channels.counted_at
    expected_costs = _costs_of(cut, plan)

    def run() -> None:
        cut_in_place(cut, transaction, inputs=inputs, expected=expected, optimizers=optimizers)
        require_costs(expected_costs, trace_as_planned(model, shapes=shapes))

    with Transaction() as transaction:
        backend.run_everywhere(model, run)


def _costs_of(cut: Cut, plan: Plan) -> Costs:
    """What this model costs once it is cut, as far as sizes are known.

    Not what the plan says: that may have been made on smaller images, or edited by hand.
    """
    channels = cut.channels
    known = all(site.positions is not None for site in channels.macs)
    cost_model = build_cost_model(channels, resources.counted(plan.after.further if known else ()))
    return plan_of(channels, cut.keep, cost_model).after
