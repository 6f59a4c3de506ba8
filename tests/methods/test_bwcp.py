"""BWCP: channels that close themselves behind batch whitening, and the narrow model left."""

import keras
import networks
import numpy as np
import pytest
from helpers import flat_outputs, inputs_for, randomise
from keras import layers, ops

import keras_gcp
from keras_gcp.channels.trace import trace
from keras_gcp.errors import InvalidArgument, UnsupportedModel
from keras_gcp.methods import BatchWhitening, bwcp, bwcp_reasons, fold_bwcp
from keras_gcp.methods.whitening import arithmetic


def numpy_of(x):
    return np.asarray(ops.convert_to_numpy(x))


def close(actual, expected, tolerance=1e-5):
    """Equal up to a share of the largest number."""
    scale = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(actual, expected, atol=tolerance * scale, rtol=0)


# ---- arithmetic


@pytest.fixture(scope="module")
def sigma():
    """Correlations of two groups of five, scales, and the inverse roots by eigenvalues."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 200, 5)) @ (np.eye(5) + 0.25 * rng.normal(size=(2, 5, 5)))
    rho = np.stack([np.corrcoef(group.T) for group in x])
    gamma = rng.uniform(0.5, 1.5, (2, 5)) * np.where(rng.random((2, 5)) < 0.5, -1, 1)
    whole = gamma[:, :, None] * gamma[:, None, :] * rho
    whole /= np.square(gamma).sum(axis=1)[:, None, None]
    values, vectors = np.linalg.eigh(whole)
    roots = (vectors / np.sqrt(values)[:, None, :]) @ vectors.transpose(0, 2, 1)
    return rho.astype("float32"), gamma.astype("float32"), whole, roots


def root_after(sigma, iterations):
    rho, gamma, _, _ = sigma
    found = arithmetic.inverse_root(
        ops.convert_to_tensor(rho), ops.convert_to_tensor(gamma), iterations
    )
    return numpy_of(found)


def test_newtons_iteration_goes_to_the_inverse_root_that_eigenvalues_give(sigma):
    _, _, whole, roots = sigma
    close(root_after(sigma, 20), roots, 1e-3)
    found = root_after(sigma, 10)
    close(found @ found @ whole, np.broadcast_to(np.eye(5), whole.shape), 1e-2)


def test_every_iteration_comes_nearer(sigma):
    distances = [np.abs(root_after(sigma, n) - sigma[3]).max() for n in (1, 3, 5, 8, 12)]
    assert distances == sorted(distances, reverse=True)


@pytest.mark.parametrize(("gamma", "beta"), [(1.0, 0.3), (-2.0, 0.3), (0.5, -0.4), (0.2, 0.05)])
def test_the_probability_is_the_share_of_gaussians_that_come_out_above_delta(gamma, beta):
    z = np.random.default_rng(0).normal(size=200_000)
    share = (gamma * z + beta > 0.05).mean()
    found = arithmetic.activation_probability(
        ops.convert_to_tensor([gamma]), ops.convert_to_tensor([beta]), 0.05
    )
    assert float(numpy_of(found)[0]) == pytest.approx(share, abs=0.01)


def test_a_scale_of_zero_is_active_only_with_a_shift_above_delta():
    gamma, beta = ops.zeros(3), ops.convert_to_tensor([-0.5, 0.0, 0.5])
    found = numpy_of(arithmetic.activation_probability(gamma, beta, 0.05))
    np.testing.assert_allclose(found, [0, 0, 1], atol=1e-6)


def test_cold_masks_are_one_as_often_as_the_probability_says():
    noise = ops.convert_to_tensor(np.random.default_rng(0).random(100_000), dtype="float32")
    for share in (0.1, 0.5, 0.8):
        cold = numpy_of(arithmetic.soft_mask(ops.full(noise.shape, share), noise, 0.01, 1.0))
        assert cold.mean() == pytest.approx(share, abs=0.01)
        assert np.mean((cold > 0.1) & (cold < 0.9)) < 0.02


def test_sharpness_moves_probabilities_towards_zero_and_one():
    noise = ops.full((2,), 0.5)  # The median: what is left is the probability itself.
    found = [
        numpy_of(arithmetic.soft_mask(ops.convert_to_tensor([0.4, 0.6]), noise, 1.0, factor))
        for factor in (1.0, 10.0)
    ]
    np.testing.assert_allclose(found[0], [0.4, 0.6], atol=1e-5)
    assert found[1][0] < 0.02 and found[1][1] > 0.98


@pytest.mark.parametrize(
    ("channels", "expected"), [(32, (2, 16)), (24, (2, 12)), (17, (2, 9)), (5, (1, 5)), (1, (1, 1))]
)
def test_groups_are_nearly_equally_wide(channels, expected):
    assert arithmetic.group_shape(channels, 16) == expected


# ---- the layer


def batch(channels=6, seed=0):
    """Correlated channels with means and scales of their own."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(16, 4, 4, channels)) @ (
        np.eye(channels) + 0.5 * rng.normal(size=(channels, channels))
    )
    return (3 * x + rng.normal(size=channels)).astype("float32")


def built(channels=6, seed=1, **settings):
    """A layer with random state."""
    layer = BatchWhitening(**settings)
    layer.build((None, 4, 4, channels))
    rng = np.random.default_rng(seed)
    layer.gamma.assign(rng.uniform(0.5, 1.5, channels))
    layer.beta.assign(rng.normal(0.0, 1.0, channels))
    layer.moving_mean.assign(rng.normal(size=channels))
    layer.moving_variance.assign(rng.uniform(0.5, 1.5, channels))
    shape = layer.moving_whitening.shape
    layer.moving_whitening.assign(np.eye(shape[-1]) + 0.3 * rng.normal(size=shape))
    return layer


def whitening_by_hand(layer):
    """Whole matrix of the running whitening."""
    blocks, whole = numpy_of(layer.moving_whitening), np.zeros((layer.channels, layer.channels))
    count, width, _ = blocks.shape
    for number in range(count):
        first = number * width
        size = min(width, layer.channels - first)
        whole[first : first + size, first : first + size] = blocks[number, :size, :size]
    return whole


@pytest.mark.parametrize(("channels", "groups"), [(6, 6), (6, 3), (5, 3)])
def test_a_whitened_batch_has_unit_covariance_within_groups(channels, groups):
    layer = built(channels, groups=groups, newton_iterations=40, epsilon=1e-9, prune=False)
    y = numpy_of(layer(batch(channels), training=True)).reshape(-1, channels)
    gamma = numpy_of(layer.gamma)
    first = 0
    for part in np.array_split(np.arange(channels), -(-channels // groups)):
        own = np.cov(y[:, part].T, bias=True) / np.square(gamma[part]).sum()
        close(own, np.eye(len(part)), 1e-3)
        first += len(part)
    assert first == channels


def test_a_group_that_is_filled_up_becomes_what_it_would_be_alone():
    x, both = batch(5), built(5, groups=3, prune=False)
    alone = BatchWhitening(2, prune=False)
    alone.build((None, 4, 4, 2))
    for name in ("gamma", "beta", "moving_mean", "moving_variance"):
        getattr(alone, name).assign(numpy_of(getattr(both, name))[3:])
    expected = numpy_of(alone(x[..., 3:], training=True))
    close(numpy_of(both(x, training=True))[..., 3:], expected)


def test_inference_is_the_equation_written_out_with_hard_masks():
    layer, x = built(5, groups=3), batch(5)
    root = whitening_by_hand(layer)
    gamma, beta = numpy_of(layer.gamma), numpy_of(layer.beta)
    normalised = (x - numpy_of(layer.moving_mean)) / np.sqrt(numpy_of(layer.moving_variance) + 1e-3)
    mask = root @ beta > layer.delta
    expected = mask * ((gamma * normalised + beta) @ root.T)
    close(numpy_of(layer(x, training=False)), expected)
    assert 0 < mask.sum() < 5
    np.testing.assert_array_equal(layer.open_channels(), mask)


def test_probabilities_are_those_of_scales_and_shifts_after_whitening():
    layer = built(5, groups=3)
    root = whitening_by_hand(layer)
    gamma, beta = root @ numpy_of(layer.gamma), root @ numpy_of(layer.beta)
    z = np.random.default_rng(0).normal(size=(100_000, 1))
    shares = (gamma * z + beta > layer.delta).mean(axis=0)
    np.testing.assert_allclose(layer.activation_probabilities(), shares, atol=0.01)


def test_single_channels_are_batch_normalization():
    layer, x = built(5, groups=1, prune=False), batch(5)
    layer.moving_whitening.assign(np.ones((5, 1, 1)))
    other = layers.BatchNormalization()
    other.build(x.shape)
    for name in ("gamma", "beta", "moving_mean", "moving_variance"):
        getattr(other, name).assign(getattr(layer, name))
    for training in (False, True, False):
        close(numpy_of(layer(x, training=training)), numpy_of(other(x, training=training)))


def test_running_statistics_move_by_what_the_batch_has():
    layer, x = built(6, groups=6, momentum=0.8), batch()
    before = {w.name: numpy_of(w) for w in layer.weights}
    layer(x, training=True)
    mean, variance = x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))
    close(numpy_of(layer.moving_mean), 0.8 * before["moving_mean"] + 0.2 * mean)
    close(numpy_of(layer.moving_variance), 0.8 * before["moving_variance"] + 0.2 * variance)
    rho = np.corrcoef(x.reshape(-1, 6).T)[None].astype("float32")
    gamma = numpy_of(layer.gamma)[None]
    root = numpy_of(
        arithmetic.inverse_root(ops.convert_to_tensor(rho), ops.convert_to_tensor(gamma), 5)
    )
    expected = 0.8 * before["moving_whitening"] + 0.2 * root
    close(numpy_of(layer.moving_whitening), expected, 1e-3)
    assert int(numpy_of(layer.steps)) == 1


def test_frozen_it_does_what_it_does_in_inference_and_counts_no_steps():
    layer, x = built(), batch()
    layer.trainable = False
    close(numpy_of(layer(x, training=True)), numpy_of(layer(x, training=False)))
    assert int(numpy_of(layer.steps)) == 0 and not layer.losses


def test_the_penalty_is_the_sum_of_scales_and_signed_shifts():
    layer = built(scale_penalty=0.1, shift_penalty=0.02)
    layer(batch(), training=True)
    expected = 0.1 * np.abs(numpy_of(layer.gamma)).sum() + 0.02 * numpy_of(layer.beta).sum()
    (loss,) = layer.losses
    assert float(numpy_of(loss)) == pytest.approx(expected, rel=1e-5)


def test_until_it_is_warm_masks_are_open_and_nothing_is_penalised():
    layer, x = built(warmup_steps=1, seed=1, scale_penalty=0.1), batch()
    whitened = built(prune=False)
    assert layer.open_channels().all()
    close(numpy_of(layer(x, training=True)), numpy_of(whitened(x, training=True)))
    assert float(numpy_of(layer.losses[0])) == 0
    assert not layer.open_channels().all()
    layer(x, training=True)
    assert float(numpy_of(layer.losses[0])) > 0


def test_temperature_follows_the_layers_own_steps():
    cooling = keras.optimizers.schedules.PiecewiseConstantDecay([0], [500.0, 0.01])
    layer, x = built(beta := 6, temperature=cooling, seed=3), batch(beta)
    whitened = numpy_of(built(beta, prune=False, seed=3)(x, training=True))

    def masks():
        y = numpy_of(layer(x, training=True))
        return np.abs(y).max(axis=(0, 1, 2)) / np.abs(whitened).max(axis=(0, 1, 2))

    warm = masks()
    assert ((warm > 0.3) & (warm < 0.7)).all()  # So hot that every mask is about a half.
    cold = np.concatenate([masks() for _ in range(4)])
    assert np.mean((cold < 0.05) | (cold > 0.95)) > 0.8


def test_channels_first_is_the_same_on_the_other_axis():
    x, settings = batch(5), {"groups": 3, "prune": False}
    last, first = built(5, **settings), BatchWhitening(axis=1, **settings)
    first.build((None, 5, 4, 4))
    first.set_weights(last.get_weights())
    for training in (True, False):
        expected = numpy_of(last(x, training=training))
        turned = first(x.transpose(0, 3, 1, 2), training=training)
        close(numpy_of(turned).transpose(0, 2, 3, 1), expected)


def test_half_precision_keeps_statistics_and_matrices_in_32_bits():
    layer, x = built(dtype="mixed_float16", prune=False), batch()
    exact = built(prune=False)
    y = layer(ops.cast(100 * x, "float16"), training=True)
    assert keras.backend.standardize_dtype(y.dtype) == "float16"
    assert {w.dtype for w in layer.weights} == {"float32", "int32"}
    rounded = numpy_of(ops.cast(ops.cast(100 * x, "float16"), "float32"))
    expected = numpy_of(exact(rounded, training=True))
    close(numpy_of(y).astype("float32"), expected, 2e-3)
    assert np.isfinite(numpy_of(layer.moving_variance)).all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"groups": 0}, "`groups`"),
        ({"axis": 0}, "`axis`"),
        ({"newton_iterations": 0}, "`newton_iterations`"),
        ({"threshold": 1.5}, "`threshold`"),
        ({"temperature": 0}, "`temperature`"),
        ({"sharpness": "much"}, "`sharpness`"),
        ({"scale_penalty": -1}, "`scale_penalty`"),
        ({"shift_penalty": float("inf")}, "`shift_penalty`"),
        ({"warmup_steps": -1}, "`warmup_steps`"),
        ({"prune": 1}, "`prune`"),
        ({"seed": -1}, "`seed`"),
    ],
)
def test_settings_out_of_range_are_refused(settings, words):
    with pytest.raises(InvalidArgument, match=words):
        BatchWhitening(**settings)


def test_inputs_with_a_mask_or_without_a_known_width_are_refused():
    with pytest.raises(InvalidArgument, match="known number of channels"):
        BatchWhitening().build((None, 4, None))
    with pytest.raises(InvalidArgument, match="mask of the steps"):
        built(6).call(batch(), mask=np.ones((16, 4)))


# ---- a model and back


def disturbed(model, seed=0):
    """Random state in all that whitens, so that about half of all channels are closed."""
    rng = np.random.default_rng(seed)
    for layer in model._flatten_layers():
        if isinstance(layer, BatchWhitening):
            shape = layer.moving_whitening.shape
            layer.moving_whitening.assign(np.eye(shape[-1]) + 0.3 * rng.normal(size=shape))
            layer.beta.assign(rng.normal(-0.4, 1.0, layer.beta.shape))
    return model


def require_folded(wide, x):
    """The folded model: it computes the same, with layers of Keras only, under the same names."""
    small = fold_bwcp(wide)
    for actual, expected in zip(flat_outputs(small, x), flat_outputs(wide, x), strict=True):
        close(actual, expected)
    assert [one.name for one in small.layers] == [one.name for one in wide.layers]
    kinds = {type(one).__module__.split(".")[0] for one in small._flatten_layers()}
    assert kinds == {"keras"}
    assert small.count_params() < wide.count_params()
    return small


@pytest.fixture(scope="module")
def residual():
    return randomise(networks.residual())


@pytest.fixture(scope="module")
def folded(residual):
    """A residual network with biases and zero padding, disturbed, and what it is folded into."""
    wide = disturbed(bwcp(residual, groups=4))
    return wide, require_folded(wide, inputs_for(residual))


def test_with_open_masks_and_identity_whitening_a_model_computes_what_it_did(residual):
    x = inputs_for(residual)
    whitened = bwcp(residual, warmup_steps=1)
    for actual, expected in zip(flat_outputs(whitened, x), flat_outputs(residual, x), strict=True):
        close(actual, expected)


def test_folded_and_narrow_it_computes_what_it_did_with_hard_masks(folded):
    wide, small = folded
    kept = {p: int(wide.get_layer(p).open_channels().sum()) for p in ("b1a_bn", "b2a_bn")}
    assert small.get_layer("b1a_conv").filters == kept["b1a_bn"] < 8
    assert small.get_layer("b2a_conv").filters == kept["b2a_bn"] < 12


def test_channels_tied_by_an_addition_leave_when_every_term_is_closed(folded):
    wide, small = folded
    terms = [wide.get_layer(name).open_channels() for name in ("stem_bn", "b1b_bn")]
    assert small.get_layer("stem_conv").filters == int((terms[0] | terms[1]).sum()) < 8
    gamma = numpy_of(small.get_layer("b1b_bn").gamma)
    np.testing.assert_array_equal(gamma != 0, terms[1][terms[0] | terms[1]])


def test_a_layer_of_which_all_is_closed_keeps_its_most_probable_channel(residual):
    wide = bwcp(residual, exclude=["stem_conv", "b2a_conv"])
    layer = wide.get_layer("b1a_bn")
    layer.beta.assign(np.where(np.arange(8) == 3, -1.0, -2.0))
    small = require_folded(wide, inputs_for(residual))
    assert small.get_layer("b1a_conv").filters == 1
    expected = numpy_of(wide.get_layer("b1a_conv").kernel)[..., 3]
    found = numpy_of(small.get_layer("b1a_conv").kernel)[..., 0]
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.999


def test_normalizations_without_a_convolution_of_their_own_stay_with_the_reason():
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(8, 3, name="stem")(inputs)
    x = layers.ReLU()(layers.BatchNormalization(name="own")(x))
    y = layers.Conv2D(8, 3, padding="same", activation="relu", name="active")(x)
    y = layers.BatchNormalization(name="after_activation")(y)
    x = layers.Concatenate(name="both")([x, y])
    x = layers.ReLU()(layers.BatchNormalization(name="pre")(x))
    x = layers.Conv2D(6, 1, name="last")(x)
    x = layers.Activation("sigmoid")(layers.BatchNormalization(name="not_zero")(x))
    model = keras.Model(inputs, layers.Dense(3, name="head")(layers.GlobalMaxPooling2D()(x)))
    reasons = bwcp_reasons(model)
    assert list(reasons) == ["own", "after_activation", "pre", "not_zero"]
    assert reasons["after_activation"] == "layer 'active' before it has an activation"
    assert "does not follow a convolution or dense layer of its own" in reasons["pre"]
    assert "would not be zero where layer 'head' reads it" in reasons["not_zero"]
    assert "would not be zero where layer 'last' reads it" in reasons["own"]
    with pytest.raises(UnsupportedModel, match="no BatchNormalization that BWCP can replace.*\n- "):
        bwcp(model)


def test_maps_of_one_pixel_are_no_less_heard():
    """Channels that another normalization revives stay, however few numbers there are to tell."""
    inputs = keras.Input((1, 1, 3))
    x = layers.Conv2D(32, 1, name="conv")(inputs)
    x = layers.ReLU()(layers.BatchNormalization(name="closed")(x))
    x = layers.DepthwiseConv2D(1, use_bias=False, name="depthwise")(x)
    x = layers.ReLU()(layers.BatchNormalization(name="open")(x))
    outputs = layers.Dense(2)(layers.Flatten()(x))
    wide = bwcp(randomise(keras.Model(inputs, outputs)))
    wide.get_layer("closed").beta.assign(np.full(32, -1.0))
    wide.get_layer("open").beta.assign(np.where(np.arange(32) < 20, 1.0, -1.0))
    small = fold_bwcp(wide)
    assert small.get_layer("conv").filters == 20


def test_what_is_excluded_stays_with_all_that_is_tied_to_it(residual):
    reasons = bwcp_reasons(residual, exclude=["stem_conv"])
    assert set(reasons) == {"stem_bn", "b1b_bn"}
    assert "is in `exclude`" in reasons["stem_bn"]


def test_a_model_without_whitening_cannot_be_folded(residual):
    with pytest.raises(InvalidArgument, match="no BatchWhitening layer"):
        fold_bwcp(residual)


def test_its_channels_stay_until_it_is_folded_and_its_products_are_counted(folded):
    wide, _ = folded
    channels = trace(wide)
    assert not channels.prunable[channels.produced["b1a_conv"]].any()
    assert any("fold_bwcp" in reason for reason in channels.reasons.values())
    own = [site for site in channels.macs if site.path == "b1a_bn"]
    assert [(site.positions, site.variable.shape) for site in own] == [(64, (2, 4, 4))]


# ---- training


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small network after a few steps of `fit`, its file, and what it began with."""
    keras.utils.set_random_seed(0)
    cooling = keras.optimizers.schedules.PolynomialDecay(1.0, 10, 0.1)
    model = bwcp(networks.plain(), groups=5, temperature=cooling, scale_penalty=1e-2, seed=0)
    begun = [numpy_of(w) for w in model.weights]
    model.get_layer("a_bn").gamma.assign([0.0, *[1.0] * 7])  # A scale of zero has a slope, too.
    model.compile(keras.optimizers.SGD(0.05), "sparse_categorical_crossentropy")
    x, y = inputs_for(model, 16), np.arange(16) % 4
    model.fit(x, y, batch_size=8, epochs=2, verbose=0)
    path = tmp_path_factory.mktemp("bwcp") / "model.keras"
    model.save(path)
    return model, path, begun


def test_fit_trains_scales_and_shifts_through_masks(trained):
    model, _, begun = trained
    for before, weight in zip(begun, model.weights, strict=True):
        value = numpy_of(weight)
        assert np.isfinite(value).all()
        if weight.trainable:
            assert (value != before).mean() > 0.8
    for name in ("a_bn", "b_bn"):
        for weight in (model.get_layer(name).gamma, model.get_layer(name).beta):
            assert (numpy_of(weight) != (1 if weight.name == "gamma" else 0)).all()
    assert int(numpy_of(model.get_layer("a_bn").steps)) == 4


def test_a_saved_model_goes_on_at_the_same_temperature(trained):
    model, path, _ = trained
    loaded = keras.models.load_model(path)
    x = inputs_for(model, 5)
    close(flat_outputs(loaded, x)[0], flat_outputs(model, x)[0])
    assert loaded.get_layer("b_bn").get_config() == model.get_layer("b_bn").get_config()
    assert int(numpy_of(loaded.get_layer("b_bn").steps)) == 4
    assert loaded.get_layer("b_bn").temperature.get_config()["decay_steps"] == 10


def test_a_trained_model_folds_and_the_narrow_one_trains_on(trained, single_channels):
    model, _, _ = trained
    small = require_folded(model, inputs_for(model, 5))
    small.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
    small.train_on_batch(inputs_for(model, 8), np.arange(8) % 4)


def test_whitened_channels_have_the_spread_that_the_folded_normalization_expects():
    """So training can go on after folding: what a batch has is what the running averages say."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 4))
    x = layers.BatchNormalization(name="bn", momentum=0.0)(layers.Conv2D(6, 3, name="conv")(inputs))
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(x))
    model = keras.Model(inputs, layers.Dense(2)(x))
    wide = bwcp(model, newton_iterations=30, prune=False)
    x = batch(4)[:, :4, :4]
    x = np.random.default_rng(0).normal(size=(64, 6, 6, 4)).astype("float32") + x.mean()
    wide(x, training=True)
    small = fold_bwcp(wide)
    close(flat_outputs(small, x)[0], numpy_of(small(x, training=True)), 0.02)


# ---- real networks


def mobilenet_v2():
    return keras.applications.MobileNetV2((32, 32, 3), alpha=0.35, weights=None, classes=4)


REAL = {
    "resnet20": lambda: keras_gcp.models.resnet20(input_shape=(16, 16, 3), width=8),
    "vgg16": lambda: keras_gcp.models.vgg16(width=8, hidden=16),
    "mobilenet": lambda: keras_gcp.models.mobilenet(width=8, input_shape=(16, 16, 3)),
    "mobilenet_v2": mobilenet_v2,
    **networks.ALL,
}
WITHOUT = {"siamese", "sequence", "sequential"}
"""Those in which nothing can be whitened."""


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in REAL if name not in WITHOUT])
def test_networks_fold_into_what_they_compute(name):
    model = randomise(REAL[name]())
    x = inputs_for(model)
    whitened = bwcp(model, prune=False)
    for actual, expected in zip(flat_outputs(whitened, x), flat_outputs(model, x), strict=True):
        close(actual, expected)
    wide = disturbed(bwcp(model))
    small = fold_bwcp(wide)
    for actual, expected in zip(flat_outputs(small, x), flat_outputs(wide, x), strict=True):
        close(actual, expected)
    print(name, model.count_params(), small.count_params(), bwcp_reasons(model))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(WITHOUT))
def test_networks_without_a_place_for_whitening_are_refused(name):
    with pytest.raises(UnsupportedModel, match="no BatchNormalization that BWCP can replace"):
        bwcp(REAL[name]())


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_trains_and_folds(policy):
    keras.config.set_dtype_policy(policy)
    model = bwcp(networks.residual(), seed=0)
    model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
    x, y = inputs_for(model, 16), np.arange(16) % 4
    model.fit(x, y, batch_size=8, epochs=2, verbose=0)
    assert all(np.isfinite(numpy_of(w)).all() for w in model.weights)
    disturbed(model)
    small = fold_bwcp(model)
    close(flat_outputs(small, x)[0], flat_outputs(model, x)[0], 0.03)


@pytest.mark.slow
def test_the_folded_model_loads_and_computes_the_same_without_keras_gcp(
    folded, without_keras_gcp, tmp_path
):
    wide, small = folded
    x = inputs_for(wide)
    small.save(tmp_path / "small.keras")
    np.save(tmp_path / "x.npy", x)
    without_keras_gcp(
        "import keras, numpy\n"
        "model = keras.models.load_model('small.keras')\n"
        "numpy.save('y.npy', model.predict(numpy.load('x.npy'), verbose=0))\n"
    )
    close(np.load(tmp_path / "y.npy"), flat_outputs(wide, x)[0])


@pytest.mark.slow
def test_an_interrupted_fit_goes_on_with_its_steps(tmp_path):
    x, y = inputs_for(networks.plain(), 16), np.arange(16) % 4

    class Crash(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                raise RuntimeError("crash")

    def fitted(*callbacks):
        keras.utils.set_random_seed(0)
        model = bwcp(networks.plain(), seed=0)
        model.compile("sgd", "sparse_categorical_crossentropy")
        backup = keras.callbacks.BackupAndRestore(tmp_path)
        model.fit(x, y, batch_size=8, epochs=3, verbose=0, callbacks=[backup, *callbacks])
        return model

    with pytest.raises(RuntimeError, match="crash"):
        fitted(Crash())
    assert int(numpy_of(fitted().get_layer("a_bn").steps)) == 6
