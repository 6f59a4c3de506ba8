"""Proof that models which share weights with the one that is cut compute what they should.

Their inputs are their own, so they are compared on random ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_gcp.backend.comparison import example_count, random_inputs
from keras_gcp.channels.map import ChannelMap, kept_part
from keras_gcp.graph import Neighbour
from keras_gcp.surgery.verify import masked_outputs, verify_narrow


@dataclass(frozen=True, eq=False)
class MaskedNeighbour:
    """What a neighbour computes without the removed channels.

    Attributes:
        neighbour: The neighbour.
        inputs: On what.
        outputs: Its outputs, less those channels of them that leave.
    """

    neighbour: Neighbour
    inputs: Any
    outputs: list[np.ndarray]

    def verify(self, channels: ChannelMap) -> None:
        """Compares the neighbour, now narrow, with that.

        Raises:
            VerificationFailed: it computes something else.
        """
        verify_narrow(channels, self.inputs, self.outputs, self.neighbour)


def masked_neighbours(channels: ChannelMap, keep: np.ndarray) -> list[MaskedNeighbour]:
    """The neighbours of a model that is to be cut, masked; those with a graph."""
    found = []
    for neighbour in channels.neighbours:
        if not neighbour.graph.calls:
            continue
        inputs = random_inputs(neighbour.model, example_count(neighbour.model))
        wide = masked_outputs(channels, keep, inputs, neighbour)
        blocks = [keep[channels.tensors[x.index]] for x in neighbour.graph.outputs]
        kept = [kept_part(y, block) for y, block in zip(wide, blocks, strict=True)]
        found.append(MaskedNeighbour(neighbour, inputs, kept))
    return found
