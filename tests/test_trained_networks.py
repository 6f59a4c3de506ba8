"""Networks that others have trained (MLPerf Tiny), on patches of real photographs.

The files are not part of the repository. They are looked for in the folder that the environment
variable KERAS_GCP_TRAINED names, else in `shared/models` beside the checkout.
"""

from __future__ import annotations

import os
from pathlib import Path

import keras
import numpy as np
import pytest
from helpers import flat_outputs, load_trained, masked_by_hand

import keras_gcp
from keras_gcp.criteria.relevance import conservation_report

_CHECKOUT = Path(__file__).resolve().parents[1]
FOLDER = Path(os.environ.get("KERAS_GCP_TRAINED", _CHECKOUT.parent / "shared" / "models"))
FILES = ("resnet8_cifar10.h5", "vww_96.h5")

pytestmark = [
    pytest.mark.skipif(
        not all((FOLDER / file).is_file() for file in FILES), reason="no trained networks at hand"
    ),
    pytest.mark.parametrize("file", FILES),
]


def photographs(size, count=24):
    """Patches, of full contrast and with the pixel values that the network was trained on."""
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(0)
    patches = []
    for place in range(count):
        image = load_sample_images().images[place % 2]
        row, column = (rng.integers(0, n - 2 * size) for n in image.shape[:2])
        patches.append(image[row : row + 2 * size : 2, column : column + 2 * size : 2])
    return np.stack(patches).astype("float32")


@pytest.fixture
def images(file):
    return photographs(32 if "cifar10" in file else 96)


def test_half_of_it_computes_what_the_masked_network_computes(file, images):
    model = load_trained(FOLDER / file)
    model.layers[-1].activation = keras.activations.linear  # a saturated softmax hides differences
    plan = keras_gcp.plan(model, {"macs": 0.5})
    narrow = keras_gcp.apply(model, plan)
    assert keras_gcp.count(narrow).macs <= 0.5 * keras_gcp.count(model).macs
    (masked,), (actual,) = masked_by_hand(model, plan, images), flat_outputs(narrow, [images])
    (dense,) = flat_outputs(model, [images])
    scale = np.abs(masked).max()
    assert np.abs(masked - dense).max() > 0.01 * scale, "the removed channels matter"
    np.testing.assert_allclose(actual, masked, rtol=0, atol=1e-5 * scale)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The sample has no example of:UserWarning")  # few images
def test_it_trains_on_behind_a_cut_by_relevance(file, images):
    model = load_trained(FOLDER / file)
    labels = model.predict(images, verbose=0).argmax(axis=1)
    model.compile("adam", "sparse_categorical_crossentropy")
    pruning = keras_gcp.GradualChannelPruning(
        (images, labels), {"macs": 0.6}, keras_gcp.schedules.one_shot(1), verbose=0
    )
    history = model.fit(images, labels, epochs=3, verbose=0, callbacks=[pruning]).history
    assert history["macs_left"][0] == 1 and history["macs_left"][-1] <= 0.6
    assert np.isfinite(history["loss"]).all()


def test_relevance_does_not_explode(file, images):
    model = load_trained(FOLDER / file)
    labels = model.predict(images, verbose=0).argmax(axis=1)
    report = conservation_report(model, images, labels)
    assert max(found.peak for found in report.values()) < 10
    assert all(0.4 < found.total < 2 for found in report.values())
