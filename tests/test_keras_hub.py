"""Backbones of keras-hub, small, where it is installed; all: `benchmarks/zoo.py --source=hub`."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import flat_outputs, inputs_for

import keras_gcp
from keras_gcp.errors import UnsupportedModel

pytest.importorskip("keras_hub")

NAMES = [
    "resnet_18_vd",
    "mobilenet_v3_small_050",
    "efficientnet_b0",
    "csp_resnext_50",
    "hgnet_v2_b0",
]


@pytest.mark.parametrize("name", [*NAMES, "mobilenet_v5_300m_style", "retinanet_resnet_18"])
def test_a_flat_backbone_is_the_same_and_prunes_to_half(name, tmp_path):
    import keras

    from benchmarks.hub_networks import NETWORKS

    model = NETWORKS[name]()
    flat = keras_gcp.flatten(model)
    inputs = inputs_for(model, 2)
    for a, b in zip(flat_outputs(flat, inputs), flat_outputs(model, inputs), strict=True):
        np.testing.assert_array_equal(a, b)
    narrow = keras_gcp.prune(flat, {"macs": 0.5})
    assert keras_gcp.count(narrow).macs <= 0.5 * keras_gcp.count(flat).macs
    narrow.save(tmp_path / "narrow.keras")
    loaded = keras.models.load_model(tmp_path / "narrow.keras")
    for a, b in zip(flat_outputs(loaded, inputs), flat_outputs(narrow, inputs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_a_backbone_that_hides_its_convolutions_is_refused_with_the_call_to_make():
    from benchmarks.hub_networks import NETWORKS

    with pytest.raises(UnsupportedModel, match=r"keras_gcp\.flatten\(model\)"):
        keras_gcp.plan(NETWORKS["mobilenet_v3_small_050"](), {"macs": 0.5})
