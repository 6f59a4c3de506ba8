"""The twin in tf_keras computes what the Keras 3 model computes, and weights come back."""

from __future__ import annotations

import keras
import networks
import numpy as np
import pytest
from helpers import randomise
from keras import layers as k3

import keras_gcp
from keras_gcp.errors import UnsupportedModel, VerificationFailed
from keras_gcp.tfmot import bridge, equality, layers, packages

pytestmark = pytest.mark.needs_tfmot

MAPS = {1: (8, 4), 2: (6, 6, 4), 3: (4, 4, 4, 4)}

SETTINGS = {
    **{name: ((2, 3), {}) for name in ("Conv1D", "Conv2D", "Conv3D")},
    **{f"Conv{rank}DTranspose": ((2, 3), {"strides": 2}) for rank in (1, 2, 3)},
    **{f"DepthwiseConv{rank}D": ((3,), {"depth_multiplier": 2}) for rank in (1, 2)},
    **{f"SeparableConv{rank}D": ((5, 3), {"activation": "silu"}) for rank in (1, 2)},
    "Dense": ((5,), {"activation": "gelu", "kernel_regularizer": "l2"}),
    "BatchNormalization": ((), {"epsilon": 0.01, "momentum": 0.9}),
    "LayerNormalization": ((), {"epsilon": 0.01}),
    "Activation": (("relu6",), {}),
    "ReLU": ((), {"max_value": 0.5, "negative_slope": 0.1, "threshold": 0.1}),
    "LeakyReLU": ((), {"negative_slope": 0.17}),
    "ELU": ((0.7,), {}),
    "PReLU": ((), {"shared_axes": [1, 2]}),
    "Softmax": ((), {"axis": 1}),
    "Dropout": ((0.5,), {}),
    **{f"SpatialDropout{rank}D": ((0.5,), {}) for rank in (1, 2, 3)},
    "GaussianDropout": ((0.5,), {}),
    "AlphaDropout": ((0.5,), {}),
    "GaussianNoise": ((0.5,), {}),
    "ActivityRegularization": ((), {"l2": 0.1}),
    "Rescaling": ((0.5,), {"offset": 1.0}),
    "Reshape": (((-1, 2),), {}),
    "Permute": (((3, 1, 2),), {}),
    "RepeatVector": ((3,), {}),
    **{f"ZeroPadding{rank}D": ((2,), {}) for rank in (1, 2, 3)},
    **{f"Cropping{rank}D": ((1,), {}) for rank in (1, 2, 3)},
    **{f"{kind}Pooling{rank}D": ((2,), {}) for kind in ("Max", "Average") for rank in (1, 2, 3)},
}
MERGING = {"Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate"}


def network_around(kind):
    """One layer, its settings away from the defaults, on a map of its rank."""
    if kind == "Embedding":
        inputs = keras.Input((5,), dtype="int32")
        return keras.Model(inputs, k3.Embedding(7, 3, name="looked_at")(inputs))
    rank = next((r for r in (1, 3) if f"{r}D" in kind), 2)
    inputs = keras.Input((4,) if kind == "RepeatVector" else MAPS[rank])
    arguments, settings = SETTINGS.get(kind, ((), {}))
    layer = getattr(k3, kind)(*arguments, **settings, name="looked_at")
    return keras.Model(inputs, layer([inputs, inputs] if kind in MERGING else inputs))


@pytest.mark.parametrize("kind", sorted(layers.BRIDGED))
def test_every_layer_has_a_twin_that_computes_the_same(kind, carried):
    model = randomise(network_around(kind))
    over, twin = carried(model)
    equality.prove(over, twin)
    own = [float(np.sum(np.abs(w))) for w in model.get_weights()]
    assert own == [float(np.sum(np.abs(w))) for w in twin.get_weights()]


@pytest.mark.parametrize(
    "build",
    [
        networks.nested,
        networks.siamese,
        networks.two_outputs,
        networks.shared_layer,
        networks.concatenated_with_itself,
        networks.squeeze_excite,
        networks.sequential,
        networks.grouped,
    ],
)
def test_networks_are_carried_over_and_back(build, carried):
    model = randomise(build())
    over, twin = carried(model)
    equality.prove(over, twin)
    for weight in twin.weights:
        weight.assign(weight * 0.9)
    returned = bridge.back(over, twin)
    equality.prove(over, twin, returned)
    for new, old in zip(returned.weights, model.weights, strict=True):
        np.testing.assert_allclose(np.asarray(new), 0.9 * np.asarray(old), rtol=1e-6)


@pytest.mark.parametrize(
    "operation",
    [
        keras.ops.relu,
        keras.ops.relu6,
        keras.ops.sigmoid,
        keras.ops.tanh,
        keras.ops.silu,
        lambda x: keras.ops.softmax(x, axis=1),
        lambda x: x + keras.ops.relu(x),
        lambda x: keras.ops.relu(x) - x,
        lambda x: x * keras.ops.sigmoid(x),
        lambda x: keras.ops.maximum(x, keras.ops.tanh(x)),
        lambda x: keras.ops.minimum(keras.ops.tanh(x), x),
        lambda x: keras.ops.concatenate([x, keras.ops.relu(x)], axis=1),
    ],
)
def test_operations_get_layers_that_compute_the_same(operation, carried):
    inputs = keras.Input((4, 3))
    over, twin = carried(keras.Model(inputs, operation(inputs)))
    equality.prove(over, twin)


def test_the_layer_that_differs_is_named(trained, carried):
    over, twin = carried(trained)
    bias = twin.get_layer("outer").bias
    bias.assign(bias + 1e-5)
    with pytest.raises(VerificationFailed, match=r"'outer' \(class Conv2D\) differs"):
        equality.prove(over, twin)


def test_layers_that_are_connected_in_another_way_are_noticed(carried):
    model = randomise(networks.siamese())
    over, twin = carried(model)
    k2 = over.packages.tf_keras
    crossed = k2.Model(twin.inputs[::-1], twin.outputs)
    with pytest.raises(VerificationFailed, match="connected in another way"):
        equality.prove(over, crossed)


def test_roundings_that_a_deep_network_blows_up_are_no_other_connection(carried):
    """Its normalizations stand for inputs much larger than the random ones that it is given."""
    model = keras_gcp.models.resnet20(input_shape=(8, 8, 3))
    for layer in model.layers:
        if isinstance(layer, k3.BatchNormalization):
            layer.momentum = 0.0
    x = 25_500 * np.random.default_rng(0).random((64, 8, 8, 3), dtype=np.float32)
    model(x, training=True)
    equality.prove(*carried(model))


def test_a_setting_that_tf_keras_does_not_have_is_refused(carried):
    inputs = keras.Input((4,))
    normalization = k3.LayerNormalization(rms_scaling=True, name="norm")
    if "rms_scaling" not in normalization.get_config():
        pytest.skip("this version of Keras has no rms_scaling")
    with pytest.raises(UnsupportedModel, match=r"'norm' .* rms_scaling=True"):
        carried(keras.Model(inputs, normalization(inputs)))


def test_what_is_frozen_and_what_is_regularized_stays_so(carried):
    model = networks.plain()
    model.layers[1].trainable = False
    model.layers[1].kernel_regularizer = keras.regularizers.L2(0.25)
    over, twin = carried(model)
    layer = twin.get_layer(over.names[id(model.layers[1])])
    assert not layer.trainable and float(layer.kernel_regularizer.l2) == 0.25
    assert len(twin.trainable_weights) == len(model.trainable_weights)


def test_names_are_made_fit_for_tensorflow(carried):
    inputs = keras.Input((4,), name="in put")
    model = keras.Model(inputs, k3.Dense(2, name="_a b")(k3.Dense(3, name="x_a_b")(inputs)))
    over, twin = carried(model)
    equality.prove(over, twin)
    assert twin.input_names == ["in_put"]
    assert len(set(over.names.values())) == 2


# --- the tables are tfmot's ----------------------------------------------------------------------


def test_the_tables_are_those_of_tfmot():
    found = packages.load()
    k2 = found.tf_keras.layers
    from tensorflow_model_optimization.python.core.clustering.keras import clustering_registry
    from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
        default_8bit_quantize_registry as quantize_registry,
    )
    from tensorflow_model_optimization.python.core.sparsity.keras import prune_registry

    sparse = prune_registry.PruneRegistry._LAYERS_WEIGHTS_MAP
    clustered = clustering_registry.ClusteringRegistry._LAYERS_WEIGHTS_MAP
    quantized = quantize_registry.Default8BitQuantizeRegistry()
    for kind in layers.BRIDGED:
        own = getattr(k2, kind)
        assert sparse.get(own, []) == listed(layers.SPARSIFIED, kind), kind
        assert clustered.get(own, []) == listed(layers.CLUSTERED, kind), kind
        assert quantized._is_supported_layer(own) == (kind in layers.QUANTIZED), kind


def listed(table, kind):
    return [table[kind]] if kind in table else []
