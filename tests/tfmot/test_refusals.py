"""What tfmot cannot do is refused before anything is built, where tfmot is not installed, too."""

from __future__ import annotations

import importlib.util

import keras
import numpy as np
import pytest
from keras import layers

import keras_gcp
from keras_gcp.errors import InvalidArgument, UnsupportedModel
from keras_gcp.tfmot import cluster, packages, quantize_aware, sparsify


class Own(layers.Layer):
    def call(self, x):
        return 2 * x


def model_with(*between, shape=(8, 8, 3)):
    """Convolution, what is to be looked at, pooling, classifier."""
    inputs = keras.Input(shape)
    x = layers.Conv2D(4, 3, padding="same", name="first")(inputs)
    for layer in between:
        x = layer(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(2, name="last")(x), name="looked_at")


def refusal(function, model, *arguments):
    with pytest.raises(UnsupportedModel) as caught:
        function(model, *arguments)
    return str(caught.value)


@pytest.mark.needs_tensorflow("tfmot is TensorFlow's")
class TestOnTheWay:
    @pytest.mark.parametrize(
        ("layer", "words"),
        [
            (lambda: Own(name="mine"), ["'mine' (class Own)", "class of your own"]),
            (lambda: layers.GroupNormalization(2, name="gn"), ["'gn' (class GroupNormalization)"]),
            (lambda: layers.Activation("hard_silu", name="act"), ["'act'", "'hard_silu'"]),
            (lambda: layers.Activation("hard_sigmoid", name="act"), ["means another function"]),
            (lambda: lambda x: keras.ops.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]), ["class Pad"]),
            (lambda: lambda x: x * 2, ["called with 2", "Rescaling"]),
            (
                lambda: layers.Conv2D(4, 1, name="half", dtype="mixed_float16"),
                ["'half' (class Conv2D)", "'mixed_float16'", "float32"],
            ),
        ],
    )
    def test_a_layer_that_tf_keras_does_not_have_is_named_with_the_reason(self, layer, words):
        text = refusal(sparsify, model_with(layer()), 0.5)
        for word in ("`keras_gcp.tfmot.sparsify`", *words):
            assert word in text

    def test_layers_of_nested_models_are_named_by_their_path(self):
        inner = keras.Sequential([keras.Input((8, 8, 4)), Own(name="mine")], name="inner")
        assert "'inner/mine' (class Own)" in refusal(cluster, model_with(inner), 8)

    def test_sizes_left_open_are_refused_with_a_way_to_fix_them(self):
        text = refusal(quantize_aware, model_with(shape=(None, None, 3)))
        assert "leaves sizes open, (None, None, None, 3)" in text and "clone_model" in text

    def test_a_subclassed_model_is_refused(self):
        class Net(keras.Model):
            def call(self, x):
                return x

        assert "subclassed" in refusal(quantize_aware, Net(name="net"))

    def test_many_problems_are_counted_not_all_told(self):
        text = refusal(sparsify, model_with(*(Own(name=f"mine_{i}") for i in range(9))), 0.5)
        assert "'mine_4'" in text and "'mine_5'" not in text and "and 4 more" in text

    def test_nothing_to_treat_is_refused(self):
        inputs = keras.Input((4, 4, 2))
        pooling = keras.Model(inputs, layers.GlobalAveragePooling2D()(inputs))
        assert "no layer has a kernel" in refusal(sparsify, pooling, "2:4")
        assert "no layer has a kernel" in refusal(cluster, pooling, 4)


@pytest.mark.needs_tensorflow("tfmot is TensorFlow's")
@pytest.mark.parametrize(
    ("between", "words"),
    [
        (lambda: [layers.ReLU(), layers.BatchNormalization(name="bn")], ["'bn'", "right after"]),
        (lambda: [layers.SeparableConv2D(4, 3, name="sep")], ["'sep'", "DepthwiseConv2D"]),
        (lambda: [layers.PReLU(name="prelu")], ["'prelu' (class PReLU)", "tflite_int8"]),
        (lambda: [layers.Conv2D(4, 1, activation="relu6", name="c")], ["'relu6'", "ReLU(6.0)"]),
        (lambda: [layers.Conv2D(4, 1, activation="elu", name="c")], ["'elu'", "tflite_int8"]),
        (lambda: [layers.Conv2D(4, 1, name="c")] * 2, ["'c'", "called more than once"]),
    ],
)
def test_what_cannot_be_trained_for_rounding_is_named_with_a_better_way(between, words):
    text = refusal(quantize_aware, model_with(*between()))
    for word in words:
        assert word in text
    assert text.count("\n- ") == 1


@pytest.mark.parametrize("share", [0, 1, 1.5, -0.1, True, "1:4", None, float("nan")])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(InvalidArgument, match="`share` expects"):
        sparsify(model_with(), share)


@pytest.mark.parametrize("clusters", [1, 2.5, "16", None])
def test_a_number_of_clusters_that_is_none_is_refused(clusters):
    with pytest.raises(InvalidArgument, match="`clusters` expects"):
        cluster(model_with(), clusters)


def test_another_backend_is_refused_with_the_way_there(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(UnsupportedModel, match="runs on 'jax'.*KERAS_BACKEND=tensorflow"):
        quantize_aware(model_with())


@pytest.mark.needs_tensorflow("tfmot is TensorFlow's")
def test_a_missing_package_is_named_with_what_to_install(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "tf_keras" else found(name)
    )
    with pytest.raises(InvalidArgument, match=r"tf_keras.*pip install \"keras-gcp\[tfmot\]\""):
        quantize_aware(model_with())


def test_tf_keras_of_another_tensorflow_is_refused():
    packages._check_versions("2.21.1", "2.21.0")
    with pytest.raises(InvalidArgument, match=r"tf_keras 2.20.1 .* 2.21.0.*tf_keras==2.21\.\*"):
        packages._check_versions("2.21.0", "2.20.1")


def test_zeros_in_four_are_counted_along_input_channels():
    from keras_gcp.tfmot.sparse import is_sparse, nonzeros_in_four

    kernel = np.ones((3, 3, 8, 5))
    kernel[:, :, ::2] = 0
    assert is_sparse(kernel, "2:4") and is_sparse(kernel, 0.5) and not is_sparse(kernel, 0.6)
    kernel[0, 0, 0, 0] = 1
    assert not is_sparse(kernel, "2:4") and nonzeros_in_four(kernel).max() == 3
    assert nonzeros_in_four(np.ones((1, 1, 6, 1))).tolist() == [4, 2]  # The rest is filled with 0.


def test_it_is_public():
    assert keras_gcp.tfmot.__all__ == sorted(keras_gcp.tfmot.__all__)
