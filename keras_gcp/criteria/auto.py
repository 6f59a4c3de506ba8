"""The criterion that is taken if none is named: the first of a row that applies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from keras_gcp.channels.map import ChannelMap
from keras_gcp.classification.labels import check_targets
from keras_gcp.criteria.base import Criterion, check, name_of
from keras_gcp.criteria.compensation_aware import CompensationAware
from keras_gcp.criteria.feature_relevance import FeatureRelevance
from keras_gcp.criteria.loss_aware import LossAware
from keras_gcp.criteria.taylor import Taylor
from keras_gcp.criteria.weight_norm import L2Norm
from keras_gcp.errors import InvalidArgument, UnsupportedModel, first_sentence
from keras_gcp.sample import DrawnSample

WITH_A_SAMPLE: tuple[Callable[[], Any], ...] = (
    LossAware,
    CompensationAware,
    FeatureRelevance,
    Taylor,
)
"""In the order in which they are tried; docs/defaults.md says why in this one."""

WITHOUT: Callable[[], Any] = L2Norm


@dataclass(frozen=True)
class Auto:
    """`"loss_aware"` where it applies, else the best other criterion that does.

    Where it is asked for scores it decides again; what scores more than once decides beforehand, by
    `decided`. It has no `normalize`: the criterion that it decides for says how layers are
    compared.
    """

    name: ClassVar[str] = "auto"
    needs_sample: ClassVar[bool] = False

    def check(self, model: Any, channels: ChannelMap, sample: DrawnSample | None) -> None:
        """Raises if labels do not fit the compiled loss, or no criterion applies."""
        decided(self, model, channels, sample)

    def __call__(
        self, model: Any, channels: ChannelMap, sample: DrawnSample | None
    ) -> Mapping[str, np.ndarray]:
        return decided(self, model, channels, sample).scorer(model, channels, sample)


@dataclass(frozen=True)
class Decision:
    """A criterion, and why it is this one.

    Attributes:
        scorer: The criterion.
        words: Its name; where it was chosen among others, also why those before it were not.
        was_open: Whether it was chosen, rather than named by the user.
    """

    scorer: Criterion
    words: str
    was_open: bool = False


def decided(
    criterion: Criterion, model: Any, channels: ChannelMap, sample: DrawnSample | None
) -> Decision:
    """The criterion that "auto" stands for; another one as it is.

    Raises:
        InvalidArgument: labels do not fit the compiled loss; so they may be wrong, and which
            criterion applies is not decided by them.
        UnsupportedModel: no criterion applies.
    """
    if not isinstance(criterion, Auto):
        return Decision(criterion, name_of(criterion))
    if sample is None:
        found = WITHOUT()
        check(found, model, channels, None)
        return Decision(found, f"{found.name}; the others need a sample", was_open=True)
    check_targets(model, sample)
    reasons = []
    for kind in WITH_A_SAMPLE:
        candidate = kind()
        try:
            check(candidate, model, channels, sample)
        except (InvalidArgument, UnsupportedModel) as error:
            reasons.append(f"{candidate.name} does not apply: {first_sentence(error)}")
            continue
        return Decision(candidate, "; ".join([candidate.name, *reasons]), was_open=True)
    found = WITHOUT()
    check(found, model, channels, sample)
    return Decision(found, "; ".join([found.name, *reasons]), was_open=True)
