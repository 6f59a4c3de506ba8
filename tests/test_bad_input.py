"""Bad input gets an error when training begins, and the model stays as it is."""

import fitting
import keras
import networks
import numpy as np
import pytest
from fitting import selection_in
from helpers import WithFactors

import keras_gcp
from keras_gcp.errors import ImpossibleBudget, InvalidArgument, KerasGCPError, UnsupportedModel


def classification(count=24, classes=4, shape=(8, 8, 3)):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, *shape)).astype("float32")
    return x, np.arange(count, dtype="int32") % classes


def compiled(model, loss="sparse_categorical_crossentropy"):
    return fitting.compiled(model, keras.optimizers.SGD(0.01), loss=loss, metrics=None)


def callback(sample=None, budget=None, **options):
    return keras_gcp.GradualChannelPruning(
        classification() if sample is None else sample,
        {"channels": 0.5} if budget is None else budget,
        options.pop("schedule", keras_gcp.schedules.one_shot(1)),
        selection=selection_in(options),
        verbose=0,
        **options,
    )


def refuses(model, error, match, make, data=None, epochs=2):
    """Fit fails with the error before the first step, and nothing has changed."""
    before = [np.array(w) for w in model.get_weights()]
    x, y = data or classification()
    with pytest.raises(error, match=match):
        model.fit(x, y, epochs=epochs, verbose=0, callbacks=make())
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.conv = keras.layers.Conv2D(4, 3)
        self.head = keras.layers.Dense(4, activation="softmax")

    def call(self, x):
        return self.head(keras.ops.mean(self.conv(x), axis=(1, 2)))


def test_a_subclassed_model_is_refused_with_its_class():
    model = compiled(Subclassed())
    model(classification()[0])
    refuses(model, UnsupportedModel, "class Subclassed.*functional", lambda: [callback()])


def test_an_unbuilt_model_is_refused():
    model = keras.Sequential([keras.layers.Conv2D(4, 3)])
    with pytest.raises(UnsupportedModel, match="not built.*keras.Input"):
        keras_gcp.plan(model, {"macs": 0.5})


def test_unknown_height_and_width_are_refused_with_input_shape():
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(8, 3, name="conv")(inputs)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = compiled(keras.Model(inputs, keras.layers.Dense(4, activation="softmax")(x)))
    pruning = keras_gcp.GradualChannelPruning(None, {"macs": 0.5}, criterion="l2_norm")
    refuses(model, UnsupportedModel, "'conv'.*input_shape", lambda: [pruning])


@pytest.mark.parametrize("share", [0.0, 1.0, 1.3, -0.2, "half"])
def test_a_share_out_of_range_is_refused_at_construction(share):
    with pytest.raises(InvalidArgument, match="between 0 and 1"):
        callback(budget={"macs": share})


def test_a_budget_is_needed():
    with pytest.raises(InvalidArgument, match="dict of what may remain"):
        keras_gcp.GradualChannelPruning(classification())


def test_a_budget_beside_channels_every_is_refused():
    with pytest.raises(InvalidArgument, match="goes without a budget"):
        callback(schedule=keras_gcp.schedules.channels_every(1, 2, 3))


def test_a_budget_that_is_met_already_is_refused():
    model = compiled(networks.plain())
    macs = keras_gcp.count(model).macs
    budget = {"macs": keras_gcp.absolute(macs)}
    refuses(model, InvalidArgument, "already met", lambda: [callback(budget=budget)])


def test_a_budget_met_in_comparison_with_a_reference_is_refused():
    wide, narrow = (
        networks.plain(),
        keras_gcp.prune(networks.plain(), {"channels": 0.4}, selection={"align": 1}),
    )
    make = lambda: [callback(budget=keras_gcp.Budget({"channels": 0.5}, reference=wide))]  # noqa: E731
    refuses(compiled(narrow), InvalidArgument, "already met", make)


def test_a_budget_that_floors_make_impossible_says_how_far_it_can_go():
    make = lambda: [callback(budget={"channels": 0.2}, floor=0.5)]  # noqa: E731
    refuses(compiled(networks.plain()), ImpossibleBudget, "from 20 down to 10", make)


def test_an_unknown_criterion_is_refused_with_the_known_ones():
    with pytest.raises(InvalidArgument, match="'l3_norm'.*feature_relevance.*taylor"):
        callback(criterion="l3_norm")


def test_an_unknown_layer_in_exclude_is_refused_with_the_known_ones():
    make = lambda: [callback(exclude=["nowhere"])]  # noqa: E731
    refuses(compiled(networks.plain()), InvalidArgument, "'nowhere'.*a_conv", make)


def test_a_sample_of_another_shape_is_refused_with_both_shapes():
    make = lambda: [callback(classification(shape=(9, 8, 3)))]  # noqa: E731
    refuses(compiled(networks.plain()), InvalidArgument, r"8, 8, 3.*9, 8, 3", make)


def test_nan_inputs_are_refused():
    x, y = classification()
    x = x.copy()
    x[3, 0, 0, 0] = np.nan
    refuses(compiled(networks.plain()), InvalidArgument, "NaN", lambda: [callback((x, y))])


def test_nan_labels_are_refused():
    x, y = classification()
    y = y.astype("float32")
    y[2] = np.nan
    refuses(compiled(networks.plain()), InvalidArgument, "NaN", lambda: [callback((x, y))])


def test_missing_labels_are_refused():
    x, _ = classification()
    make = lambda: [callback((x, None), criterion="feature_relevance")]  # noqa: E731
    refuses(compiled(networks.plain()), InvalidArgument, "label", make)


def test_labels_beyond_the_classes_are_refused():
    x, y = classification(classes=7)
    refuses(compiled(networks.plain()), KerasGCPError, "class|label", lambda: [callback((x, y))])


def test_feature_relevance_on_a_head_that_is_no_classifier_names_other_criteria():
    model = compiled(networks.autoencoder(), "mse")
    x, _ = classification()
    size = model.output_shape[1:]
    target = np.zeros((len(x), *size), "float32")
    make = lambda: [callback((x, target), criterion="feature_relevance")]  # noqa: E731
    refuses(model, KerasGCPError, "criterion='(taylor|l2_norm)'", make, (x, target))


def test_a_class_without_samples_is_a_warning():
    x, y = classification()
    model = compiled(networks.plain())
    few = (x[y != 3], y[y != 3])
    with pytest.warns(UserWarning, match="class"):
        model.fit(
            x, y, epochs=2, verbose=0, callbacks=[callback(few, criterion="feature_relevance")]
        )
    assert keras_gcp.count(model).channels <= 10


def test_a_schedule_without_an_event_inside_the_epochs_is_refused():
    make = lambda: [callback(schedule=keras_gcp.schedules.one_shot(5))]  # noqa: E731
    refuses(compiled(networks.plain()), InvalidArgument, "no event inside the 2 epochs", make)


def test_a_schedule_that_ends_after_the_epochs_is_a_warning_with_the_share_reached():
    model = compiled(networks.plain())
    schedule = keras_gcp.schedules.linear(1, 4)
    x, y = classification()
    with pytest.warns(UserWarning, match="only 25%"):
        model.fit(x, y, epochs=2, verbose=0, callbacks=[callback(schedule=schedule)])


def test_something_that_is_no_schedule_is_refused():
    with pytest.raises(InvalidArgument, match=r"schedules\.linear"):
        callback(schedule=3)


def test_two_pruning_callbacks_are_refused():
    make = lambda: [callback(), callback()]  # noqa: E731
    model = compiled(networks.plain())
    refuses(model, InvalidArgument, "Pass only one", make)
    x, y = classification()
    model.fit(x, y, epochs=2, verbose=0, callbacks=[callback()])  # One alone is fine afterwards.


def test_reset_refuses_other_words_than_auto():
    with pytest.raises(InvalidArgument, match="'auto' or a list"):
        callback(reset="all")


def test_reset_refuses_callbacks_without_a_best_model():
    with pytest.raises(InvalidArgument, match="remember a best model"):
        callback(reset=[keras.callbacks.History()])


def test_an_optimizer_with_slots_of_another_shape_is_refused_before_training():
    model = networks.flatten_dense()
    model.compile(WithFactors(0.01), "sparse_categorical_crossentropy")
    refuses(model, UnsupportedModel, "WithFactors.*not shaped like", lambda: [callback()])


def test_a_model_without_free_channels_is_refused_with_the_reasons():
    inputs = keras.Input((8,))
    model = compiled(keras.Model(inputs, keras.layers.Dense(4, activation="softmax")(inputs)))
    x, y = np.zeros((24, 8), "float32"), classification()[1]
    make = lambda: [callback((x, y))]  # noqa: E731
    refuses(model, UnsupportedModel, "(?s)no channels that may be pruned.*output", make, (x, y))


def test_a_criterion_that_returns_nonsense_leaves_the_model_as_it_was():
    def nonsense(model, channels, sample):
        return {"a_conv": np.ones(3)}

    model = compiled(networks.plain())
    x, y = classification()
    with pytest.raises(InvalidArgument, match="a_conv|b_conv"):
        model.fit(x, y, epochs=2, verbose=0, callbacks=[callback(criterion=nonsense)])
    assert keras_gcp.count(model).channels == 20


@pytest.mark.needs_tensorflow("tf.data")
def test_a_tf_dataset_and_a_pydataset_serve_as_sample():
    import tensorflow as tf

    x, y = classification()

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            return x[8 * index : 8 * index + 8], y[8 * index : 8 * index + 8]

    for sample in (tf.data.Dataset.from_tensor_slices((x, y)).batch(6), Batches()):
        model = compiled(networks.plain())
        model.fit(
            x, y, epochs=2, verbose=0, callbacks=[callback(keras_gcp.Sample(sample, size=16))]
        )
        assert keras_gcp.count(model).channels <= 10
