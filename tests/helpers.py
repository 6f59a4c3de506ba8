"""What many tests do: randomise a network, cut it, compare."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
from keras.src.backend import get_keras_mask, set_keras_mask
from mixing_by_hand import attention_by_hand, mixed_by_hand
from recurrence_by_hand import is_recurrent, recurrent_by_hand

from keras_gcp.channels.trace import trace, trace_as_planned
from keras_gcp.costs.counting import count_map
from keras_gcp.graph import Tensor, map_structure
from keras_gcp.selection import Selection
from keras_gcp.selection.plan import Plan
from keras_gcp.selection.planning import choose, keep_of


def randomise(model, seed=0):
    """Gives every weight that usually starts as 0 or 1 a value that would betray a mistake."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        if variable.path.endswith(("gamma", "moving_variance")):
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        elif variable.path.endswith(("beta", "moving_mean", "bias", "alpha")):
            variable.assign(rng.normal(0.0, 0.5, variable.shape))
    return model


def randomise_constants(model, seed=0):
    """`randomise` for networks of others: whatever starts as one number gets random values."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        value = keras.ops.convert_to_numpy(variable)
        constant = value.size and (value == value.flat[0]).all()
        if not constant or not np.issubdtype(value.dtype, np.floating):
            continue
        if value.flat[0] == 0:
            variable.assign(rng.normal(0.0, 0.5, value.shape))
        else:
            variable.assign(rng.uniform(0.5, 1.5, value.shape))
    for layer in model._flatten_layers():
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()
    return model


def random_plan(model, share=0.5, seed=0, align=1, resource="channels", exclude=()) -> Plan:
    """A plan from random scores."""
    channels = trace(model, exclude)
    scores = np.random.default_rng(seed).random(channels.coupled_count)
    limits = {resource: share * getattr(count_map(channels), resource)}
    return choose(channels, scores, limits, Selection(align, 1))


def plan_with_more(plan, model, group, block):
    """The plan with `block` more channels of one group, all its members' alike."""
    channels = trace(model)
    coupled = next(g for g in channels.groups if g.name == group.name).coupled
    lead = channels.produced[group.members[0].path]
    lost = [c for c in coupled if not plan.layers[group.members[0].path][lead == c][0]]
    back = lost[:block]
    every = {path: c for path, c in channels.produced.items()}
    for weight in channels.weights.values():
        for coupled in weight.axes.values():
            if len(coupled) == len(plan.layers.get(weight.path, ())):
                every.setdefault(weight.path, coupled)
    layers_ = {
        path: keep | np.isin(every[path], back) if path in every else keep
        for path, keep in plan.layers.items()
    }
    return dataclasses.replace(plan, layers=layers_)


def masked_by_hand(model, plan: Plan, inputs):
    """What the wide model computes when no layer reads a removed channel.

    Layers that mix channels (layer normalization) are written out for the kept ones, recurrent
    layers step by step.

    The graph is executed call by call, and the inputs of every consuming layer are multiplied by
    zeros and ones: another way than the library's own, which zeroes kernel rows. Tensors are
    let go after their last use: benchmarks/zoo.py runs this on large networks.
    """
    channels = trace_as_planned(model)
    keep = keep_of(plan, channels)
    mixings = {id(mixing.operation): keep[mixing.ids] for mixing in channels.mixings}
    consumed = {key for key, weight in channels.weights.items() if weight.consumed}
    values = {
        x.index: keras.ops.convert_to_tensor(value)
        for x, value in zip(channels.graph.inputs, keras.tree.flatten(inputs), strict=True)
    }
    last_use = {x.index: call for call in channels.graph.calls for x in call.inputs}
    ends = {x.index for x in channels.graph.outputs}
    for call in channels.graph.calls:
        weights = getattr(call.operation, "weights", ())
        consuming = any(id(variable) in consumed for variable in weights)

        def fill(leaf, consuming=consuming):
            if not isinstance(leaf, Tensor):
                return leaf
            value = values[leaf.index]
            if not consuming:
                return value
            kept = keep[channels.tensors[leaf.index]][None]
            masked = value * keras.ops.cast(kept, value.dtype)
            set_keras_mask(masked, get_keras_mask(value))  # Which steps count.
            return masked

        layer, levels = call.operation, 0
        while isinstance(layer, keras.layers.TimeDistributed):
            layer, levels = layer.layer, levels + 1
        if isinstance(layer, keras.layers.Attention) and id(layer) in mixings:
            given = [keras.ops.convert_to_numpy(values[x.index]) for x in call.inputs]
            given = given if len(given) == 3 else [*given, given[1]]
            values[call.outputs[0].index] = keras.ops.convert_to_tensor(
                attention_by_hand(layer, *given, mixings[id(layer)])
            )
            continue
        if id(layer) in mixings:
            (x,) = call.inputs
            (axis,) = [a + 1 for a, n in enumerate(channels.tensors[x.index].shape) if n > 1]
            value = np.array(keras.ops.convert_to_numpy(values[x.index]))
            kept = mixings[id(layer)]
            steps = value.reshape(-1, *value.shape[1 + levels :])  # as examples
            by_hand = mixed_by_hand(layer, steps, kept, axis - levels)
            by_hand = by_hand.reshape(*value.shape[: 1 + levels], *by_hand.shape[1:])
            values[call.outputs[0].index] = keras.ops.convert_to_tensor(by_hand)
            continue
        args, kwargs = map_structure(fill, (call.args, call.kwargs))
        if is_recurrent(layer):
            outputs = _recurrent(layer, call, args, kwargs, keep, channels, levels > 0)
        else:
            if getattr(call.operation, "_call_has_training_arg", False):
                kwargs["training"] = False
            outputs = keras.tree.flatten(call.operation(*args, **kwargs))
        values.update({x.index: y for x, y in zip(call.outputs, outputs, strict=True)})
        for x in call.inputs:
            if last_use[x.index] is call and x.index not in ends:
                values.pop(x.index, None)
    return [keras.ops.convert_to_numpy(values[x.index]) for x in channels.graph.outputs]


def _recurrent(layer, call, args, kwargs, keep, channels, in_time):
    given = {**dict(zip(("sequences", "initial_state", "mask"), args, strict=False)), **kwargs}
    x = given.get("sequences", args[0])
    kept = keep[channels.tensors[call.outputs[0].index]].reshape(-1)
    if len(kept) == 1:  # Its channels stay.
        kept = np.ones(call.outputs[0].shape[-1], bool)
    states, mask = given.get("initial_state"), given.get("mask")
    states = None if states is None else keras.tree.flatten(states)
    mask = get_keras_mask(x) if mask is None else mask
    if not in_time:
        return recurrent_by_hand(layer, x, kept, states, mask)
    each = [recurrent_by_hand(layer, x[:, t], kept)[0] for t in range(x.shape[1])]
    return [keras.ops.stack(each, axis=1)]


def flat_outputs(model, inputs):
    """The outputs in inference mode, as a list of arrays."""
    return [
        np.asarray(keras.ops.convert_to_numpy(y))
        for y in keras.tree.flatten(model(inputs, training=False))
    ]


def inputs_for(model, batch=5, seed=0):
    """Random inputs."""
    rng = np.random.default_rng(seed)

    def draw(symbol):
        shape = (batch, *symbol.shape[1:])
        if "int" in symbol.dtype:
            return rng.integers(0, 20, shape).astype(symbol.dtype)
        return rng.normal(size=shape).astype(symbol.dtype)

    structure = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    return keras.tree.map_structure(draw, structure)


def load_trained(path):
    """A trained network in a file of Keras 2, its layers those of the installed Keras."""

    class Depthwise(keras.layers.DepthwiseConv2D):
        @classmethod
        def from_config(cls, config):
            config.pop("groups", None)  # Keras 2 wrote it, Keras 3 does not take it.
            return keras.layers.DepthwiseConv2D.from_config(config)

    known = {"DepthwiseConv2D": Depthwise}
    return keras.models.load_model(path, compile=False, custom_objects=known)


class WithFactors(keras.optimizers.SGD):
    """Keeps state that is neither a scalar nor shaped like a weight."""

    def build(self, variables):
        super().build(variables)
        self.factors = [self.add_variable((3, *v.shape), name="factor") for v in variables]


def one_line(text):
    """A printed text without the breaks of its lines."""
    return " ".join(text.split())
