"""Channel ids: the union-find against a slow re-derivation, anchors, reasons."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from keras_gcp.channels.channel_ids import ChannelIdSpace

MOST = 12
pairs = st.lists(st.tuples(st.integers(0, MOST - 1), st.integers(0, MOST - 1)), max_size=20)


def slow_components(size, edges):
    """Components by spreading from each id, one step at a time."""
    component = [-1] * size
    for start in range(size):
        if component[start] >= 0:
            continue
        reached, border = {start}, [start]
        while border:
            here = border.pop()
            for a, b in edges:
                for other in ((b,) if a == here else ()) + ((a,) if b == here else ()):
                    if other not in reached:
                        reached.add(other)
                        border.append(other)
        for one in reached:
            component[one] = start
    return component


def space_of(size, edges):
    space = ChannelIdSpace()
    space.fresh(size)
    for a, b in edges:
        space.tie(np.array([a]), np.array([b]))
    return space


@given(pairs)
def test_ids_are_coupled_exactly_if_ties_connect_them(edges):
    coupled_of = space_of(MOST, edges).resolve().coupled_of
    component = slow_components(MOST, edges)
    for a in range(MOST):
        for b in range(MOST):
            assert (coupled_of[a] == coupled_of[b]) == (component[a] == component[b])


@given(pairs)
def test_coupled_channels_are_numbered_by_their_first_id_without_gaps(edges):
    coupled_of = space_of(MOST, edges).resolve().coupled_of
    _, first = np.unique(coupled_of, return_index=True)
    assert list(first) == sorted(first)
    assert set(coupled_of) == set(range(len(first)))


@given(pairs, st.lists(st.tuples(st.integers(0, MOST - 1), st.sampled_from("pqr")), max_size=5))
def test_anchors_reach_all_that_is_tied_and_the_earliest_reason_stands(edges, anchors):
    space = space_of(MOST, edges)
    for one, reason in anchors:
        space.anchor(np.array([one]), reason)
    resolution = space.resolve()
    component = slow_components(MOST, edges)
    for one in range(MOST):
        reasons = [why for anchored, why in anchors if component[anchored] == component[one]]
        assert resolution.reasons.get(int(resolution.coupled_of[one])) == (
            reasons[0] if reasons else None
        )


def test_a_foremost_reason_is_reported_before_earlier_ones():
    space = ChannelIdSpace()
    ids = space.fresh(2)
    space.anchor(ids, "earlier")
    space.anchor(ids[:1], "foremost", foremost=True)
    assert space.resolve().reasons == {0: "foremost", 1: "earlier"}


def test_ties_are_broadcast():
    space = ChannelIdSpace()
    one, many, block = space.fresh(1), space.fresh(3), space.fresh(6).reshape(2, 3)
    space.tie(many, block)  # three sets
    coupled_of = space.resolve().coupled_of
    assert (coupled_of[block] == coupled_of[many][None]).all()
    assert len(set(coupled_of)) == 4
    space.tie(one, block)  # a single set
    assert set(space.resolve().coupled_of) == {0}


def test_fresh_ids_are_new_and_tied_to_nothing():
    space = ChannelIdSpace()
    first, second = space.fresh(3), space.fresh(2)
    assert not set(first) & set(second)
    assert list(space.resolve().coupled_of) == [0, 1, 2, 3, 4]
    assert space.resolve().reasons == {}


def test_a_long_chain_of_ties_is_one_set_of_coupled_channels():
    space = ChannelIdSpace()
    ids = np.random.default_rng(0).permutation(space.fresh(5000))
    space.tie(ids[:-1], ids[1:])
    assert not space.resolve().coupled_of.any()
