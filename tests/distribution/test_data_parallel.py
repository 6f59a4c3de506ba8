"""`keras.distribution` on four virtual devices of JAX: cut as on one, shardings kept."""

import numpy as np
import pytest
from distribution.launch import jax_devices, needs, run

pytestmark = [needs("jax"), pytest.mark.slow]


@pytest.fixture(scope="module", params=["feature_relevance", "l2_norm"])
def facts(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data_parallel")
    return run("data_parallel.py", request.param, folder, **jax_devices(4))


def test_losses_equal_those_of_one_device_before_and_after_the_cuts(facts):
    one, four = facts["one_device"]["history"], facts["four_devices"]["history"]
    assert one.keys() == four.keys()
    for name in one:
        np.testing.assert_allclose(four[name], one[name], rtol=1e-5, err_msg=name)


def test_four_devices_decide_as_one(facts):
    assert facts["four_devices"]["kept"] == facts["one_device"]["kept"]
    assert sum(map(len, facts["four_devices"]["kept"].values())) <= 0.6 * 20
    np.testing.assert_allclose(
        facts["four_devices"]["sample_losses"], facts["one_device"]["sample_losses"], rtol=1e-5
    )


@pytest.mark.parametrize("kind", ["weights", "slots"])
def test_variables_after_the_cuts_are_whole_on_every_device_of_the_old_mesh(facts, kind):
    assert facts[kind] == {"on_the_mesh": True, "replicated": True, "devices": [4]}


def test_the_narrow_model_is_saved_loaded_and_trained_on(facts):
    assert facts["saved_difference"] < 1e-6
    np.testing.assert_allclose(*facts["further"], rtol=1e-6)


def test_weights_that_are_split_over_devices_are_refused_before_training():
    facts = run("model_parallel.py", **jax_devices(4))
    assert "a/kernel" in facts["refused"] and "DataParallel" in facts["refused"]
    assert facts["untouched"]
