"""Two JAX processes with two devices each train one model: they decide, cut and fail together."""

import numpy as np
import pytest
from distribution.launch import jax_processes, needs, run_processes

pytestmark = [needs("jax"), pytest.mark.slow]

CRITERIA = ["feature_relevance", "random", "distilled"]


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared") / "backups"
    return run_processes("jax_processes.py", jax_processes(), folder)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_processes_with_samples_and_seeds_of_their_own_cut_the_same_channels(facts, criterion):
    first, second = (one[criterion] for one in facts)
    assert first["kept"] == second["kept"]
    assert first["widths"]["a"] + first["widths"]["b"] <= 0.6 * 20
    assert first["loss_before"] == second["loss_before"]
    assert first["accuracies"] == second["accuracies"]


@pytest.mark.parametrize("criterion", CRITERIA)
def test_processes_hold_the_same_weights_and_slots_after_the_cuts(facts, criterion):
    first, second = (one[criterion] for one in facts)
    assert first["numbers"] == second["numbers"]
    assert first["devices"] == second["devices"] == [4]


@pytest.mark.parametrize("criterion", CRITERIA)
def test_processes_report_the_same_losses(facts, criterion):
    first, second = (one[criterion] for one in facts)
    assert first["history"] == second["history"]
    assert np.isfinite(first["history"]["val_loss"]).all()


def test_scores_are_the_mean_over_processes_weighted_by_their_examples(facts):
    first, second = (one["scores"] for one in facts)
    assert first["shared"] == second["shared"]
    np.testing.assert_allclose(first["shared"], first["by_hand"], rtol=1e-5)


@pytest.mark.parametrize("stage", ["score", "verify"])
def test_an_event_that_fails_in_one_process_is_taken_back_in_all(facts, stage):
    first, second = (one[f"failing_{stage}"] for one in facts)
    assert first["error"][0] == "ReplicasDisagree" and "process 1" in first["error"][1]
    assert second["error"][0] == "VerificationFailed" and "broken" in second["error"][1]
    for one in (first, second):
        assert one["taken_back"] and one["width"] == 8
    assert first["further"] == second["further"]


def test_an_event_that_fails_in_one_process_is_skipped_in_all_and_made_up_for(facts):
    first, second = (one["skipped"] for one in facts)
    assert "ReplicasDisagree" in first["skipped"][0]
    assert "VerificationFailed" in second["skipped"][0]
    for one in (first, second):
        assert len(one["skipped"]) == one["events"] == 1
        assert sum(map(len, one["kept"].values())) <= 0.6 * 20
    assert first["kept"] == second["kept"]
    assert first["numbers"] == second["numbers"]
    assert first["history"] == second["history"]


def test_a_sample_that_one_process_cannot_use_stops_all_before_training(facts):
    first, second = (one["bad_sample"] for one in facts)
    assert first[0] == "ReplicasDisagree" and "process 1" in first[1]
    assert second[0] == "InvalidArgument" and "NaN" in second[1]


def test_processes_choose_one_criterion_or_none(facts):
    for one in facts:
        error = one["other_criteria"]["error"]
        assert error[0] == "ReplicasDisagree" and "criteria that apply to their samples" in error[1]
        assert one["other_criteria"]["criterion"] == "feature_relevance"


def test_plans_that_differ_are_applied_nowhere(facts):
    for one in facts:
        error, width = one["other_plans"]["error"], one["other_plans"]["width"]
        assert error[0] == "ReplicasDisagree" and "plans" in error[1]
        assert width == 8


def test_a_training_broken_off_in_all_processes_goes_on_from_one_backup(facts):
    first, second = (one["resumed"] for one in facts)
    assert first["written"] == ["backup-000002.zip", "backup-000003.zip"]
    assert first["events"] == second["events"] == 2
    for name in ("kept", "numbers", "seed"):
        assert first[name] == second[name]
