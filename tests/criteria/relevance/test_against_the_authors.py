"""Scores printed by the authors' own program for a VGG-16, where that file is at hand.

The file is not part of the repository. It is looked for in the folder that the environment
variable KERAS_GCP_REFERENCE names, or beside the checkout.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from keras_gcp.criteria import relevance_scores

_CHECKOUT = Path(__file__).resolve().parents[3]
FOLDER = Path(os.environ.get("KERAS_GCP_REFERENCE", _CHECKOUT.parent / "shared" / "reference"))
POOL = "M"
WIDTHS = [64, 64, POOL, 128, 128, POOL, 256, 256, 256, POOL, 512, 512, 512, POOL]
WIDTHS += [512, 512, 512, POOL]

pytestmark = pytest.mark.skipif(
    not (FOLDER / "frs_vgg16.npz").is_file(), reason=f"no reference scores in '{FOLDER.name}'"
)


def _draw(seed, shape, kind):
    """The recipe by which the authors' program got its weights."""
    rng = np.random.default_rng(seed)
    if kind in ("conv", "linear"):
        values = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
    elif kind in ("bn_gamma", "bn_var"):
        values = rng.uniform(0.5, 1.5, shape)
    else:
        values = rng.standard_normal(shape) * 0.1
    return values.astype("float32")


def _vgg16(weights):
    """Layers are called like the modules of the authors' network."""
    model = keras.Sequential([keras.Input((32, 32, 3))])

    def add(layer, *names):
        model.add(layer)
        arrays = [weights[name] for name in names]
        layer.set_weights([a.transpose(2, 3, 1, 0) if a.ndim == 4 else a for a in arrays])

    index = 0
    for width in WIDTHS:
        if width == POOL:
            model.add(layers.MaxPooling2D())
            index += 1
            continue
        conv = layers.Conv2D(width, 3, padding="same", use_bias=False, name=f"features_{index}")
        add(conv, f"features.{index}.weight")
        names = [f"features.{index + 1}.{n}" for n in ("weight", "bias", "running_mean")]
        add(layers.BatchNormalization(epsilon=1e-5), *names, f"features.{index + 1}.running_var")
        model.add(layers.ReLU())
        index += 3
    model.add(layers.Flatten())
    for name, width, activation in (("classifier.0", 512, "relu"), ("classifier.3", 10, None)):
        weights[f"{name}.kernel"] = weights[f"{name}.weight"].T
        dense = layers.Dense(width, activation=activation, name=name.replace(".", "_"))
        add(dense, f"{name}.kernel", f"{name}.bias")
    return model


def test_scores_are_those_of_the_authors_program():
    reference = np.load(FOLDER / "frs_vgg16.npz")
    recipe = json.loads((FOLDER / "frs_vgg16_weights.json").read_text())
    model = _vgg16({name: _draw(seed, shape, kind) for seed, name, shape, kind in recipe})
    images = np.random.default_rng(12345).standard_normal((40, 3, 32, 32)).astype("float32")
    images = images.transpose(0, 2, 3, 1)
    np.testing.assert_allclose(
        model.predict(images, verbose=0), reference["logits"], rtol=1e-4, atol=1e-3
    )
    scores = relevance_scores(model, images, np.arange(40) % 10, reference["scale"], batch_size=16)
    compared = {
        name: np.abs(scores[name.split()[0].replace(".", "_")] - reference[name]).max()
        for name in reference.files
        if name.startswith(("features", "classifier"))
    }
    assert len(compared) == 12
    assert max(compared.values()) < 1e-5, compared
