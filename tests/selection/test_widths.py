"""Which widths a group may have: alignment, floors and caps, for all layers or by layer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_gcp.errors import InvalidArgument
from keras_gcp.selection.widths import (
    Producer,
    allowed_widths,
    bounds_of,
    check_layers,
    checked_align,
    checked_cap,
    checked_floor,
)


def widths(
    present, align="auto", floor=1, cap=None, original=None, layers=("conv",), of=1, least=1
):
    """Allowed widths of a group that these layers produce, each with `of` channels per channel."""
    original = present if original is None else original
    producers = [Producer(path, of) for path in layers]
    bounds = bounds_of("conv", producers, original, least, align, floor, cap)
    return list(allowed_widths("conv", present, original, bounds))


# ---- alignment


def test_auto_is_multiples_of_8_from_16_channels_on_and_free_below():
    assert widths(15) == list(range(15, 0, -1))
    assert widths(16) == [16, 8]
    assert widths(20) == [20, 16, 8]


@pytest.mark.parametrize(
    "width, align, allowed",
    [
        (7, 8, [7, 4, 2, 1]),
        (6, 16, [6, 4, 2, 1]),
        (5, 6, [5, 3, 1]),
        (1, 8, [1]),
        (4, 8, [4, 2, 1]),
    ],
)
def test_a_group_narrower_than_the_alignment_has_the_halves_of_it(width, align, allowed):
    assert widths(width, align) == allowed


@given(st.integers(1, 200), st.integers(1, 32), st.floats(0, 0.99))
def test_widths_fall_are_aligned_and_keep_the_floor(width, align, floor):
    found = widths(width, align, floor)
    assert found[0] == width
    assert found == sorted(set(found), reverse=True)
    assert found[-1] >= floor * width - 1e-9
    for smaller in found[1:]:
        assert smaller % align == 0 if width >= align else smaller < align


def test_alignment_and_shares_refer_to_the_original_width_after_earlier_cuts():
    assert widths(8, original=64) == [8]
    assert widths(6, 1, floor=0.2, original=20)[-1] == 4
    assert widths(24, 8, cap=0.25, original=64) == [16, 8]


def test_alignment_and_counts_are_those_of_layers_where_several_channels_go_together():
    assert widths(8, 8, of=4) == [8, 6, 4, 2]
    assert widths(8, 1, floor=12, of=4)[-1] == 3
    assert widths(8, 1, cap=12, of=4)[0] == 3


# ---- floors and caps


def test_a_cap_is_the_most_that_may_remain():
    assert widths(32, 8, cap=20) == [16, 8]
    assert widths(32, 8, cap=0.5) == [16, 8]
    assert widths(32, 8, cap=100) == widths(32, 8, cap=1.0) == [32, 24, 16, 8]
    assert widths(7, 8, cap=3) == [2, 1]


def test_what_the_layers_themselves_need_counts_as_a_floor():
    assert widths(20, 1, least=16)[-1] == 16
    assert widths(20, 1, floor=18, least=16)[-1] == 18


def test_a_floor_above_the_width_keeps_the_width():
    assert widths(4, 1, floor=10) == [4]


def test_a_cap_below_the_floor_is_refused_with_both_numbers():
    with pytest.raises(InvalidArgument, match="'conv' keep at most 4 of its 64.*at least 7"):
        widths(64, 1, floor=0.1, cap=4)


def test_a_cap_below_the_alignment_is_refused():
    with pytest.raises(InvalidArgument, match="'conv' keep at most 6 .*multiples of 8"):
        widths(64, 8, cap=6)


# ---- by layer


def test_a_dict_counts_for_the_layers_it_names_and_the_default_for_others():
    assert widths(32, {"conv": 16}) == [32, 16]
    assert widths(32, {"other": 16}) == [32, 24, 16, 8]
    assert widths(20, 1, floor={"conv": 0.5})[-1] == 10
    assert widths(20, 1, floor={"other": 0.5})[-1] == 2
    assert widths(20, 1, cap={"conv": 10})[0] == 10
    assert widths(20, 1, cap={"other": 10})[0] == 20


def test_a_star_stands_for_all_layers_not_named():
    floor = {"*": 0.5, "conv": 0.25}
    assert widths(16, 1, floor)[-1] == 4
    assert widths(16, 1, floor, layers=["other"])[-1] == 8


def test_the_name_of_a_nested_model_counts_for_all_layers_inside_and_a_longer_one_more():
    floor = {"inner": 0.5, "inner/last": 0.25}
    assert widths(16, 1, floor, layers=["inner/first"])[-1] == 8
    assert widths(16, 1, floor, layers=["inner/last"])[-1] == 4
    assert widths(16, 1, floor, layers=["inner_not"])[-1] == 2


def test_of_tied_layers_every_setting_holds():
    tied = ["a", "b"]
    assert widths(48, {"a": 8, "b": 12}, layers=tied) == [48, 24]
    assert widths(16, 1, {"a": 4, "b": 6}, layers=tied)[-1] == 6
    assert widths(16, 1, cap={"a": 12, "b": 10}, layers=tied)[0] == 10


# ---- refusals

CHECKS = {"align": checked_align, "floor": checked_floor, "cap": checked_cap}


@pytest.mark.parametrize(
    "name, values",
    [
        ("align", [0, -8, 2.5, True, "8", None]),
        ("floor", [0, -1, 1.0, 1.5, True, "a", None, float("nan")]),
        ("cap", [0, -1, 0.0, 1.5, True, "a", float("nan")]),
    ],
)
def test_senseless_values_are_refused_alone_and_by_layer(name, values):
    for value in values:
        with pytest.raises(InvalidArgument, match=f"`{name}` expects .* by layer. Received"):
            CHECKS[name](value)
        with pytest.raises(InvalidArgument, match=rf"`{name}\['conv'\]` expects .*Received"):
            CHECKS[name]({"conv": value})


@pytest.mark.parametrize("name", CHECKS)
def test_keys_that_are_no_names_are_refused(name):
    with pytest.raises(InvalidArgument, match=f"`{name}` expects names of layers as keys.*3"):
        CHECKS[name]({3: 1})


def test_an_unknown_layer_is_refused_and_near_names_are_offered():
    layers = ["stem_conv", "block_1/conv", "dense"]
    with pytest.raises(InvalidArgument, match="`floor` names layer 'stem_cnv'.*mean 'stem_conv'"):
        check_layers("floor", {"stem_cnv": 4}, layers, {})
    check_layers("floor", {"stem_conv": 4, "block_1": 2, "*": 1}, layers, {})


def test_a_setting_without_effect_on_a_layer_that_stays_is_refused_with_the_reason():
    anchored = {"head": "output of the model"}
    for name in CHECKS:
        with pytest.raises(InvalidArgument, match=r"'head', .*\(output of the model\)"):
            check_layers(name, {"head": 8}, ["head", "conv"], anchored)
