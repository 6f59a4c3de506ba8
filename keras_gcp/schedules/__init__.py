"""Schedules: before which epochs (or steps) events happen, and how much of the way is gone then.

Both are 0-based, as in Keras callbacks. An event takes place *before* its epoch or step.
Steps are counted through all epochs: with 100 steps an epoch, step 250 is the 51st of epoch 2.

`linear(begin=2, end=8, every=2)`, and `cubic` and `cosine` with the same numbers:

| event before epoch | linear | cubic | cosine |
|---|---|---|---|
| 2 | 25 % | 57.8 % | 14.6 % |
| 4 | 50 % | 87.5 % | 50.0 % |
| 6 | 75 % | 98.4 % | 85.4 % |
| 8 | 100 % | 100 % | 100 % |

Those above are `Schedule`s: their events are known before training. `on_plateau` is an
`AdaptiveSchedule`: its events depend on how the training goes.
"""

from keras_gcp.schedules.base import (
    MIN_STEP,
    UNITS,
    AdaptiveSchedule,
    LimitingSchedule,
    Schedule,
    checked_events,
    in_words,
    min_step_of,
    unit_of,
)
from keras_gcp.schedules.curves import (
    ChannelsEvery,
    Curve,
    channels_every,
    cosine,
    cubic,
    default,
    function,
    linear,
    one_shot,
)
from keras_gcp.schedules.plateau import OnPlateau, on_plateau

__all__ = [
    "MIN_STEP",
    "UNITS",
    "AdaptiveSchedule",
    "ChannelsEvery",
    "Curve",
    "LimitingSchedule",
    "OnPlateau",
    "Schedule",
    "channels_every",
    "checked_events",
    "cosine",
    "cubic",
    "default",
    "function",
    "in_words",
    "linear",
    "min_step_of",
    "on_plateau",
    "one_shot",
    "unit_of",
]
