"""Gates with values that betray a mistake."""

from __future__ import annotations

import numpy as np

from keras_gcp import gates


def soft(model, seed=0, closed=0.4):
    """Gives scale gates factors between 0.2 and 1, and closes some."""
    rng = np.random.default_rng(seed)
    for gate in gates.gates_of(model):
        values = rng.uniform(0.2, 1.0, gate.factor.shape)
        gate.factor.assign(values * (rng.random(values.shape) >= closed))
    return model


def decide(model, seed=0, closed=0.4):
    """Lets consensus gates close some channels for all inputs, and say so by their means."""
    rng = np.random.default_rng(seed)
    for gate in gates.gates_of(model):
        opened = rng.random(gate.open_share.shape) >= closed
        gate.second_shift.assign(np.where(opened, 1.0, -1.0))
        gate.open_share.assign(opened.astype("float32"))
    return model
