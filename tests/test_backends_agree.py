"""TensorFlow, JAX and PyTorch say the same: `make test-backends` runs this on what each wrote.

The files come from `tests/backend_scores.py`; `KERAS_GCP_BACKENDS` names their folder.
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import numpy as np
import pytest

FOLDER = os.environ.get("KERAS_GCP_BACKENDS")
BACKENDS = ("tensorflow", "jax", "torch")
PAIRS = list(itertools.combinations(BACKENDS, 2))
TOLERANCE = 1e-5
LOOSE = 1e-4
"""For the criteria and networks in `ROUNDINGS_GROW`."""

ROUNDINGS_GROW = {
    "feature_relevance": ("residual",),
    "gradient_flow": ("residual", "depthwise", "nested", "padded_shortcut"),
}
"""Where no two ways to compute scores can be expected to be closer.

Relevance divides by sums; where one is small, it blows roundings up. In `residual`, changing every
input by one rounding changes scores by 3e-5 of the largest on one and the same backend (by 2e-8 in
`depthwise`). Gradient flow is a derivative of second order, normalized by batch: changing every
weight by one rounding changes its scores by 2e-3 to 2e-2 of the largest where that moves an
activation across the kink of a ReLU, as in these networks (by 1e-6 to 4e-6 in the others).
"""

pytestmark = pytest.mark.skipif(
    FOLDER is None, reason="compares three environments: run by `make test-backends`"
)


def tolerance(address, scores):
    """How far scores may be apart: a share of the largest one."""
    network, criterion, *_ = address.split("/")
    loose = network in ROUNDINGS_GROW.get(criterion, ())
    return (LOOSE if loose else TOLERANCE) * np.abs(scores[np.isfinite(scores)]).max()


@pytest.fixture(scope="module")
def results():
    """Backend to arrays by address, "network/criterion/..."."""
    found = {}
    for backend in BACKENDS:
        with np.load(Path(FOLDER) / f"{backend}.npz") as file:
            found[backend] = dict(file)
    return found


@pytest.fixture(params=PAIRS, ids="-".join)
def pair(results, request):
    one, other = request.param
    return results[one], results[other]


def addresses(results, ending):
    return [address for address in results if f"/{ending}" in address]


def test_the_networks_and_inputs_were_the_same(pair):
    one, other = pair
    assert set(one) == set(other)
    for address in addresses(one, "weights"):
        np.testing.assert_array_equal(one[address], other[address])


def test_every_criterion_scored_several_networks(results):
    for found in results.values():
        criteria = [address.split("/")[1] for address in addresses(found, "coupled")]
        assert {"feature_relevance", "taylor", "bn_scale", "l1_norm", "l2_norm"} <= set(criteria)
        assert min(criteria.count(name) for name in criteria) >= 3


def test_scores_of_every_layer_agree(pair):
    one, other = pair
    for address in addresses(one, "layers/"):
        bound = tolerance(address, one[address])
        np.testing.assert_allclose(other[address], one[address], 0, bound, err_msg=address)


def test_scores_of_every_channel_class_agree(pair):
    one, other = pair
    for address in addresses(one, "coupled"):
        bound = tolerance(address, one[address])
        np.testing.assert_allclose(other[address], one[address], 0, bound, err_msg=address)


def test_equal_scores_give_equal_plans(pair):
    one, other = pair
    for address in addresses(one, "same_scores/plans"):
        np.testing.assert_array_equal(one[address], other[address], err_msg=address)


def test_plans_differ_only_in_channels_whose_scores_are_closer_than_the_tolerance(pair):
    one, _ = pair
    for address in addresses(one, "coupled"):
        scores = one[address]
        plans = zip(*(each[address.replace("coupled", "plans")] for each in pair), strict=True)
        for mine, theirs in plans:
            for channel in np.flatnonzero(mine != theirs):
                rivals = np.flatnonzero((mine != mine[channel]) & (theirs == mine[channel]))
                distances = np.abs(scores[rivals] - scores[channel])
                assert distances.min(initial=np.inf) < tolerance(address, scores), (
                    f"{address}: channel {channel}, score {scores[channel]}, is kept by one and "
                    f"not by the other; scores of those that it changed places with: "
                    f"{scores[rivals]}"
                )


def test_some_plan_removes_and_keeps_channels_of_every_network(results):
    for found in results.values():
        for address in addresses(found, "plans"):
            plans = found[address]
            assert plans.any() and not plans.all(), address
