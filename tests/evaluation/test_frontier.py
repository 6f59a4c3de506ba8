"""One training, many models: each is what the frontier says it is."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import keras
import networks
import numpy as np
import pytest
from fitting import compiled, data

import keras_gcp
from keras_gcp import resources
from keras_gcp.channels.trace import trace
from keras_gcp.costs.counting import count_map
from keras_gcp.errors import ImpossibleBudget, InvalidArgument, UnsupportedModel
from keras_gcp.evaluation.frontier_result import Frontier, FrontierPoint

BUDGETS = (0.4, 0.7)  # In any order.


def train(model, folder, examples=None, **options):
    options.setdefault("fit_options", {"batch_size": 16, "shuffle": False})
    return keras_gcp.frontier(
        compiled(model),
        data() if examples is None else examples,
        options.pop("validation_data", data(seed=1)),
        folder,
        **{
            "budgets": BUDGETS,
            "epochs_each": 2,
            "criterion": "l2_norm",
            "selection": {"align": 1},
            "seed": 0,
            "verbose": 0,
            **options,
        },
    )


class Accuracies(keras.callbacks.Callback):
    """What Keras itself reports for the validation data after every epoch."""

    def __init__(self):
        super().__init__()
        self.by_epoch = {}

    def on_epoch_end(self, epoch, logs=None):
        self.by_epoch[epoch + 1] = logs["val_accuracy"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A frontier, the model that was trained, what Keras reported on the way, what was printed."""
    keras.utils.set_random_seed(0)
    model, reported = networks.plain(), Accuracies()
    folder = tmp_path_factory.mktemp("run") / "sizes"
    fit_options = {"batch_size": 16, "shuffle": False, "validation_data": data(seed=1)}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        frontier = train(
            model,
            folder,
            epochs_before=1,
            callbacks=[reported],
            fit_options=fit_options,
            verbose=1,
        )
    return frontier, model, reported.by_epoch, printed.getvalue()


def test_there_is_a_point_for_the_full_model_and_one_for_each_budget_that_it_meets(trained):
    frontier, *_ = trained
    full = keras_gcp.count(networks.plain())
    assert [point.budget for point in frontier.points] == [1.0, 0.7, 0.4]
    assert [point.epochs for point in frontier.points] == [1, 3, 5]
    assert frontier.points[0].macs == full.macs
    for point in frontier.points:
        assert point.macs <= point.budget * full.macs
        assert point.share == pytest.approx(point.macs / full.macs)


def test_values_are_those_of_the_last_epoch_before_each_cut(trained):
    frontier, _, reported, _ = trained
    for point in frontier.points:
        assert point.value == pytest.approx(reported[point.epochs], abs=1e-6)
    assert len(set(reported.values())) > 1


def test_each_size_has_a_line_of_its_own_before_the_event_that_follows(trained):
    *_, printed = trained
    lines = [line for line in printed.splitlines() if "saved as" in line or "removed" in line]
    starts = ["macs 100.0%", "  ", "macs 6", "  ", "macs 3"]
    assert len(lines) == len(starts)
    for line, start in zip(lines, starts, strict=True):
        assert line.startswith(start)


def test_the_saved_models_have_the_value_that_is_reported(trained):
    frontier, *_ = trained
    x, y = data(seed=1)
    for point in frontier.points:
        model = keras.models.load_model(point.path)
        accuracy = (keras.ops.convert_to_numpy(model(x)).argmax(-1) == y).mean()
        assert point.value == pytest.approx(accuracy, abs=1e-6)
        assert point.parameters == model.count_params()


@pytest.mark.slow
def test_the_saved_models_load_without_keras_gcp_and_have_the_value_that_is_reported(
    trained, without_keras_gcp, tmp_path
):
    frontier, *_ = trained
    x, y = data(seed=1)
    np.savez(tmp_path / "examples.npz", x=x, y=y)
    printed = without_keras_gcp(
        """
import json, keras, numpy
examples = numpy.load("examples.npz")
found = []
for path in sys.argv[1:]:
    model = keras.models.load_model(path)
    outputs = keras.ops.convert_to_numpy(model(examples["x"]))
    accuracy = (outputs.argmax(-1) == examples["y"]).mean()
    found.append([float(accuracy), model.count_params()])
print(json.dumps(found))
""",
        *(point.path for point in frontier.points),
    )
    expected = [[point.value, point.parameters] for point in frontier.points]
    np.testing.assert_allclose(json.loads(printed.splitlines()[-1]), expected, atol=1e-6)


def test_the_last_model_is_the_one_that_was_trained(trained):
    frontier, model, *_ = trained
    last = keras.models.load_model(frontier.points[-1].path)
    for saved, own in zip(last.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(saved, own)


def test_a_frontier_is_read_again_from_its_folder(trained):
    frontier, *_ = trained
    assert Frontier.load(frontier.points[0].path.parent) == frontier
    assert json.dumps(frontier.to_dict())


def test_a_folder_that_holds_a_frontier_is_refused_before_training(trained):
    frontier, *_ = trained
    model = networks.plain()
    before = model.get_weights()
    with pytest.raises(InvalidArgument, match="holds a frontier already"):
        train(model, frontier.points[0].path.parent)
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("text", [None, "", "[]", '{"format": 9}', '{"format": 1}'])
def test_a_folder_without_a_frontier_is_refused(text, tmp_path):
    if text is not None:
        (tmp_path / "frontier.json").write_text(text)
    with pytest.raises(InvalidArgument):
        Frontier.load(tmp_path)


def test_it_is_explained(trained):
    frontier, *_ = trained
    text = frontier.explain()
    for point in frontier.points:
        assert point.path.name in text and f"{point.value:.4f}" in text
        assert f"{point.share:.1%}" in text


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        x, y = data()
        return x[16 * index :][:16], y[16 * index :][:16]


def as_py_dataset():
    return Batches()


def as_tensorflow_dataset():
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(data()).batch(16)


def trained_on(source, folder):
    """The model after a short run, and the points."""
    keras.utils.set_random_seed(1)
    model = networks.plain()
    arrays = isinstance(source, tuple)
    frontier = train(
        model,
        folder,
        source,
        validation_data=source,
        budgets=[0.6],
        epochs_each=1,
        metric="loss",
        sample=data(),
        fit_options={"shuffle": False, **({"batch_size": 16} if arrays else {})},
    )
    return model, frontier


@pytest.fixture(scope="module")
def on_arrays(tmp_path_factory):
    return trained_on(data(), tmp_path_factory.mktemp("arrays") / "sizes")


@pytest.mark.parametrize(
    "make",
    [
        as_py_dataset,
        pytest.param(as_tensorflow_dataset, marks=pytest.mark.needs_tensorflow("tf.data")),
    ],
)
def test_data_sets_train_and_measure_as_arrays_do(make, on_arrays, tmp_path):
    model, frontier = trained_on(make(), tmp_path / "sizes")
    assert [point.epochs for point in frontier.points] == [0, 1]
    for one, other in zip(frontier.points, on_arrays[1].points, strict=True):
        assert one.value == pytest.approx(other.value, rel=1e-4)
    for one, other in zip(model.get_weights(), on_arrays[0].get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_budgets_that_are_close_together_have_points_of_their_own(tmp_path):
    options = {"budgets": [0.7, 0.69], "resource": "channels", "epochs_each": 1}
    frontier = train(networks.plain(), tmp_path / "sizes", **options, selection={"floor": 1})
    assert [point.share for point in frontier.points] == [1.0, 0.7, 0.65]  # of 20 channels


def test_a_frontier_counts_any_resource(tmp_path):
    resource = "peak_activation_bytes"
    options = {"budgets": [0.7], "resource": resource, "epochs_each": 1, "selection": {"floor": 1}}
    frontier = train(networks.residual(), tmp_path / "sizes", **options)

    def peak(model):
        return count_map(trace(model), resources.counted([resource])).cost(resource)

    wide, narrow = (peak(keras.models.load_model(point.path)) for point in frontier.points)
    assert [point.share for point in frontier.points] == [1.0, narrow / wide]
    assert narrow / wide <= 0.7


class Stop(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = epoch == 1


def test_a_training_that_ends_early_has_the_points_that_it_reached_and_says_so(tmp_path):
    with (
        pytest.warns(UserWarning, match=r"no points for the budgets \[0.4\]"),
        pytest.warns(UserWarning, match="budget is not met: macs"),
    ):
        frontier = train(networks.plain(), tmp_path / "sizes", callbacks=[Stop()])
    assert [point.budget for point in frontier.points] == [1.0, 0.7]
    assert Frontier.load(tmp_path / "sizes") == frontier


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budgets": []}, "`budgets` expects"),
        ({"budgets": [0.5, 0.5]}, "`budgets` expects"),
        ({"budgets": [1.0]}, "`budgets` expects"),
        ({"budgets": 0.5}, "`budgets` expects"),
        ({"epochs_each": 0}, "`epochs_each` expects"),
        ({"epochs_before": 1.5}, "`epochs_before` expects"),
        ({"resource": "euro"}, "`resource` expects"),
        ({"fit_options": {"epochs": 3}}, "`fit_options` has"),
        ({"metric": "no_such"}, "no metric 'no_such'"),
        ({"validation_data": (np.zeros((4, 5)), np.zeros(4))}, "does not fit model"),
    ],
    ids=str,
)
def test_bad_arguments_are_refused_before_training(options, message, tmp_path):
    with pytest.raises(InvalidArgument, match=message):
        train(networks.plain(), tmp_path / "sizes", **options)
    assert not (tmp_path / "sizes").exists()


def test_a_model_that_cannot_be_trained_or_saved_is_refused_before_training(tmp_path):
    with pytest.raises(InvalidArgument, match="is not compiled"):
        keras_gcp.frontier(networks.plain(), data(), data(), tmp_path / "sizes")

    class Forgetful(keras.layers.Layer):
        def __init__(self, scale):
            super().__init__()
            self.scale = scale

        def call(self, x):
            return x * self.scale

        def get_config(self):
            return {}

    inputs = keras.Input((8, 8, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(8, 3)(Forgetful(2.0)(inputs)))
    with pytest.raises(UnsupportedModel, match="cannot be copied"):
        train(keras.Model(inputs, keras.layers.Dense(4)(x)), tmp_path / "sizes")


def test_budgets_that_cannot_be_met_leave_no_folder_behind(tmp_path):
    with pytest.raises(ImpossibleBudget):
        train(networks.plain(), tmp_path / "sizes", budgets=[0.001])
    assert not (tmp_path / "sizes").exists()


def frontier_of(*pairs, higher=True):
    points = (
        FrontierPoint(share, share, 100, 10, value, 1, Path(f"{share}.keras"))
        for share, value in pairs
    )
    return Frontier("metric", higher, "macs", tuple(points))


def test_the_best_point_is_the_smallest_near_the_top_of_the_curve():
    falling = frontier_of((1.0, 0.90), (0.6, 0.91), (0.4, 0.905), (0.2, 0.85))
    assert falling.best(within=0.0).share == 0.6
    assert falling.best(within=0.01).share == 0.4
    assert falling.best(within=0.1).share == 0.2
    loss = frontier_of((1.0, 0.30), (0.6, 0.31), (0.2, 0.9), higher=False)
    assert loss.best(within=0.02).share == 0.6


@pytest.mark.parametrize("within", [-0.1, None, True, float("nan")])
def test_a_negative_distance_is_refused(within):
    with pytest.raises(InvalidArgument, match="`within` expects"):
        frontier_of((1.0, 0.9)).best(within)
