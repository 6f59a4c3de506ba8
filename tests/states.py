"""Everything of a model and its optimizer that an event may change."""

from __future__ import annotations

import keras
import numpy as np

from keras_gcp import keras_state


def state_of(model):
    """Everything of a model and its optimizer that an event may change."""
    layers = [layer for layer in model._flatten_layers() if layer.built]
    return {
        "weights": [np.array(w) for w in model.get_weights()],
        "optimizer": [keras.ops.convert_to_numpy(v) for v in model.optimizer.variables],
        "objects": [id(v._value) for v in [*model.variables, *model.optimizer.variables]],
        "shapes": [tuple(v.shape) for v in [*model.variables, *model.optimizer.variables]],
        "slots": [dict(p._trainable_variables_indices) for p in chain(model.optimizer)],
        "config": model.get_config(),
        "symbols": [tuple(x.shape) for layer in model.layers for x in flat(layer.output)],
        "specs": [str(layer.input_spec) for layer in layers],
        "functions": [getattr(model, name) for name in keras_state.COMPILED_FUNCTIONS],
        "own attributes": [sorted(vars(layer)) for layer in layers],
    }


def chain(optimizer):
    return list(keras_state.optimizer_chain(optimizer))


def flat(structure):
    return keras.tree.flatten(structure)


def assert_same_state(now, then):
    for key in then:
        assert repr(now[key]) == repr(then[key]), key
