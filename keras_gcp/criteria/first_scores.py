"""Scores from before training: a criterion that cannot score is found out at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from keras_gcp.channels.map import ChannelMap
from keras_gcp.criteria.base import checked_scores, name_of, needs_sample
from keras_gcp.sample import DrawnSample
from keras_gcp.sample.digest import digest_of


class FirstScores:
    """A criterion that has scored a model once, as a criterion.

    Asked for the model as it was then, to the last bit, it does not score again. So an event before
    the first training step costs nothing more.

    Args:
        criterion: The criterion.
        model: The model before training.
        channels: Its channel map.
        sample: The sample, or None.

    Attributes:
        scores: The scores from then.

    Raises:
        InvalidArgument: the criterion does not score as it should, see `checked_scores`.
    """

    def __init__(
        self, criterion: Any, model: Any, channels: ChannelMap, sample: DrawnSample | None
    ) -> None:
        self.name, self.needs_sample = name_of(criterion), needs_sample(criterion)
        self._criterion, self._sample = criterion, sample
        self.scores = checked_scores(criterion, model, channels, sample)
        self._state = _state_of(model)

    def check(self, model: Any, channels: ChannelMap, sample: DrawnSample | None) -> None:
        """What the criterion itself checks."""
        own_check = getattr(self._criterion, "check", None)
        if own_check is not None:
            own_check(model, channels, sample)

    def __call__(
        self, model: Any, channels: ChannelMap, sample: DrawnSample | None
    ) -> Mapping[str, Any]:
        if sample is self._sample and _state_of(model) == self._state:
            return self.scores
        found: Mapping[str, Any] = self._criterion(model, channels, sample)
        return found


def _state_of(model: Any) -> str:
    """Differs for other weights, or other numbers of them."""
    return digest_of(keras.ops.convert_to_numpy(variable) for variable in model.weights)
