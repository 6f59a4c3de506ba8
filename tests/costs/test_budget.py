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


@pytest.mark.parametrize("share", [0, 1, 1.0, 1.5, -0.1, 50, True, None, float("nan")])
def test_shares_outside_0_and_1_are_refused_with_the_value(share):
    with pytest.raises(InvalidArgument, match="between 0 and 1") as error:
        Budget.parse({"macs": share})
    assert repr(share) in str(error.value)


@pytest.mark.parametrize(
    ("resource", "text", "limit"),
    [
        ("macs", "45%", 0.45),
        ("macs", "45 %", 0.45),
        ("macs", "0.45", 0.45),
        ("macs", ".45", 0.45),
        ("macs", "2.5e7", absolute(25e6)),
        ("parameters", "60k", absolute(60e3)),
        ("channels", "40", absolute(40)),
        ("tflite_bytes_int8", "250kB", absolute(250_000)),
        ("peak_activation_bytes", "64 KiB", absolute(65_536)),
        ("latency_ms", "0.5", 0.5),
        ("latency_ms", "12", absolute(12)),
        ("latency_ms", "0.5ms", absolute(0.5)),
        ("latency_ms", "500us", absolute(0.5)),
    ],
)
def test_texts_mean_shares_below_one_and_with_a_percent_sign_else_amounts(resource, text, limit):
    assert Budget.parse({resource: text}) == Budget.parse({resource: limit})


@pytest.mark.parametrize("text", ["", "half", "45 percent", "1,5M", "20MB", "5%%", "nan", "inf"])
def test_texts_that_cannot_be_read_are_refused_with_examples(text):
    with pytest.raises(
        InvalidArgument, match=r"such as '50%'.*'20M' \(units: k, M, G, T\)"
    ) as error:
        Budget.parse({"macs": text})
    assert repr(text) in str(error.value)


@pytest.mark.parametrize("text", ["0", "0%", "100%", "120%", "-5%", "-0.5", "-3k"])
def test_texts_that_leave_nothing_or_everything_are_refused(text):
    with pytest.raises(InvalidArgument, match="between 0 % and 100 %|more than nothing"):
        Budget.parse({"macs": text})


@pytest.mark.parametrize("resource", ["macs", "parameters", "channels", "tflite_bytes"])
def test_less_than_one_is_never_a_count(resource):
    with pytest.raises(InvalidArgument, match=r"less than one.*share is a plain number.*0\.45"):
        Budget.parse({resource: absolute(0.45)})
    assert Budget.parse({"latency_ms": absolute(0.45)}).limits == {"latency_ms": absolute(0.45)}


def test_an_unknown_resource_is_refused_with_the_known_ones():
    with pytest.raises(InvalidArgument, match="'flops'.*'macs', 'parameters', 'channels'"):
        Budget.parse({"flops": 0.5})


@pytest.mark.parametrize("value", [0, -5, float("inf"), True, "20e6"])
def test_absolute_refuses_what_is_no_positive_number(value):
    with pytest.raises(InvalidArgument, match="positive number"):
        absolute(value)
