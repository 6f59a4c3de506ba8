"""What users pass as a sample, when they say how many examples to draw of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from keras_gcp.errors import InvalidArgument
from keras_gcp.validation import integer
from keras_gcp.validation.configured import Configured

SAMPLE_SIZE = 512
"""Examples drawn by default."""


@dataclass(frozen=True, eq=False, repr=False)
class Sample(Configured):
    """Examples, of which some are drawn once. The examples alone are short for it.

    Args:
        data: As `fit` takes them: `x`, `(x, y)` or `(x, y, weight)`, with `x` a dict by name or a
            list in the order of `model.inputs` for several inputs; a `tf.data.Dataset`, a
            `keras.utils.PyDataset`, or another iterable of batches. Labels are only needed by what
            reads them.
        size: Number of examples to draw; None takes all.

    Raises:
        InvalidArgument: `size` is not a positive integer, or there are no data.

    Example:

    ```python
    sample = keras_gcp.Sample((x_train, y_train), size=2048)
    plan = keras_gcp.plan(model, {"macs": 0.5}, "taylor", sample)
    ```
    """

    data: Any = field(repr=False)
    size: int | None = SAMPLE_SIZE

    def __post_init__(self) -> None:
        if self.data is None or isinstance(self.data, Sample):
            raise InvalidArgument(
                "`data` of Sample expects examples: x, (x, y), a `tf.data.Dataset` or a "
                f"`keras.utils.PyDataset`. Received: {self.data!r}."
            )
        object.__setattr__(self, "size", checked_size(self.size))

    @staticmethod
    def parse(sample: Any) -> Sample:
        """The sample that a user means: one, or its examples."""
        return sample if isinstance(sample, Sample) else Sample(sample)


def checked_size(size: Any) -> int | None:
    """A number of examples to draw, as a plain number; None stands for all.

    Raises:
        InvalidArgument: it is not a positive integer.
    """
    found = integer(size)
    if size is not None and (found is None or found < 1):
        raise InvalidArgument(
            f"The size of the sample must be a positive integer or None. Received: {size!r}."
        )
    return found
