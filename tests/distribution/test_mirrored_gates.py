"""Consensus gates under MirroredStrategy: one decision, cut on both devices."""

import numpy as np
import pytest
from distribution.launch import needs, run

pytestmark = [needs("tensorflow"), pytest.mark.slow]


@pytest.fixture(scope="module")
def facts():
    return run("mirrored_gates.py", KERAS_BACKEND="tensorflow")


def test_the_gates_close_channels_and_the_losses_stay_finite(facts):
    shares = facts["history"]["gates_open"]
    assert shares[0] == 1.0 > shares[-1]
    assert facts["removed"] > 0
    assert np.isfinite(facts["history"]["loss"]).all()


@pytest.mark.parametrize("kind", ["weights", "slots"])
def test_variables_after_the_freeze_live_on_both_devices_and_agree(facts, kind):
    assert facts[kind] == {"strategies": [facts["strategy"]], "counts": [2], "difference": 0.0}


def test_slots_have_the_shapes_of_the_narrow_weights(facts):
    assert facts["shapes_agree"]


def test_what_is_left_without_gates_is_the_frozen_network(facts):
    assert facts["plain_difference"] < 1e-6
    assert facts["plain_channels"] == facts["planned_channels"]
