"""A pruned model goes through tfmot and comes out smaller, and as what it says it is."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keras_gcp
from keras_gcp.errors import InvalidArgument, UnsupportedModel
from keras_gcp.exporting.runtime import tensor_types
from keras_gcp.tfmot import cluster, layers, quantize_aware, sparsify
from keras_gcp.tfmot.sparse import nonzeros_in_four

pytestmark = [pytest.mark.needs_tfmot, pytest.mark.slow]


@pytest.fixture
def pruned(trained):
    """Half the MACs, compiled like the original."""
    narrow = keras_gcp.prune(trained, {"macs": 0.5}, selection={"align": 1})
    narrow.compile(
        keras.optimizers.SGD(1e-3, momentum=0.9),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return narrow


def fit(tuned, data, **options):
    return tuned.fit(*data, verbose=0, batch_size=8, **options).history


def kernels(model):
    return {
        layer.name: np.asarray(layer.get_weights()[0])
        for layer in model.layers
        if type(layer).__name__ in layers.SPARSIFIED
    }


def test_a_pruned_model_trains_for_rounding_and_becomes_a_file_of_integers(pruned, data, tmp_path):
    before = [np.array(w) for w in pruned.get_weights()]
    tuned = quantize_aware(pruned)
    with pytest.raises(InvalidArgument, match="not learnt the ranges.*Call `fit`"):
        tuned.export(tmp_path)
    history = fit(tuned, data)
    assert float(tuned.model.optimizer.learning_rate) == pytest.approx(1e-3)
    assert "accuracy" in history
    file = tuned.export(tmp_path, sample=data[0])
    assert tensor_types(file.path) <= {"INT8", "INT32"}
    assert (file.measure, file.compared_on, file.examples) == ("relative rms", "sample", 32)
    (plain,) = keras_gcp.export(pruned, tmp_path, ["tflite"])
    assert file.bytes < plain.bytes
    for now, then in zip(pruned.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)
    returned = tuned.to_keras()
    assert returned.count_params() == pruned.count_params()
    np.testing.assert_allclose(
        returned.predict(data[0], verbose=0), tuned.predict(data[0], verbose=0), atol=0.05
    )
    changed = [
        not np.array_equal(a, b) for a, b in zip(returned.get_weights(), before, strict=True)
    ]
    assert all(changed)


def test_a_pruned_model_gets_two_zeros_in_four_and_keeps_them_in_keras_3(pruned, data, tmp_path):
    tuned = sparsify(pruned, "2:4")
    fit(tuned, data)
    stripped, returned = tuned.strip(), tuned.to_keras()
    assert [layer.name for layer in stripped.layers] == [layer.name for layer in pruned.layers]
    for name, kernel in kernels(returned).items():
        assert nonzeros_in_four(kernel).max() == 2, name
        np.testing.assert_array_equal(kernel, stripped.get_layer(name).get_weights()[0])
    assert (returned.get_layer("depthwise").get_weights()[0] != 0).all()
    assert returned.count_params() == pruned.count_params() < 1100
    returned.save(tmp_path / "sparse.keras")
    again = keras.models.load_model(tmp_path / "sparse.keras")
    assert {n: int((k == 0).sum()) for n, k in kernels(again).items()} == {
        n: int((k == 0).sum()) for n, k in kernels(returned).items()
    }
    fit(tuned, data)
    assert all(nonzeros_in_four(k).max() == 2 for k in kernels(tuned.to_keras()).values())


def test_a_share_of_zeros_is_reached_in_the_first_training_and_stored_sparsely(
    pruned, data, tmp_path
):
    tuned = sparsify(pruned, 0.75)
    fit(tuned, data, epochs=3)
    assert set(tuned.zeros()) == set(kernels(pruned))
    for path, share in tuned.zeros().items():
        assert share == pytest.approx(0.75, abs=0.03), path
    file = tuned.export(tmp_path, sample=data[0])
    assert "DENSIFY" in file.operators and file.format == "tflite"


def test_a_training_that_ended_early_is_noticed_and_goes_on(pruned, data):
    tuned = sparsify(pruned, 0.75)
    k2 = tuned.over.packages.tf_keras

    class Stop(k2.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = True

    fit(tuned, data, epochs=3, callbacks=[Stop()])
    with pytest.raises(InvalidArgument, match=r"before all zeros were there: wanted 0.75"):
        tuned.to_keras()
    fit(tuned, data, epochs=3)
    assert min(tuned.zeros().values()) > 0.7
    tuned.to_keras()


def test_kernels_share_a_few_values_also_after_training(pruned, data, tmp_path):
    tuned = cluster(pruned, 6)
    fit(tuned, data)
    returned = tuned.to_keras()
    for name, kernel in kernels(returned).items():
        assert np.unique(kernel).size <= 6, name
    assert max(tuned.values().values()) <= 6
    fit(tuned, data)
    assert max(tuned.values().values()) <= 6
    file = tuned.export(tmp_path, sample=data[0])
    assert file.max_difference < 1e-4


def test_several_inputs_and_data_sets_are_taken_as_keras_3_takes_them():
    import networks
    import tensorflow as tf

    model = networks.siamese()
    rng = np.random.default_rng(0)
    x = {name: rng.random((16, 8, 8, 3)).astype("float32") for name in ("right", "left")}
    y = np.arange(16) % 2
    tuned = sparsify(model, 0.5)
    tuned.compile("sparse_categorical_crossentropy", "sgd", 0.01, ["accuracy"])
    np.testing.assert_allclose(
        tuned.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-4, atol=1e-6
    )
    rows = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
    with pytest.raises(InvalidArgument, match="steps_per_epoch"):
        tuned.fit(rows.filter(lambda *row: True))
    tuned.fit(rows, epochs=2, verbose=0, validation_data=(x, y))
    assert min(tuned.zeros().values()) > 0.45
    loss, accuracy = tuned.evaluate(x, y, verbose=0)
    assert np.isfinite(loss) and 0 <= accuracy <= 1


def test_what_belongs_to_keras_3_is_refused_in_its_training(pruned, data):
    tuned = cluster(pruned, 4)

    class Rows(keras.utils.PyDataset):
        def __len__(self):
            return 1

        def __getitem__(self, index):
            return data

    with pytest.raises(InvalidArgument, match="PyDataset"):
        tuned.fit(Rows())
    with pytest.raises(InvalidArgument, match="EarlyStopping of Keras 3"):
        fit(tuned, data, callbacks=[keras.callbacks.EarlyStopping()])


def test_what_the_converter_cannot_do_in_integers_is_said(pruned, data, tmp_path, monkeypatch):
    tuned = quantize_aware(pruned)
    fit(tuned, data)
    monkeypatch.setattr(type(tuned), "file_kind", "tflite")  # The ranges stay unused: floats.
    with pytest.raises(UnsupportedModel, match="FLOAT32"):
        tuned.export(tmp_path, sample=data[0])
    assert list(tmp_path.iterdir()) == []
