"""MultiWorkerMirroredStrategy with two processes: `fit` is refused, loops of one's own work."""

import pytest
from distribution.launch import needs, run_processes, tensorflow_workers

pytestmark = [needs("tensorflow"), pytest.mark.slow]


@pytest.fixture(scope="module")
def facts():
    return run_processes("tensorflow_workers.py", tensorflow_workers())


def test_fit_of_keras_itself_does_not_run_there(facts):
    """Should this fail, Keras has learnt it: prune there, and lift the refusal."""
    for one in facts:
        assert one["keras_fit"] is not None and "PerReplica" in one["keras_fit"][1]


def test_pruning_refuses_before_training_and_says_what_to_take(facts):
    for one in facts:
        kind, message = one["refused"]
        assert kind == "UnsupportedModel"
        assert "MultiWorkerMirroredStrategy of 2 processes" in message and "JAX" in message


def test_workers_with_samples_of_their_own_cut_the_same_channels_in_their_own_loop(facts):
    first, second = (one["own_loop"] for one in facts)
    assert first["kept"] == second["kept"]
    assert len(first["kept"]["a"]) + len(first["kept"]["b"]) <= 0.6 * 20


def test_workers_train_on_in_step_in_the_scope_of_the_strategy(facts):
    first, second = (one["own_loop"] for one in facts)
    assert first["in_scope"] and second["in_scope"]
    assert first["losses"] == second["losses"]
    assert first["numbers"] == second["numbers"]
