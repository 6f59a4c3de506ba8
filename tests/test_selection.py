"""Selection: the budget is met, and no removed block could be put back."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_gcp.costs import Ledger, Meter, Products, Slopes
from keras_gcp.errors import ImpossibleBudget, InvalidArgument
from keras_gcp.selection import Candidates, allowed_widths, check_align, check_floor, select


def chain(widths, multiplicity=1, seed=0):
    """Groups and costs of a chain of 3x3 convolutions: image -> widths... -> 10 classes."""
    groups = [
        Candidates(f"g{i}", np.random.default_rng((seed, i)).random(w), multiplicity, w)
        for i, w in enumerate(widths)
    ]
    count = len(widths)
    slopes = Slopes(np.arange(2 * count), np.repeat(np.arange(count), 2), np.ones(2 * count))
    fixed = np.zeros(2 * count)
    # Axis 2i is the output of convolution i, axis 2i + 1 the input of what follows it.
    terms = [(9 * 3, (0,))]
    terms += [(9, (2 * i + 1, 2 * i + 2)) for i in range(count - 1)]
    terms += [(10, (2 * count - 1,))]
    products = Products.of(terms, 2 * count)
    ledger = Ledger(
        fixed,
        slopes,
        {"macs": products, "parameters": products},
        {"macs": 0, "parameters": 5},
        np.ones(count, int),
    )
    return groups, ledger


def full(groups):
    return np.array([len(group.scores) for group in groups])


def counts(keeps):
    return np.array([keep.sum() for keep in keeps])


networks = st.lists(st.integers(1, 40), min_size=1, max_size=5)


@given(networks, st.floats(0.05, 0.99), st.sampled_from([1, 3, 8, "auto"]), st.integers(0, 99))
def test_budget_is_met_and_putting_back_any_block_breaks_it(widths, share, align, seed):
    groups, ledger = chain(widths, seed=seed)
    limits = {"macs": share * ledger.cost("macs", full(groups))}
    try:
        keeps = select(groups, ledger, limits, align, 1)
    except ImpossibleBudget:
        least = np.array([allowed_widths(group, align, 1)[-1] for group in groups])
        assert ledger.cost("macs", least) > limits["macs"]
        return
    kept = counts(keeps)
    assert ledger.cost("macs", kept) <= limits["macs"]
    for i, group in enumerate(groups):
        larger = [w for w in allowed_widths(group, align, 1) if w > kept[i]]
        if larger:
            trial = kept.copy()
            trial[i] = larger[-1]
            assert ledger.cost("macs", trial) > limits["macs"]


@given(networks, st.floats(0.2, 0.9), st.sampled_from([2, 4, 8]), st.integers(0, 99))
def test_widths_are_aligned_or_untouched_and_respect_the_floor(widths, share, align, seed):
    groups, ledger = chain(widths, seed=seed)
    limits = {"channels": share * sum(widths)}
    try:
        keeps = select(groups, ledger, limits, align, 0.25)
    except ImpossibleBudget:
        return
    for group, keep in zip(groups, keeps, strict=True):
        assert keep.sum() % align == 0 or keep.all()
        assert keep.sum() >= 0.25 * len(group.scores)


@given(networks, st.floats(0.2, 0.9), st.integers(0, 99))
def test_a_group_keeps_its_best_channels(widths, share, seed):
    groups, ledger = chain(widths, seed=seed)
    try:
        keeps = select(groups, ledger, {"channels": share * sum(widths)}, 1, 1)
    except ImpossibleBudget:
        return
    for group, keep in zip(groups, keeps, strict=True):
        if not keep.all():
            assert group.scores[keep].min() >= group.scores[~keep].max()


@given(st.lists(st.integers(2, 5), min_size=1, max_size=3), st.integers(0, 30))
def test_a_channel_budget_keeps_as_much_score_as_any_plan_can(widths, seed):
    groups, ledger = chain(widths, seed=seed)
    limit = max(len(widths), sum(widths) // 2)
    keeps = select(groups, ledger, {"channels": limit}, 1, 1)
    ours = sum(group.scores[keep].sum() for group, keep in zip(groups, keeps, strict=True))
    best = max(
        sum(np.sort(g.scores)[len(g.scores) - n :].sum() for g, n in zip(groups, ns, strict=True))
        for ns in itertools.product(*(range(1, w + 1) for w in widths))
        if sum(ns) <= limit
    )
    assert ours == pytest.approx(best)


@given(networks, st.integers(0, 99))
def test_a_meter_counts_what_the_ledger_counts(widths, seed):
    _, ledger = chain(widths, seed=seed)
    rng = np.random.default_rng(seed)
    kept = np.ones(len(widths), int)
    for _ in range(10):
        group, more = int(rng.integers(len(widths))), int(rng.integers(1, 9))
        grown = kept + more * (np.arange(len(widths)) == group)
        coin = str(rng.choice(["macs", "parameters", "channels"]))
        cost = ledger.cost(coin, grown)
        assert not Meter(ledger, kept, {coin: cost - 1}).grow(group, more)
        meter = Meter(ledger, kept, {coin: cost})
        assert meter.grow(group, more)
        assert not meter.grow(group, 1), "the cost after the step before is remembered"
        kept = grown


def test_a_step_that_does_not_fit_leaves_no_trace():
    _, ledger = chain([32, 32, 32])
    start = np.array([4, 4, 4])
    meter = Meter(ledger, start, {"macs": ledger.cost("macs", np.array([4, 8, 4]))})
    assert not meter.grow(0, 30)
    assert meter.grow(1, 4)
    assert not meter.grow(1, 1)


def test_every_entry_of_a_budget_holds():
    groups, ledger = chain([32, 32, 32])
    limits = {
        "macs": 0.7 * ledger.cost("macs", full(groups)),
        "channels": 0.4 * 96,
    }
    kept = counts(select(groups, ledger, limits, 1, 1))
    assert all(ledger.cost(coin, kept) <= limit for coin, limit in limits.items())


def test_auto_alignment_is_multiples_of_8_from_16_channels_on_and_free_below():
    narrow = Candidates("narrow", np.arange(15.0), 1, 15)
    wide = Candidates("wide", np.arange(16.0), 1, 16)
    assert allowed_widths(narrow, "auto", 1) == list(range(15, 0, -1))
    assert allowed_widths(wide, "auto", 1) == [16, 8]


def test_alignment_refers_to_the_original_width_after_earlier_cuts():
    assert allowed_widths(Candidates("g", np.arange(8.0), 1, 64), "auto", 1) == [8]


def test_alignment_counts_layer_channels_where_several_stand_or_fall_together():
    assert allowed_widths(Candidates("g", np.arange(8.0), 4, 8), 8, 1) == [8, 6, 4, 2]


def test_a_share_as_floor_refers_to_the_original_width():
    assert allowed_widths(Candidates("g", np.arange(6.0), 1, 20), 1, 0.2)[-1] == 4


def test_ties_are_broken_the_same_way_every_time():
    groups = [Candidates(f"g{i}", np.ones(8), 1, 8) for i in range(3)]
    _, ledger = chain([8, 8, 8])
    first = select(groups, ledger, {"channels": 12}, 1, 1)
    second = select(groups, ledger, {"channels": 12}, 1, 1)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_an_impossible_budget_says_how_far_it_can_go():
    groups, ledger = chain([8, 8])
    with pytest.raises(ImpossibleBudget, match="channels: asked for 3, can go from 16 down to 8"):
        select(groups, ledger, {"channels": 3}, 1, 4)


@pytest.mark.parametrize("align", [0, -8, 2.5, True, "8", None])
def test_bad_alignment_is_refused(align):
    with pytest.raises(InvalidArgument, match="align"):
        check_align(align)


@pytest.mark.parametrize("floor", [0, -1, 1.0, 1.5, True, "a", None])
def test_bad_floor_is_refused(floor):
    with pytest.raises(InvalidArgument, match="floor"):
        check_floor(floor)
