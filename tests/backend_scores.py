"""Writes what every criterion says about fixed networks on the present backend, and the plans.

    KERAS_BACKEND=jax python tests/backend_scores.py build/backends

`make test-backends` runs it once per backend, each in its own environment; then
`tests/test_backends_agree.py` compares the files.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import networks
import numpy as np

from keras_gcp import criteria
from keras_gcp.channels.trace import trace
from keras_gcp.costs.counting import count_map
from keras_gcp.errors import UnsupportedModel
from keras_gcp.pruning.stages import score
from keras_gcp.sample import DrawnSample
from keras_gcp.selection import Selection
from keras_gcp.selection.planning import choose, keep_of

BUDGETS = (0.75, 0.5)
"""Shares of the multiply-adds that the plans leave."""

EXAMPLES = 64


def twins():
    """Filters in pairs of equals: equal scores, but for roundings, wherever one looks."""
    model = with_fixed_weights(networks.residual())
    for variable in model.variables:
        value = keras.ops.convert_to_numpy(variable).copy()
        for axis in [axis for axis, size in enumerate(value.shape) if size in (8, 12)]:
            paired = np.arange(value.shape[axis]) // 2 * 2
            value = np.take(value, paired, axis)
        variable.assign(value)
    return model


NETWORKS = {
    builder.__name__: builder
    for builder in (
        networks.residual,
        networks.concatenation,
        networks.depthwise,
        networks.squeeze_excite,
        networks.grouped,
        networks.shared_layer,
        networks.nested,
        networks.padded_shortcut,
    )
}


def with_fixed_weights(model):
    """Weights drawn by NumPy, since every backend has random numbers of its own."""
    rng = np.random.default_rng(0)
    for variable in model.variables:
        if variable.path.endswith(("gamma", "moving_variance")):
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        elif len(variable.shape) < 2:
            variable.assign(rng.normal(0.0, 0.3, variable.shape))
        else:
            fan_in = np.prod(variable.shape[:-1])
            variable.assign(rng.normal(0.0, np.sqrt(2 / fan_in), variable.shape))
    return model


def built(name):
    return twins() if name == "twins" else with_fixed_weights(NETWORKS[name]())


def sample_for(model):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(EXAMPLES, *model.input_shape[1:])).astype("float32")
    return DrawnSample(x, np.arange(EXAMPLES) % model.output_shape[-1])


def measured(name):
    """Arrays by address `network/criterion/...`: scores (of layers, of coupled channels), plans."""
    model = built(name)
    model.compile("sgd", "sparse_categorical_crossentropy")
    channels, sample = trace(model), sample_for(model)
    found = {f"{name}/weights": np.concatenate([w.ravel() for w in model.get_weights()])}

    def plans(scores):
        macs, free = count_map(channels).macs, Selection(align=1, floor=1)
        return [
            keep_of(choose(channels, scores, {"macs": share * macs}, free), channels)
            for share in BUDGETS
        ]

    for criterion in criteria.names():
        scorer = criteria.get(criterion, seed=0)
        try:
            layers = criteria.checked_scores(scorer, model, channels, sample)
        except UnsupportedModel:  # bn_scale, where a layer has no batch normalization behind it
            found[f"{name}/{criterion}/refused"] = np.array(True)
            continue
        found |= {f"{name}/{criterion}/layers/{path}": s for path, s in layers.items()}
        coupled = score(scorer, channels, sample, "mean")
        found[f"{name}/{criterion}/coupled"] = coupled
        found[f"{name}/{criterion}/plans"] = np.array(plans(coupled))
    # The same numbers everywhere, many of them equal.
    same = np.random.default_rng(2).integers(0, 5, channels.coupled_count) / 4
    found[f"{name}/same_scores/plans"] = np.array(plans(same))
    return found


def main(folder: str) -> None:
    found = {}
    for name in (*NETWORKS, "twins"):
        found |= measured(name)
    backend = keras.config.backend()
    path = Path(folder) / f"{backend}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **found)
    print(f"{backend}: {len(found)} arrays in {path}")


if __name__ == "__main__":
    main(*sys.argv[1:])
