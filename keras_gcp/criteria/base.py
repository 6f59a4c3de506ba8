"""What a criterion is, and what is asked of the scores it returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import keras
import numpy as np

from keras_gcp.channels.map import ChannelMap
from keras_gcp.criteria.normalization import AUTO, NORMALIZATIONS, OF_FUNCTIONS
from keras_gcp.criteria.unchanged import unchanged_weights
from keras_gcp.errors import InvalidArgument
from keras_gcp.sample import DrawnSample


class Criterion(Protocol):
    """Scores channels: a plain callable; a user's own function will do.

    It may have attributes more: `needs_sample`, False for criteria that look at weights only;
    `normalize`, how its scores of different layers are compared (`"norm"`, `"mean"`, `"rank"` or
    `"none"`, see `keras_gcp.Selection`; `"mean"` without it); `ranking`, `"score_per_cost"` if its
    scores are worth dividing by costs; `predicts_loss`, True if the sum of the scores of all that
    leaves is how much the loss is expected to rise; and `check(model, channels, sample)`,
    which raises if the criterion does not apply. That is called before training begins, and each
    time right before the criterion is: so it need not look again.
    """

    def __call__(
        self, model: Any, channels: ChannelMap, sample: DrawnSample | None
    ) -> Mapping[str, Any]:
        """Scores every channel that begins in a layer.

        Args:
            model: The model.
            channels: Its channel map.
            sample: Examples; None if the caller has none, and `sample.y` None without labels.

        Returns:
            Path of a producing layer to scores `(width,)`, larger = keep. It must have every
            layer of `channels.produced` with a prunable channel, and may have more of them.
        """
        ...


@runtime_checkable
class SetValued(Protocol):
    """A criterion that also says which *set* of a group's channels is best, for each number.

    The best set of n channels need not be a part of the best set of n + 1, so no scores tell it.
    How many channels each group keeps is chosen by scores, as ever; which ones, by `best_set`.
    """

    def evidence(self, model: Any, channels: ChannelMap, sample: DrawnSample | None) -> np.ndarray:
        """What the choice goes by: `(coupled_count, numbers)`, some for each set of coupled
        channels. Where several processes train the model, the mean of theirs is taken."""

    def scores_of(self, evidence: np.ndarray, channels: ChannelMap) -> Mapping[str, Any]:
        """The scores that `__call__` returns, from what it goes by."""

    def best_set(self, evidence: np.ndarray, count: int) -> np.ndarray:
        """`(count,)`, which of some channels to keep.

        Args:
            evidence: `(channels, numbers)`, that of the channels to choose from.
            count: How many to choose; from 1 on, and fewer than there are.
        """


def needs_sample(criterion: Any) -> bool:
    """Whether a criterion needs examples. A user's function is taken to manage without."""
    return bool(getattr(criterion, "needs_sample", False))


def normalization_of(criterion: Any, normalize: str = AUTO) -> str:
    """How the scores of different layers are compared: as asked for, or else as a criterion says.

    Args:
        criterion: A criterion; what `Auto` decided for, not `Auto` itself.
        normalize: One of `NORMALIZATIONS`, or `"auto"`.

    Raises:
        InvalidArgument: the criterion says something else.
    """
    own = getattr(criterion, "normalize", OF_FUNCTIONS)
    if not isinstance(own, str) or own not in NORMALIZATIONS:
        raise InvalidArgument(
            f"Criterion '{name_of(criterion)}' has the attribute `normalize`: {own!r}. Expected "
            f"one of {', '.join(map(repr, NORMALIZATIONS))}, or no such attribute."
        )
    return own if normalize == AUTO else normalize


def ranking_of(criterion: Any) -> str:
    """How a criterion's channels are ranked over the network, unless a selection says it."""
    return str(getattr(criterion, "ranking", "score"))


def predicts_loss(criterion: Any) -> bool:
    """Whether scores of a criterion are rises of the loss, that sum up over channels."""
    return bool(getattr(criterion, "predicts_loss", False))


def name_of(criterion: Any) -> str:
    """What to call a criterion in messages."""
    for attribute in ("name", "__name__"):
        if isinstance(name := getattr(criterion, attribute, None), str):
            return name
    return type(criterion).__name__


def prunable_layers(channels: ChannelMap) -> list[str]:
    """Producing layers with at least one prunable channel, in network order."""
    return [path for path, coupled in channels.produced.items() if channels.prunable[coupled].any()]


def check(criterion: Any, model: Any, channels: ChannelMap, sample: DrawnSample | None) -> None:
    """Checks that a criterion applies, before any work is done.

    Raises:
        InvalidArgument: it needs a sample and there is none, or the sample does not fit; or its
            attribute `normalize` is not one of those there are.
        UnsupportedModel: it does not apply to this model.
    """
    if needs_sample(criterion) and sample is None:
        raise InvalidArgument(
            f"Criterion '{name_of(criterion)}' needs examples, and no sample was given. "
            "Pass sample=(x, y), or take a criterion that looks at weights only: "
            "'l2_norm', 'l1_norm' or 'bn_scale'."
        )
    normalization_of(criterion)
    own_check = getattr(criterion, "check", None)
    if own_check is not None:
        own_check(model, channels, sample)


def checked_scores(
    criterion: Any, model: Any, channels: ChannelMap, sample: DrawnSample | None
) -> dict[str, np.ndarray]:
    """Runs a criterion, and checks what it returned.

    Returns:
        Dict: producing layer to scores `(width,)`, float64, every layer with a prunable channel.

    Raises:
        InvalidArgument: as for `check`; or a user's criterion returned no dict, left a layer out,
            named an unknown one, returned scores of another shape or that are not finite real
            numbers, or changed weights of the model.
    """
    check(criterion, model, channels, sample)
    with unchanged_weights(model, name_of(criterion)):
        returned = criterion(model, channels, sample)
    return checked(name_of(criterion), returned, channels)


def checked_evidence(
    criterion: SetValued, model: Any, channels: ChannelMap, sample: DrawnSample | None
) -> np.ndarray:
    """Asks a set-valued criterion what its choices go by, and checks what it returned.

    Raises:
        InvalidArgument: as for `checked_scores`; or it returned no finite numbers for each set of
            coupled channels.
    """
    check(criterion, model, channels, sample)
    name, count = name_of(criterion), channels.coupled_count
    with unchanged_weights(model, name):
        found = np.asarray(criterion.evidence(model, channels, sample), np.float64)
    if found.ndim != 2 or len(found) != count or not np.isfinite(found).all():
        raise InvalidArgument(
            f"`evidence` of criterion '{name}' must return finite numbers of shape ({count}, "
            f"numbers), a row for each set of coupled channels. Received shape {found.shape}"
            f"{'' if np.isfinite(found).all() else ', with NaN or infinite numbers'}."
        )
    return found


def checked(name: str, returned: Any, channels: ChannelMap) -> dict[str, np.ndarray]:
    """What a criterion of some name returned, as arrays; raises as `checked_scores`."""
    if not isinstance(returned, Mapping):
        raise InvalidArgument(
            f"Criterion '{name}' must return a dict: producing layer to an array of scores. "
            f"Received {type(returned).__name__}."
        )
    _check_layers(name, returned, channels)
    return {
        path: _checked_array(name, path, returned[path], len(coupled))
        for path, coupled in channels.produced.items()
        if path in returned
    }


def _check_layers(name: str, returned: Mapping[str, Any], channels: ChannelMap) -> None:
    missing = [path for path in prunable_layers(channels) if path not in returned]
    unknown = [path for path in returned if path not in channels.produced]
    if missing or unknown:
        raise InvalidArgument(
            f"Criterion '{name}' must score the layers that produce prunable channels. "
            f"Missing: {missing or 'none'}. Not among the producing layers: {unknown or 'none'}."
        )


def _checked_array(name: str, path: str, scores: Any, width: int) -> np.ndarray:
    try:
        found = np.asarray(keras.ops.convert_to_numpy(scores) if _is_tensor(scores) else scores)
        if found.dtype.kind in "cmMOSU":
            raise TypeError(f"an array of {found.dtype}")
        array = found.astype(np.float64)
    except (OverflowError, RuntimeError, TypeError, ValueError) as error:
        raise InvalidArgument(
            f"Criterion '{name}' returned no real numbers for layer '{path}': {error}. Expected an "
            f"array of shape ({width},)."
        ) from error
    if array.shape != (width,):
        raise InvalidArgument(
            f"Criterion '{name}' must return one score per channel of layer '{path}', an array of "
            f"shape ({width},). Received shape {array.shape}."
        )
    if not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).sum())
        raise InvalidArgument(
            f"Criterion '{name}' returned NaN or infinite scores for {bad} of {width} channels of "
            f"layer '{path}'. Expected finite numbers. Has the training diverged?"
        )
    return array


def _is_tensor(value: Any) -> bool:
    return keras.ops.is_tensor(value) or isinstance(value, keras.Variable)
