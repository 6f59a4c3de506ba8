"""What a file computes, as plain data: its operations, its tensors, and what they cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class FileTensor:
    """A tensor of a file.

    Attributes:
        name: Its name there.
        shape: Its shape, batch axis first; None where the file leaves a size open.
        dtype: As NumPy calls it, in which values enter and leave; `"float32"` if it is quantised.
        item_bytes: Bytes of one element in memory.
        is_constant: Whether the file holds its values.
        is_weight: Whether these are weights, rather than shapes, axes and the like.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    item_bytes: int
    is_constant: bool = False
    is_weight: bool = False

    @property
    def elements(self) -> int | None:
        """Number of elements; None if a size is open."""
        return None if None in self.shape else math.prod(size or 0 for size in self.shape)


@dataclass(frozen=True)
class FileCall:
    """One operation of a file.

    Attributes:
        kind: Its name in the format.
        reads: Numbers of the tensors that it reads.
        writes: Numbers of those that it writes.
        macs: Its multiply-adds; None if they cannot be told.
    """

    kind: str
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    macs: int | None = 0


@dataclass(frozen=True)
class FileCosts:
    """What a file costs for one example.

    Attributes:
        macs: Multiply-adds; None if they are unknown.
        parameters: Numbers that it holds as weights. A converter folds batch normalizations into
            the layers before them, so these are fewer than the model has.
        peak_bytes: The largest sum of the tensors that are in memory at the same time; None if
            sizes are unknown.
        unknown: Why something is None.
    """

    macs: int | None
    parameters: int
    peak_bytes: int | None
    unknown: str = ""


@dataclass(frozen=True)
class FileGraph:
    """The operations of a file, in the order in which they are executed.

    Attributes:
        tensors: The tensors, by number.
        calls: The operations.
        inputs: Numbers of the tensors that enter.
        outputs: Numbers of those that leave.
    """

    tensors: Mapping[int, FileTensor]
    calls: tuple[FileCall, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @property
    def batch(self) -> int:
        """The number of examples for which it is counted."""
        sizes = [self.tensors[i].shape[:1] for i in self.inputs]
        return max((size[0] or 1 for size in sizes if size), default=1)

    def costs(self) -> FileCosts:
        """What it costs for one example."""
        peak = self._peak()
        unknown = sorted({call.kind for call in self.calls if call.macs is None})
        macs = None if unknown else sum(call.macs or 0 for call in self.calls) // self.batch
        reasons = [
            *([f"multiply-adds of {', '.join(unknown)} are not counted"] if unknown else []),
            *(["a size of a tensor is open"] if peak is None else []),
        ]
        parameters = sum(t.elements or 0 for t in self.tensors.values() if t.is_weight)
        peak_bytes = None if peak is None else peak // self.batch
        return FileCosts(macs, parameters, peak_bytes, "; ".join(reasons))

    def _peak(self) -> int | None:
        """Inputs live from the first operation on, outputs to the last; nothing works in place."""
        last = max(len(self.calls) - 1, 0)
        lives = {i: [0, 0] for i in self.inputs}
        for step, call in enumerate(self.calls):
            for i in call.writes:
                lives.setdefault(i, [step, step])[1] = step
            for i in call.reads:
                if i in lives:
                    lives[i][1] = step
        for i in self.outputs:
            if i in lives:
                lives[i][1] = last
        sums = [0] * (last + 1)
        for i, (begin, end) in lives.items():
            tensor = self.tensors[i]
            if tensor.is_constant:
                continue
            if tensor.elements is None:
                return None
            for step in range(begin, end + 1):
                sums[step] += tensor.elements * tensor.item_bytes
        return max(sums)


def product(sizes: Sequence[int | None]) -> int | None:
    """The product of sizes; None if one of them is open."""
    return None if None in sizes else math.prod(size or 0 for size in sizes)


def times(*factors: int | None) -> int | None:
    """A product that is unknown where a factor is."""
    return product(factors)
