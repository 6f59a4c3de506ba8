"""What processes agree on, with the exchange between them played by arrays."""

import hashlib

import numpy as np
import pytest

from keras_gcp.backend import collectives
from keras_gcp.errors import InvalidArgument, ReplicasDisagree


class Model:
    name = "model"


@pytest.fixture
def processes(monkeypatch):
    """Plays this process and others: each call takes what the others send from a list."""

    def play(index, others):
        messages = iter(others)

        def gather_rows(model, row):
            sent = [np.concatenate([[i], message]) for i, message in next(messages).items()]
            return np.stack([*sent, row, row]).astype(np.int32)  # two devices in this process

        count = 1 + len(others[0]) if others else 1
        monkeypatch.setattr(collectives, "process_count", lambda model: count)
        monkeypatch.setattr(collectives, "process_index", lambda model: index)
        monkeypatch.setattr(collectives, "gather_rows", gather_rows)

    return play


def digest(text):
    return np.frombuffer(hashlib.sha256(text.encode()).digest(), np.int32)


def numbers(*values):
    return np.array(values, np.float64).view(np.int32)


def test_one_process_exchanges_nothing(processes):
    processes(0, [])
    values = {"a": np.array([1.0, 2.0])}
    assert collectives.mean_over_processes(Model(), values, 3) is values
    assert collectives.run_everywhere(Model(), lambda: 7) == 7
    collectives.assert_equal(Model(), "plans", "text")


def test_scores_are_averaged_by_weight_and_every_process_counts_once(processes):
    shapes = digest(repr({"a": (1,), "b": (2,)}))
    processes(1, [{0: shapes}, {0: numbers(3, 10, 20, 1e-30)}])
    mean = collectives.mean_over_processes(
        Model(), {"b": np.array([4.0, 1.0]), "a": np.array([2.0])}, 1
    )
    np.testing.assert_allclose(mean["a"], [8.0])
    np.testing.assert_allclose(mean["b"], [16.0, 0.25])


def test_processes_that_have_nothing_to_average_agree_on_that(processes):
    processes(1, [{0: digest(repr({}))}, {0: numbers(3)}])
    assert collectives.mean_over_processes(Model(), {}, 1) == {}


def test_averages_keep_every_bit_of_double_precision(processes):
    third = 1 / 3
    processes(1, [{0: digest(repr({"a": (1,)}))}, {0: numbers(1, third)}])
    assert collectives.mean_over_processes(Model(), {"a": np.array([third])}, 1)["a"][0] == third


def test_scores_of_other_layers_are_refused(processes):
    processes(1, [{0: digest(repr({"a": (1,)}))}])
    with pytest.raises(ReplicasDisagree, match="the layers that are scored"):
        collectives.mean_over_processes(Model(), {"b": np.array([2.0])}, 1)


def test_different_texts_are_refused_and_the_process_is_named(processes):
    processes(0, [{1: digest("text"), 2: digest("other")}])
    with pytest.raises(ReplicasDisagree, match="their plans: process 2 from process 0"):
        collectives.assert_equal(Model(), "their plans", "text")


def test_a_failure_elsewhere_fails_here(processes):
    processes(0, [{1: [1], 2: [0]}])
    with pytest.raises(
        ReplicasDisagree, match=r"process 1 and was taken back in this one \(0 of 3"
    ):
        collectives.run_everywhere(Model(), lambda: 7)


def test_an_own_failure_is_told_to_the_others_and_raised(processes):
    processes(0, [{1: [0]}])

    def work():
        raise InvalidArgument("mine")

    with pytest.raises(InvalidArgument, match="mine"):
        collectives.run_everywhere(Model(), work)
