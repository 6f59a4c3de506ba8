"""The stages of every cut: score, weigh, plan, compensate, recount. `fit` or no `fit`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from keras_gcp import backend, criteria, resources
from keras_gcp.backend.comparison import example_count, random_inputs
from keras_gcp.channels.map import ChannelMap
from keras_gcp.channels.trace import trace_at
from keras_gcp.compensation import Compensation, compensated
from keras_gcp.costs.costs import Costs
from keras_gcp.costs.counting import count_map, prunable_groups
from keras_gcp.criteria.base import name_of, predicts_loss, ranking_of
from keras_gcp.criteria.normalization import AUTO
from keras_gcp.errors import VerificationFailed
from keras_gcp.graph import Shapes
from keras_gcp.keras_state import Transaction
from keras_gcp.pruning.freshness import is_fresh
from keras_gcp.sample import DrawnSample
from keras_gcp.sample.input_sizes import sizes_in
from keras_gcp.selection import Selection
from keras_gcp.selection.preferences import Preferences, SetChoice
from keras_gcp.selection.prior import Prior
from keras_gcp.selection.select import EVENNESS_OF_FRESH
from keras_gcp.surgery.cut import Cut, Stage, cut_in_place


def decided(scorer: Any, channels: ChannelMap, sample: DrawnSample | None) -> criteria.Decision:
    """`criteria.decided`; the same in all processes that train the model together."""
    model = channels.model
    own = backend.run_everywhere(model, lambda: criteria.decided(scorer, model, channels, sample))
    require_one_criterion(model, own)
    return own


def require_one_criterion(model: Any, decision: criteria.Decision) -> None:
    """Refuses to go on if processes chose different criteria.

    Raises:
        ReplicasDisagree: another one applies to the sample of another process.
    """
    name = name_of(decision.scorer)
    backend.assert_equal(model, "the criteria that apply to their samples", name)


def score(
    scorer: Any, channels: ChannelMap, sample: DrawnSample | None, normalize: str
) -> np.ndarray:
    """Scores of a criterion, checked, as one number per set of coupled channels.

    Where several processes train the model together: of the mean of their scores, weighted by their
    numbers of examples.

    Args:
        scorer: The criterion; of "auto", the one that was decided for.
        channels: The model's channel map.
        sample: The sample, or None.
        normalize: What makes layers comparable, see `Selection`.
    """
    model = channels.model
    own = backend.run_everywhere(
        model, lambda: criteria.checked_scores(scorer, model, channels, sample)
    )
    mean = backend.mean_over_processes(model, own, weight=1 if sample is None else len(sample))
    return criteria.coupled_scores(mean, channels, criteria.normalization_of(scorer, normalize))


def preferences(
    scorer: Any,
    channels: ChannelMap,
    sample: DrawnSample | None,
    selection: Selection,
) -> Preferences:
    """Scores as `score` gives them, with the best sets of a criterion that says these.

    Args:
        scorer: The criterion; of "auto", the one that was decided for.
        channels: The model's channel map.
        sample: The sample, or None.
        selection: How to select. Its prior is not yet asked, see `weighted`.
    """
    if not isinstance(scorer, criteria.SetValued):
        return Preferences(score(scorer, channels, sample, selection.normalize))
    model = channels.model
    own = backend.run_everywhere(
        model, lambda: criteria.checked_evidence(scorer, model, channels, sample)
    )
    weight = 1 if sample is None else len(sample)
    evidence = backend.mean_over_processes(model, {"evidence": own}, weight)["evidence"]
    scores = criteria.checked(name_of(scorer), scorer.scores_of(evidence, channels), channels)
    normalize = criteria.normalization_of(scorer, selection.normalize)
    coupled = criteria.coupled_scores(scores, channels, normalize)
    return Preferences(coupled, SetChoice(evidence, scorer.best_set))


def settled(selection: Selection, scorer: Any) -> Selection:
    """A selection in which nothing is left to the criterion.

    Args:
        selection: What the user asked for.
        scorer: The criterion; of "auto", the one that was decided for.
    """
    ranking = ranking_of(scorer) if selection.ranking == AUTO else selection.ranking
    normalize = criteria.normalization_of(scorer, selection.normalize)
    return replace(selection, ranking=ranking, normalize=normalize)


def in_fit(selection: Selection, model: Any) -> Selection:
    """The same for a `fit` of a model: what has not learned yet looks dispensable at first."""
    if selection.evenness != AUTO:
        return selection
    return replace(selection, evenness=EVENNESS_OF_FRESH if is_fresh(model) else 0.0)


def scores_are_losses(selection: Selection, scorer: Any) -> bool:
    """Whether scores, as they are selected by, are still what a criterion predicts of the loss."""
    as_they_are = selection.normalize == "none" and selection.prior is None
    return as_they_are and predicts_loss(scorer)


def in_words(decision: criteria.Decision, normalize: str) -> str:
    """The criterion, for a plan; also how layers were compared, if it says that otherwise."""
    if normalize in (AUTO, criteria.normalization_of(decision.scorer)):
        return decision.words
    return f"{decision.words}; normalize={normalize!r}"


def weighted(
    scores: np.ndarray, channels: ChannelMap, prior: Prior | None, left: np.ndarray | None = None
) -> np.ndarray:
    """Scores of coupled channels, as what was measured before would have them.

    Args:
        scores: `(coupled_count,)`.
        channels: The model's channel map.
        prior: What was measured, or None.
        left: `(coupled_count,)` booleans, True = not gone already; all if None.
    """
    if prior is None:
        return scores
    groups = {one.name: one.coupled for one in prunable_groups(channels)}
    if left is not None:
        groups = {name: coupled[left[coupled]] for name, coupled in groups.items()}
    return prior.weighted(scores, groups)


def compensated_weights(
    channels: ChannelMap,
    keep: np.ndarray,
    sample: DrawnSample | None,
    settings: Compensation,
) -> dict[int, np.ndarray]:
    """`compensated`; where several processes train the model together, the mean of what they find.

    Any of their results compensates; but it has to be the same in all of them.
    """
    model = channels.model
    found = backend.run_everywhere(model, lambda: compensated(channels, keep, sample, settings))
    names = {id(variable): f"{i}" for i, variable in enumerate(model.weights)}
    mean = backend.mean_over_processes(
        model,
        {names[k]: v for k, v in found.items()},
        weight=1 if sample is None else len(sample),
    )
    return {key: mean[names[key]].astype(value.dtype) for key, value in found.items()}


def cut_and_recount(
    cut: Cut,
    expected: Costs,
    transaction: Transaction,
    *,
    inputs: Any,
    in_fit: bool,
    shapes: Shapes | None = None,
    exclude: Sequence[str] = (),
    stage: Stage = lambda name: nullcontext(),
) -> None:
    """Cuts a living model, and counts what it costs then.

    Args:
        cut: What is cut.
        expected: What the model is to cost.
        transaction: Receives every change.
        inputs: What the narrow model is compared with the masked one on; None: it is not.
        in_fit: Whether `model.fit` is running.
        shapes: Sizes of the inputs that costs are counted at, if the model leaves them open.
        exclude: Layers that stay.
        stage: Called with `"narrow"`, `"verify"` and `"trace"`.

    Raises:
        VerificationFailed: the narrow model computes or costs something else.
    """
    cut_in_place(cut, transaction, inputs=inputs, in_fit=in_fit, stage=stage)
    with stage("trace"):
        require_costs(expected, trace_at(shapes, cut.channels.model, exclude))


def comparison_inputs(model: Any, sample: DrawnSample | None, run_at: Shapes | None = None) -> Any:
    """A few examples to compare a narrow model with the masked one on; random without a sample."""
    if sample is None:
        return random_inputs(model, example_count(model, run_at), shapes=run_at)
    examples = example_count(model, sizes_in(model, sample))
    return keras.tree.map_structure(lambda x: x[:examples], sample.x)


def require_costs(expected: Costs, channels: ChannelMap) -> None:
    """Refuses a narrow model that costs something else than was expected.

    Args:
        expected: What the wide model's channel map promised.
        channels: The channel map of the narrow model.

    Raises:
        VerificationFailed: multiply-adds or parameters differ, or more memory is needed.
    """
    counted = count_map(channels, resources.counted(expected.further))
    for name, found, planned in (
        ("MACs", counted.macs, expected.macs),
        ("parameters", counted.parameters, expected.parameters),
    ):
        if found != planned:
            raise VerificationFailed(
                f"The narrow model has {_shown(found)} {name}; the plan said {_shown(planned)}. "
                "The cut is taken back. Please report the network."
            )
    for resource, cost in counted.further.items():
        # A tensor whose channels lie unevenly is planned at its full width; so less is possible.
        if cost > expected.further[resource]:
            raise VerificationFailed(
                f"The narrow model has {cost:,.0f} {resource}; the plan said "
                f"{expected.further[resource]:,.0f}. The cut is taken back. Please report the "
                "network."
            )


def _shown(count: int | None) -> str:
    return "an unknown number of" if count is None else f"{count:,}"
