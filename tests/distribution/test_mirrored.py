"""MirroredStrategy on two logical devices: the same training as on one, cut alike."""

import numpy as np
import pytest
from distribution.launch import needs, run

pytestmark = [needs("tensorflow"), pytest.mark.slow]


@pytest.fixture(scope="module", params=["feature_relevance", "l2_norm", "distilled"])
def facts(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mirrored")
    return run("mirrored.py", request.param, folder, KERAS_BACKEND="tensorflow")


def test_losses_equal_those_of_one_device_before_and_after_the_cuts(facts):
    one, two = facts["one_device"]["history"], facts["two_devices"]["history"]
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_allclose(two[name], one[name], rtol=1e-5, err_msg=name)


def test_two_devices_decide_as_one(facts):
    assert facts["two_devices"]["kept"] == facts["one_device"]["kept"]
    assert sum(map(len, facts["two_devices"]["kept"].values())) <= 0.6 * 20
    np.testing.assert_allclose(
        facts["two_devices"]["sample_losses"], facts["one_device"]["sample_losses"], rtol=1e-5
    )
    assert facts["two_devices"]["accuracies"] == facts["one_device"]["accuracies"]


@pytest.mark.parametrize("kind", ["weights", "slots"])
def test_variables_after_the_cuts_live_on_both_devices_in_the_scope_of_the_strategy(facts, kind):
    assert facts[kind] == {"strategies": [facts["strategy"]], "counts": [2], "difference": 0.0}


def test_slots_have_the_shapes_of_the_narrow_weights(facts):
    assert facts["shapes_agree"]


def test_the_narrow_model_is_saved_loaded_and_trained_on_in_the_scope(facts):
    assert facts["saved_difference"] < 1e-6
    np.testing.assert_allclose(*facts["further"], rtol=1e-6)
