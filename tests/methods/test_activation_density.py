"""Layers as wide as the share of their outputs that is not zero."""

import keras
import networks
import numpy as np
import pytest
from helpers import flat_outputs, inputs_for, randomise
from keras import layers

import keras_gcp
from keras_gcp.channels.trace import trace
from keras_gcp.criteria.density import channel_densities
from keras_gcp.errors import InvalidArgument
from keras_gcp.methods import ActivationDensity
from keras_gcp.methods.density.callback import width_by_density
from keras_gcp.sample import DrawnSample

# ---- density


def densities_of(model, x):
    channels = trace(model)
    found = channel_densities(model, channels, DrawnSample(x, None), batch_size=7)
    return {path: found[coupled] for path, coupled in channels.produced.items()}


def with_identity_in_front(after):
    """Its first layer gives each of four inputs back."""
    inputs = keras.Input((6, 6, 4))
    x = layers.Conv2D(4, 1, use_bias=False, name="same")(inputs)
    model = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(after(x))))
    model.get_layer("same").set_weights([np.eye(4, dtype="float32")[None, None]])
    return model


@pytest.fixture(scope="module")
def images():
    x = np.random.default_rng(0).normal(size=(20, 6, 6, 4)).astype("float32")
    return x - np.array([0.0, 1.0, -1.0, 9.0], "float32")  # The last channel is never positive.


@pytest.mark.parametrize(
    "after",
    [
        layers.ReLU(),
        layers.Activation("relu"),
        keras.ops.relu,
        lambda x: layers.MaxPooling2D(2)(layers.ReLU()(x)),
        lambda x: layers.GlobalAveragePooling2D(keepdims=True)(layers.ReLU()(x)),
        lambda x: layers.ZeroPadding2D(2)(layers.ReLU()(x)),
        lambda x: layers.ReLU()(layers.ReLU()(x)),
    ],
    ids=["layer", "activation", "operation", "pooled", "averaged", "padded", "twice"],
)
def test_density_is_the_share_of_values_that_the_activation_lets_through(after, images):
    expected = (images > 0).mean(axis=(0, 1, 2))
    np.testing.assert_allclose(
        densities_of(with_identity_in_front(after), images)["same"], expected
    )


def test_zeros_that_no_activation_made_do_not_count(images):
    images = np.where(images > 0, images, 0).astype("float32")  # Then the layer has zeros, too.
    found = densities_of(with_identity_in_front(layers.Activation("swish")), images)["same"]
    assert found.max() < 1  # swish(0) = 0 is one of its own
    np.testing.assert_allclose(densities_of(with_identity_in_front(lambda x: x), images)["same"], 1)


def test_a_layers_own_activation_counts_and_tied_layers_have_the_mean_of_their_places():
    model = randomise(networks.residual())
    x = inputs_for(model, 20)
    found = densities_of(model, x)
    names = ("stem_act", "b1_out")
    places = keras.Model(model.input, [model.get_layer(name).output for name in names])(x)
    shares = [(keras.ops.convert_to_numpy(one) != 0).mean(axis=(0, 1, 2)) for one in places]
    np.testing.assert_allclose(found["stem_conv"], np.mean(shares, axis=0), rtol=1e-6)
    np.testing.assert_array_equal(found["stem_conv"], found["b1b_conv"])
    fused = randomise(networks.flatten_dense())
    x = inputs_for(fused, 20)
    hidden = keras.Model(fused.input, fused.get_layer("hidden").output)(x)
    np.testing.assert_allclose(
        densities_of(fused, x)["hidden"],
        (keras.ops.convert_to_numpy(hidden) != 0).mean(axis=0),
        rtol=1e-6,
    )


# ---- rounds


class Quality(keras.callbacks.Callback):
    """Puts a metric into the logs: 1 for models with at least so many parameters, else 0."""

    def __init__(self, parameters):
        super().__init__()
        self.parameters, self.weights = parameters, []

    def on_epoch_end(self, epoch, logs=None):
        logs["quality"] = float(self.model.count_params() >= self.parameters)
        self.weights.append([np.array(one) for one in self.model.get_weights()])


def fitted(
    epochs=7,
    parameters=0,
    network=networks.plain,
    learning_rate=0.01,
    min_change=0.9,
    **options,
):
    keras.utils.set_random_seed(0)
    model = network()
    model.compile(
        keras.optimizers.Adam(learning_rate), "sparse_categorical_crossentropy", run_eagerly=True
    )
    x, y = inputs_for(model, 24), np.arange(24) % 4
    density = ActivationDensity(
        (x, y), metric="quality", patience=1, min_change=min_change, seed=0, **options
    )
    quality = Quality(parameters)
    history = model.fit(x, y, batch_size=12, epochs=epochs, verbose=0, callbacks=[quality, density])
    return model, density, history.history, quality


@pytest.fixture(scope="module")
def two_rounds():
    return fitted(epochs=5, rounds=2)


def test_every_round_sets_each_width_to_density_times_width(two_rounds):
    model, density, logs, _ = two_rounds
    assert [one.epochs for one in density.rounds] == [2, 2]
    widths = [one.widths for one in density.rounds] + [trace(model).widths()]
    for before, after in zip(density.rounds, widths[1:], strict=True):
        for name, share in before.densities.items():
            assert after[name] == width_by_density(before.widths[name], share)
    assert widths[2]["a_conv"] < widths[1]["a_conv"] < widths[0]["a_conv"]
    assert density.plan.widths()["a_conv"] == widths[2]["a_conv"]
    assert logs["density/a_conv"][1] == density.rounds[0].densities["a_conv"]
    assert logs["macs_left"][-1] == keras_gcp.count(model).macs / density.rounds[0].macs


def test_training_of_all_rounds_is_summed_up(two_rounds):
    model, density, logs, _ = two_rounds
    first, second = density.rounds
    macs = [first.macs, second.macs, keras_gcp.count(model).macs]
    by_hand = 3 * (4 * macs[0] + 4 * macs[1] + 2 * macs[2])  # Two steps an epoch.
    assert density.training_macs == by_hand
    assert density.training_share == by_hand / (3 * 10 * first.macs) == logs["training_share"][-1]
    assert "training took" in density.explain()


def test_the_densest_channels_stay_with_their_weights():
    keras.utils.set_random_seed(0)
    before = np.array(networks.plain().get_layer("a_conv").kernel)
    model, density, _, _ = fitted(epochs=3, rounds=1, learning_rate=1e-12)
    kept = density.plan.kept("a_conv")
    after = keras.ops.convert_to_numpy(model.get_layer("a_conv").kernel)
    np.testing.assert_allclose(after, before[..., kept], atol=1e-6)


def test_without_carrying_weights_are_drawn_anew_and_the_optimizer_forgets():
    model, density, _, _ = fitted(epochs=3, rounds=1, carry=None)
    share = density.rounds[0].densities["a_conv"]
    assert trace(model).widths()["a_conv"] == width_by_density(8, share)
    slots = [np.array(one) for one in model.optimizer.variables[2:]]
    assert any(np.abs(one).max() > 0 for one in slots)
    keras_gcp.keras_state.reset_slots(model)
    assert all(np.abs(np.array(one)).max() == 0 for one in model.optimizer.variables[2:])
    assert int(model.optimizer.iterations) == 6


def test_a_cut_below_the_floor_is_taken_back_to_the_weights_before_it():
    model, density, logs, quality = fitted(epochs=5, parameters=600, at_least=0.5, rounds=3)
    assert [one.taken_back for one in density.rounds] == [False, True]
    assert density.plan is None and trace(model).widths()["a_conv"] == 8
    assert logs["quality"] == [1, 1, 0, 0, 1]
    # What the fifth epoch began with is what the second ended with: one step of Adam is small.
    for now, then in zip(quality.weights[4], quality.weights[1], strict=True):
        assert np.abs(now - then).max() < 0.2


def test_a_cut_that_is_below_the_floor_when_training_ends_is_taken_back_exactly():
    model, density, _, quality = fitted(epochs=3, parameters=600, at_least=0.5)
    assert density.rounds[-1].taken_back
    for now, then in zip(model.get_weights(), quality.weights[1], strict=True):
        np.testing.assert_array_equal(now, then)
    x = inputs_for(model, 4)
    assert flat_outputs(model, x)[0].shape == model.predict(x, verbose=0).shape
    model.fit(x, np.arange(4), verbose=0)


def test_a_network_that_is_below_the_floor_itself_is_not_cut():
    _, density, _, _ = fitted(epochs=3, parameters=10**9, at_least=0.5)
    assert density.plan is None and not density.rounds


def test_a_fit_that_ends_before_densities_can_be_flat_says_so_before_the_first_step():
    with pytest.warns(UserWarning, match=r"patience=1 .* after 2 epochs .* the fit has 2"):
        _, density, _, _ = fitted(epochs=2)
    assert density.plan is None


def test_densities_that_never_become_flat_are_named_at_the_end():
    with pytest.warns(UserWarning, match=r"the density of '\w+' still changed by .* `min_change`"):
        _, density, _, _ = fitted(epochs=3, min_change=1e-9)
    assert density.plan is None


@pytest.mark.parametrize(
    "name",
    ["concatenation", *(pytest.param(n, marks=pytest.mark.slow) for n in ("depthwise", "grouped"))],
)
def test_it_cuts_networks_of_other_kinds(name):
    model, density, _, _ = fitted(epochs=3, rounds=1, network=networks.ALL[name])
    assert density.plan.after.parameters < density.plan.before.parameters
    assert density.plan.after.parameters == model.count_params()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"carry": "all"}, "`carry` expects 'densest' or None"),
        ({"rounds": 0}, "`rounds`"),
        ({"at_least": "much"}, "`at_least`"),
        ({"metric": 3}, "`metric`"),
        ({"min_change": 0}, "`min_change`"),
        ({"patience": 0}, "`patience`"),
    ],
)
def test_settings_out_of_range_are_refused(options, words):
    with pytest.raises(InvalidArgument, match=words):
        ActivationDensity(np.ones((4, 8, 8, 3)), **options)


def test_a_metric_that_is_not_logged_is_refused_by_name():
    model = networks.plain()
    model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
    x, y = inputs_for(model, 8), np.arange(8) % 4
    with pytest.raises(InvalidArgument, match=r"'val_accuracy'.*not among the logs: 'loss'"):
        model.fit(x, y, epochs=7, verbose=0, callbacks=[ActivationDensity(x, at_least=0.9)])


def test_two_pruning_callbacks_in_one_fit_are_refused():
    model = networks.plain()
    model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
    x, y = inputs_for(model, 8), np.arange(8) % 4
    both = [ActivationDensity(x), keras_gcp.GradualChannelPruning(x, {"macs": 0.5})]
    with pytest.raises(InvalidArgument, match="2 pruning callbacks"):
        model.fit(x, y, verbose=0, callbacks=both)
