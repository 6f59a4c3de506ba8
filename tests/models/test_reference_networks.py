"""The reference networks are the published ones, and plain Keras."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from keras_gcp import models
from keras_gcp.errors import InvalidArgument


def kernels_and_macs(model: keras.Model) -> tuple[int, int]:
    """Weights and multiply-adds of convolutions and dense layers, from kernel and output shapes."""
    weights = macs = 0
    for layer in model.layers:
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)):
            _, height, width, _ = layer.output.shape
        elif isinstance(layer, keras.layers.Dense):
            height = width = 1
        else:
            continue
        kernel = math.prod(layer.kernel.shape)
        weights += kernel
        macs += kernel * height * width
    return weights, macs


# Published: 125.49 M multiply-adds for ResNet-56 with padded shortcuts, 126 M being the rounded
# figure of most pruning papers. ResNet-8 (MLPerf Tiny): 12.5 M.
@pytest.mark.parametrize(
    ("name", "options", "weights", "macs"),
    [
        ("resnet8", {}, 77_360, 12_501_632),
        ("resnet20", {}, 270_896, 40_813_184),
        ("resnet20", {"shortcut": "pad"}, 268_336, 40_551_040),
        ("resnet56", {}, 851_504, 125_747_840),
        ("resnet56", {"shortcut": "pad"}, 848_944, 125_485_696),
        ("vgg16", {}, 14_977_728, 313_463_808),
        ("mobilenet", {}, 3_195_328, 46_354_432),
        pytest.param("resnet110", {}, 1_722_416, 253_149_824, marks=pytest.mark.slow),
        pytest.param("resnet164", {}, 1_679_024, 247_646_720, marks=pytest.mark.slow),
    ],
)
def test_weights_and_macs_are_the_published_ones(name, options, weights, macs):
    assert kernels_and_macs(models.build(name, **options)) == (weights, macs)


def test_parameters_include_biases_and_batch_normalisation():
    # Of the reference trainings that the benchmarks compare with.
    assert models.resnet56().count_params() == 860_026
    assert models.vgg16().count_params() == 14_995_146


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet8", {"shortcut": "pad", "input_shape": (16, 16, 1)}),
        ("resnet8", {"input_shape": (None, None, 3)}),
        ("resnet20", {"width": 5, "shortcut": "pad", "input_shape": (15, 15, 1)}),
        ("vgg16", {"width": 4, "hidden": 8, "dropout": 0.5}),
        ("mobilenet", {"width": 4, "input_shape": (16, 16, 1)}),
        pytest.param(
            "resnet164", {"width": 4, "shortcut": "pad"}, marks=pytest.mark.slow, id="resnet164"
        ),
    ],
)
def test_small_variants_give_class_probabilities(name, options):
    model = models.build(name, classes=7, **options)
    shape = [size or 12 for size in model.input_shape[1:]]
    images = np.random.default_rng(0).standard_normal((3, *shape)).astype("float32")
    # Training mode: with untrained moving statistics the deep networks saturate the softmax.
    probabilities = keras.ops.convert_to_numpy(model(images, training=True))
    assert probabilities.shape == (3, 7)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert np.ptp(probabilities, axis=0).max() > 1e-6  # the images make a difference


def test_logits_on_request():
    assert models.resnet8(classifier_activation=None).layers[-1].activation is (
        keras.activations.linear
    )


def test_width_scales_every_stage():
    widths = [
        layer.filters
        for layer in models.resnet8(width=6).layers
        if isinstance(layer, keras.layers.Conv2D)
    ]
    assert sorted(set(widths)) == [6, 12, 24]


def test_pad_shortcut_is_the_subsampled_input_among_zeros():
    model = models.resnet8(width=6, shortcut="pad", input_shape=(8, 8, 3))
    add = model.get_layer("stage2_block1_add")
    _, skip = add.input
    probe = keras.Model(model.input, [model.get_layer("stage1_block1_relu2").output, skip])
    images = np.random.default_rng(0).standard_normal((2, 8, 8, 3)).astype("float32")
    before, padded = (keras.ops.convert_to_numpy(value) for value in probe(images))
    expected = np.zeros((2, 4, 4, 12), "float32")
    expected[..., 3:9] = before[:, ::2, ::2]
    assert np.array_equal(padded, expected)
    assert before.any()


def test_names_are_what_build_accepts():
    assert set(models.names()) == {
        *("resnet8", "resnet20", "resnet56", "resnet110", "resnet164"),
        *("vgg16", "mobilenet"),
    }
    assert models.build("resnet8", name="mine").name == "mine"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet21", {}, "resnet21.*Expected one of: resnet8"),
        ("resnet20", {"shortcut": "identity"}, "`shortcut` expects .*projection.*'identity'"),
        ("resnet20", {"width": 0}, "`width` expects.*0"),
        ("resnet20", {"classes": 2.5}, "`classes` expects.*2.5"),
        ("resnet20", {"input_shape": (32, 32)}, r"\(32, 32\).*for example \(32, 32, 3\)"),
        ("vgg16", {"input_shape": (16, 16, 1)}, r"\(16, 16, 1\) is too small.*32"),
    ],
)
def test_impossible_networks_are_refused(name, options, message):
    with pytest.raises(InvalidArgument, match=message):
        models.build(name, **options)


def test_channels_first_is_refused():
    keras.config.set_image_data_format("channels_first")
    with pytest.raises(InvalidArgument, match="channels_first"):
        models.resnet8()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet8", {"shortcut": "pad"}),
        ("vgg16", {"width": 4}),
        ("mobilenet", {"width": 4}),
        ("resnet164", {"width": 2, "shortcut": "pad"}),
    ],
)
def test_saved_file_loads_where_keras_gcp_is_not_installed(
    name, options, tmp_path, without_keras_gcp
):
    model = models.build(name, **options)
    images = np.random.default_rng(0).standard_normal((2, 32, 32, 3)).astype("float32")
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", images)
    without_keras_gcp(
        "import keras, numpy as np\n"
        "model = keras.models.load_model('model.keras')\n"
        "np.save('outputs.npy', model.predict(np.load('images.npy'), verbose=0))\n"
    )
    np.testing.assert_allclose(
        np.load(tmp_path / "outputs.npy"), model.predict(images, verbose=0), atol=1e-6
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet8", "resnet20", "mobilenet"])
def test_litert_file_needs_builtin_operations_only(name, tmp_path):
    tensorflow = pytest.importorskip("tensorflow")
    options = {"shortcut": "pad"} if name.startswith("resnet") else {"width": 4}
    model = models.build(name, **options)
    model.export(tmp_path / "saved_model", format="tf_saved_model", verbose=False)
    # Without SELECT_TF_OPS, as here, the converter refuses what has no builtin operation.
    converter = tensorflow.lite.TFLiteConverter.from_saved_model(str(tmp_path / "saved_model"))
    assert converter.target_spec.supported_ops == {tensorflow.lite.OpsSet.TFLITE_BUILTINS}
    content = converter.convert()
    runner = Interpreter(model_content=content).get_signature_runner()
    images = np.random.default_rng(0).standard_normal((2, 32, 32, 3)).astype("float32")
    (outputs,) = runner(**dict.fromkeys(runner.get_input_details(), images)).values()
    np.testing.assert_allclose(outputs, model.predict(images, verbose=0), atol=1e-5)
