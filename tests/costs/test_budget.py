"""Budgets: what may remain."""

import pytest

from keras_gcp.costs.budget import Budget, absolute
from keras_gcp.errors import InvalidArgument

ORIGINAL = {"macs": 1000, "parameters": 200, "channels": 50}


def test_limits_go_linearly_from_the_original_to_the_budget():
    budget = Budget.parse({"macs": 0.4})
    assert budget.limits_at(ORIGINAL, 0.0) == {"macs": 1000}
    assert budget.limits_at(ORIGINAL, 0.5) == {"macs": 700}
    assert budget.limits_at(ORIGINAL, 1.0) == {"macs": 400}


def test_absolute_counts_are_taken_as_they_are():
    assert Budget.parse({"macs": absolute(250)}).limits_at(ORIGINAL) == {"macs": 250}


def test_several_entries_all_become_limits():
    assert Budget.parse({"macs": 0.5, "channels": absolute(20)}).limits_at(ORIGINAL) == {
        "macs": 500,
        "channels": 20,
    }


@pytest.mark.parametrize("budget", [None, 0.5, {}, [("macs", 0.5)]])
def test_anything_but_a_filled_dict_is_refused(budget):
    with pytest.raises(InvalidArgument, match="dict of what may remain"):
        Budget.parse(budget)


@pytest.mark.parametrize("share", [0, 1, 1.0, 1.5, -0.1, 50, True, "0.5", None, float("nan")])
def test_shares_outside_0_and_1_are_refused_with_the_value(share):
    with pytest.raises(InvalidArgument, match="between 0 and 1") as error:
        Budget.parse({"macs": share})
    assert repr(share) in str(error.value)


def test_an_unknown_resource_is_refused_with_the_known_ones():
    with pytest.raises(InvalidArgument, match="'flops'.*'macs', 'parameters', 'channels'"):
        Budget.parse({"flops": 0.5})


@pytest.mark.parametrize("value", [0, -5, float("inf"), True, "20e6"])
def test_absolute_refuses_what_is_no_positive_number(value):
    with pytest.raises(InvalidArgument, match="positive number"):
        absolute(value)
