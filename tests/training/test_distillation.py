"""`distillation`: after the first cut the model learns from itself as it was before, and nothing of
that stays with it."""

import json
import zipfile

import keras
import networks
import numpy as np
import pytest
from fitting import ONE_STEP, AtBeginning, Watch, compiled, data, fit, pruning, slots_of, weights_of
from keras import layers, ops

import keras_gcp
from keras_gcp import schedules
from keras_gcp.errors import InvalidArgument, UnsupportedModel

WEIGHT, TEMPERATURE = 0.7, 3.0


def distilling(schedule=None, **options):
    return pruning(
        schedule=schedule, distillation=keras_gcp.Distillation(WEIGHT, TEMPERATURE), **options
    )


def network(head="softmax", penalty=None):
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, activation="relu", kernel_regularizer=penalty, name="a")(inputs)
    x = layers.BatchNormalization(name="bn")(x)
    x = layers.Flatten()(x)
    return keras.Model(inputs, layers.Dense(4, activation=head, name="out")(x))


def by_hand(x, y, weights, logits, teacher, student, loss, penalty):
    """(1 - w) loss + w T^2 KL(teacher, student), with Keras' own divergence."""
    soft = [
        ops.softmax((ops.log(p) if not logits else p) / TEMPERATURE) for p in (teacher, student)
    ]
    divergence = keras.losses.KLDivergence()(*soft, sample_weight=weights)
    share = WEIGHT * TEMPERATURE**2 * divergence
    return (1 - WEIGHT) * loss(y, student, sample_weight=weights) + share + penalty


HEADS = {
    "softmax": ("softmax", False),
    "logits": (None, True),
    "log_softmax": ("log_softmax", True),
}


@pytest.mark.parametrize(
    "head, penalty, weighted",
    [
        ("softmax", 0.1, False),
        pytest.param("softmax", None, True, marks=pytest.mark.slow),
        pytest.param("logits", None, True, marks=pytest.mark.slow),
        pytest.param("log_softmax", None, False, marks=pytest.mark.slow),
    ],
)
def test_training_is_that_with_the_loss_written_out_by_hand(head, penalty, weighted):
    activation, logits = HEADS[head]
    model = network(activation, penalty and keras.regularizers.L2(penalty))
    wide = keras.models.clone_model(model)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=logits)
    if head == "log_softmax":
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    watch, cut = Watch(), AtBeginning(1)
    weights = np.random.default_rng(0).uniform(0.5, 2.0, len(ONE_STEP[0])).astype("float32")
    options = {"sample_weight": weights} if weighted else {}
    traced = {"loss": loss, "run_eagerly": False}
    fit(compiled(model, **traced), [watch, distilling(), cut], epochs=2, **options)

    wide.set_weights(watch.weights[0])
    narrow = type(model).from_config(model.get_config())

    class Student(keras.Model):
        def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
            penalty = sum(self.losses) if self.losses else 0.0
            teacher = ops.stop_gradient(wide(x, training=False))
            return by_hand(x, y, sample_weight, logits, teacher, y_pred, loss, penalty)

    student = compiled(Student(narrow.inputs, narrow.outputs), **traced)
    student.set_weights(cut.weights)
    student.optimizer.build(student.trainable_variables)
    for variable, value in zip(student.optimizer.variables, cut.slots, strict=True):
        variable.assign(value)
    fit(student, [], epochs=2, initial_epoch=1, **options)
    for ours, theirs in zip(weights_of(model), weights_of(student), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=2e-6)
    assert not np.array_equal(model.get_weights()[0], cut.weights[0])


@pytest.fixture(scope="module")
def distilled(tmp_path_factory):
    """A training with validation and a file of the whole model after every epoch."""
    path = tmp_path_factory.mktemp("files")
    keras.utils.set_random_seed(0)
    model = compiled(network())
    callback = distilling()
    saved = keras.callbacks.ModelCheckpoint(str(path / "{epoch}.keras"))
    history = fit(model, [callback, saved], epochs=3, validation_data=data(seed=1))
    return model, callback, history.history, path


def test_validation_keeps_the_models_own_loss(distilled):
    model, _, history, _ = distilled
    loss, accuracy = model.evaluate(*data(seed=1), verbose=0)
    assert history["val_loss"][-1] == pytest.approx(loss, rel=1e-5)
    assert history["val_accuracy"][-1] == pytest.approx(accuracy)


def test_before_the_cut_the_training_is_the_same_as_without_and_afterwards_not(distilled):
    _, _, history, _ = distilled
    keras.utils.set_random_seed(0)
    plain = fit(compiled(network()), [pruning()], epochs=3, validation_data=data(seed=1)).history
    assert plain["channels_left"] == history["channels_left"]
    assert plain["loss"][0] == history["loss"][0]
    assert plain["loss"][1] != history["loss"][1]
    assert plain["val_loss"][0] == history["val_loss"][0]


def test_files_saved_meanwhile_are_plain_models(distilled):
    model, _, _, path = distilled
    for epoch in (1, 2, 3):
        file = path / f"{epoch}.keras"
        loaded = keras.models.load_model(file)
        config = json.loads(zipfile.ZipFile(file).read("config.json"))
        assert "keras_gcp" not in json.dumps(config)
        assert len(loaded.weights) == len(model.weights)
    for ours, theirs in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


class Stumble(keras.callbacks.Callback):
    """Ends a fit within the epoch of the cut."""

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self._epoch == 1:
            raise RuntimeError("made by the test")


@pytest.mark.parametrize("end", ["as planned", "by an exception"])
def test_when_the_fit_has_ended_the_next_one_is_that_of_a_plain_model(end):
    model = compiled(network())
    if end == "as planned":
        fit(model, [distilling()], epochs=2)
        assert not {"compute_loss", "make_train_function"} & set(vars(model))
    else:
        with pytest.raises(RuntimeError, match="made by the test"):
            fit(model, [distilling(), Stumble()])
    fresh = compiled(type(model).from_config(model.get_config()))
    fresh.set_weights(model.get_weights())
    fresh.optimizer.build(fresh.trainable_variables)
    for variable, value in zip(fresh.optimizer.variables, slots_of(model), strict=True):
        variable.assign(value)
    losses = [fit(one, [], epochs=1).history["loss"] for one in (model, fresh)]
    assert losses[0] == losses[1]
    for ours, theirs in zip(weights_of(model), weights_of(fresh), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert not {"compute_loss", "make_train_function"} & set(vars(model))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The schedule has events before the epochs")
def test_two_fits_are_the_same_as_one():
    results = []
    for parts in ([4], [2, 4]):
        keras.utils.set_random_seed(0)
        model, callback = compiled(network()), distilling(schedules.linear(1, 3, 2))
        for begin, end in zip([0, *parts], parts, strict=False):
            fit(model, [callback], epochs=end, initial_epoch=begin)
        results.append(weights_of(model))
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_cut_that_is_taken_back_gives_no_teacher(monkeypatch):
    """What the teacher knows is what the model knew just before the first cut that lasted."""
    taken = []

    def fail(*args):
        monkeypatch.undo()
        raise RuntimeError("made by the test")

    class Look(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            taken.append(weights_of(self.model))

    monkeypatch.setattr("keras_gcp.surgery.cut.verify_narrow", fail)
    callback = distilling(schedules.linear(1, 2), on_failure="skip")
    model = compiled(network())
    with pytest.warns(UserWarning, match="skipped"):
        fit(model, [Look(), callback])
    for ours, theirs in zip(callback._pruned.teacher.weights, taken[2], strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(ours), theirs)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"jit_compile": True},
        {"run_eagerly": True},
        pytest.param(
            {"steps_per_execution": 3},
            marks=pytest.mark.not_on("torch", "Keras wants steps_per_execution=1 there"),
        ),
    ],
    ids=str,
)
def test_ways_to_compile_end_alike(options):
    results = []
    for chosen in ({"run_eagerly": False}, options):
        keras.utils.set_random_seed(0)
        model = compiled(network(), **chosen)
        fit(model, [distilling()], epochs=3)
        results.append(weights_of(model))
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_trains_on(policy):
    keras.config.set_dtype_policy(policy)
    model, watch = compiled(networks.residual()), Watch()
    history = fit(model, [distilling(), watch], epochs=3).history
    assert np.isfinite(history["loss"]).all()
    assert not np.array_equal(watch.weights[1][0], watch.weights[2][0])


class OwnStep(keras.Model):
    """A training step that computes its loss by itself."""

    def train_step(self, *arguments):
        if keras.config.backend() == "jax":
            return {"loss": ops.zeros(())}, arguments[0]
        return {"loss": ops.zeros(())}


def test_a_training_step_that_never_asks_for_the_loss_is_named():
    plain = network()
    model = compiled(OwnStep(plain.inputs, plain.outputs), metrics=None)
    with pytest.raises(UnsupportedModel, match="`train_step` .*class OwnStep.*`distillation` out"):
        fit(model, [distilling()])


class OldLoss(keras.Model):
    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
        return super().compute_loss(x, y, y_pred, sample_weight)


def test_a_loss_that_does_not_know_whether_it_trains_is_refused_before_training():
    plain = network()
    model = compiled(OldLoss(plain.inputs, plain.outputs))
    with pytest.raises(UnsupportedModel, match="class OldLoss.* no argument `training`"):
        fit(model, [distilling()])


def ignoring():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(inputs)
    model = keras.Model(inputs, layers.Conv2D(4, 1, activation="softmax")(x))
    return model, keras.losses.SparseCategoricalCrossentropy(ignore_class=3)


REFUSED = {
    "sigmoid": (lambda: (network("sigmoid"), "binary_crossentropy"), "one class of several"),
    "sparsemax": (lambda: (network("sparsemax"), "categorical_crossentropy"), "softmax or logits"),
    "regression": (lambda: (networks.autoencoder(), "mse"), "`distillation` needs a classifier"),
    "places without a class": (ignoring, "`ignore_class=3`"),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_other_heads_are_refused_before_training(name):
    make, message = REFUSED[name]
    model, loss = make()
    model.compile("sgd", loss)
    x, y = data()
    shape = model.output_shape[1:]
    y = np.zeros((len(x), *(shape[:-1] if name.startswith("places") else shape)), "float32")
    with pytest.raises(UnsupportedModel, match=message):
        fit(model, [distilling(sample=(x, y))], examples=(x, y))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"weight": 0.0}, "above 0 and at most 1. Received: 0.0"),
        ({"weight": 1.5}, "above 0 and at most 1. Received: 1.5"),
        ({"weight": True}, "above 0 and at most 1. Received: True"),
        ({"temperature": 0}, "a positive number. Received: 0"),
        ({"temperature": float("inf")}, "a positive number. Received: inf"),
    ],
)
def test_numbers_out_of_range_are_refused(arguments, message):
    with pytest.raises(InvalidArgument, match=message):
        keras_gcp.Distillation(**arguments)


def test_something_that_is_no_distillation_is_refused_at_once():
    with pytest.raises(InvalidArgument, match=r"`distillation` expects `keras_gcp.Distillation\("):
        pruning(distillation=True)
