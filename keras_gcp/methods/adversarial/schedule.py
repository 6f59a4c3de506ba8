"""A learning rate that rises slowly, and then falls fast."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from keras_gcp.errors import InvalidArgument
from keras_gcp.validation import between, require_above_0, require_integer


@keras.saving.register_keras_serializable(package="keras_gcp")
class SlowStartFastDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Rises in a line up to a peak, and then falls exponentially.

    With the progress p = step / total_steps, the peak rate r and the peak at p0:

    - `p < p0`: `r * (start + (1 - start) * p / p0)`;
    - `p >= p0`: `r * end ** ((p - p0) / (1 - p0))`.

    After `total_steps` it stays at `r * end`. For fine-tuning a trained network on adversarial
    examples: a low rate at first keeps what it has learnt, a short time at a high one adapts it,
    and a fast decay ends before it fits the attacks on its training examples.

    After Jeddi, Shafiee and Wong, 2020 (arXiv 2012.13628). That the rate starts low, rises and
    decays fast is theirs; the curve and its numbers are ours.

    Args:
        peak_learning_rate: The greatest rate. Half of what the network was trained with is a start.
        total_steps: Training steps of the whole fine-tuning: epochs times steps of an epoch.
        peak_at: The share of these steps after which it is reached, in (0, 1).
        start: The first rate, as a share of the greatest, in (0, 1].
        end: The last rate, as a share of the greatest, in (0, 1].
        name: Name of the schedule.

    Raises:
        InvalidArgument: a number is out of its range.

    Example:

    ```python
    rate = keras_gcp.methods.SlowStartFastDecay(0.005, total_steps=10 * 200)
    model.compile(keras.optimizers.SGD(rate, momentum=0.9), "sparse_categorical_crossentropy")
    ```
    """

    def __init__(
        self,
        peak_learning_rate: float,
        total_steps: int,
        *,
        peak_at: float = 0.5,
        start: float = 0.02,
        end: float = 0.01,
        name: str = "SlowStartFastDecay",
    ) -> None:
        super().__init__()
        self.peak_learning_rate = require_above_0(
            "peak_learning_rate", peak_learning_rate, "SlowStartFastDecay"
        )
        self.total_steps = require_integer("total_steps", total_steps, least=1)
        self.peak_at = _share("peak_at", peak_at)
        if self.peak_at == 1:
            raise InvalidArgument(
                "`peak_at` of SlowStartFastDecay expects a share below 1: after the peak the rate "
                f"falls. Received: {peak_at!r}."
            )
        self.start, self.end = _share("start", start), _share("end", end)
        self.name = name

    def __call__(self, step: Any) -> Any:
        progress = ops.minimum(ops.cast(step, "float32") / self.total_steps, 1.0)
        rise = self.start + (1 - self.start) * progress / self.peak_at
        fallen = (progress - self.peak_at) / (1 - self.peak_at)
        fall = ops.exp(math.log(self.end) * fallen)
        return self.peak_learning_rate * ops.where(progress < self.peak_at, rise, fall)

    def get_config(self) -> dict[str, Any]:
        return {
            "peak_learning_rate": self.peak_learning_rate,
            "total_steps": self.total_steps,
            "peak_at": self.peak_at,
            "start": self.start,
            "end": self.end,
            "name": self.name,
        }


def _share(name: str, value: Any) -> float:
    found = between(value, 0.0, 1.0)
    if not found:
        raise InvalidArgument(
            f"`{name}` of SlowStartFastDecay expects a share above 0 and at most 1. Received: "
            f"{value!r}."
        )
    return found
