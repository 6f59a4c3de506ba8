"""Tasks to learn from: some classes at a time, with examples to look at and to judge by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from keras_gcp.errors import InvalidArgument
from keras_gcp.validation import require_integer, require_seed


class Examples(NamedTuple):
    """Examples of a task.

    Attributes:
        x: Inputs of the model.
        y: Their classes, as integers.
    """

    x: Any
    y: np.ndarray


class Episode(NamedTuple):
    """A task: masks are made by its support, and judged by its query.

    Attributes:
        support: What the generator sees, and the weights are adapted to.
        query: What the loss is of.
    """

    support: Examples
    query: Examples


@dataclass(frozen=True, eq=False)
class ClassEpisodes(Sequence[Episode]):
    """Episodes drawn from one data set; each is made when it is asked for."""

    x: np.ndarray
    y: np.ndarray
    ways: int
    shots: int
    queries: int
    total: int
    seed: int

    def __len__(self) -> int:
        return self.total

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return [self[one] for one in range(*number.indices(self.total))]
        if not -self.total <= number < self.total:
            raise IndexError(number)
        random = np.random.default_rng((self.seed, number % self.total))
        classes = random.choice(np.unique(self.y), self.ways, replace=False)
        rows = np.array(
            [
                random.permutation(np.flatnonzero(self.y == one))[: self.shots + self.queries]
                for one in classes
            ]
        )
        return Episode(self._rows(rows[:, : self.shots]), self._rows(rows[:, self.shots :]))

    def __iter__(self) -> Iterator[Episode]:
        return (self[number] for number in range(self.total))

    def _rows(self, rows: np.ndarray) -> Examples:
        return Examples(self.x[rows.ravel()], self.y[rows.ravel()])


def class_episodes(
    x: Any,
    y: Any,
    ways: int,
    count: int,
    *,
    shots: int = 10,
    queries: int = 10,
    seed: int | None = None,
) -> ClassEpisodes:
    """Tasks of a few classes each, drawn from one labelled data set.

    Args:
        x: Examples `(examples, ...)` of the data that the model was trained on.
        y: Their classes, integers `(examples,)` or `(examples, 1)`, as the model numbers them.
        ways: Classes per task.
        count: Number of tasks.
        shots: Examples of each class that masks are made by.
        queries: Other examples of each class, that they are judged by.
        seed: For the draw; None: another one each time.

    Returns:
        A sequence of `count` pairs `((x, y), (x, y))`, for `SetMaskGenerator.fit`.

    Raises:
        InvalidArgument: there are fewer classes, or examples of a class, than that.

    Example:

    ```python
    episodes = keras_gcp.methods.class_episodes(x, y, ways=5, count=200)
    ```
    """
    x, y = np.asarray(x), class_labels(y)
    if len(x) != len(y):
        raise InvalidArgument(
            f"`class_episodes` expects as many labels as examples. Received: {len(x)} examples and "
            f"{len(y)} labels."
        )
    classes, sizes = np.unique(y, return_counts=True)
    ways = require_integer("ways", ways, least=1, most=len(classes))
    shots = require_integer("shots", shots, least=2)
    queries = require_integer("queries", queries, least=1)
    if sizes.min() < shots + queries:
        raise InvalidArgument(
            f"`class_episodes` needs {shots} + {queries} examples of each class. Received: "
            f"{sizes.min()} of class {classes[sizes.argmin()]}."
        )
    count = require_integer("count", count, least=1)
    drawn = np.random.default_rng(require_seed(seed)).integers(2**31) if seed is None else seed
    return ClassEpisodes(x, y, ways, shots, queries, count, int(drawn))


def class_labels(y: Any) -> np.ndarray:
    """Labels as one integer for each example.

    Raises:
        InvalidArgument: they are neither integers nor one-hot rows.
    """
    found = np.asarray(y)
    if _is_one_hot(found):
        return found.argmax(axis=1)
    if found.ndim == 2 and found.shape[1] == 1:
        found = found[:, 0]
    numeric = found.dtype.kind in "biuf" and found.ndim == 1
    if not numeric or not len(found) or not (found == np.floor(found)).all():
        raise InvalidArgument(
            "Labels of a task must be classes: integers of shape (examples,), or one-hot rows. "
            f"Received: shape {found.shape}, dtype {found.dtype}."
        )
    return found.astype(np.int64)


def _is_one_hot(y: np.ndarray) -> bool:
    return bool(
        y.ndim == 2 and y.shape[1] > 1 and np.isin(y, (0, 1)).all() and (y.sum(axis=1) == 1).all()
    )
