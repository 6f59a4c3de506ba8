"""Least squares on the inputs that are left."""

import numpy as np
import pytest

from keras_gcp.compensation.least_squares import correction


def numbers(rows, kept, removed, filters, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, kept)) + rng.normal(size=kept)
    gone = rng.normal(size=(rows, removed)) + rng.normal(size=removed)
    return x, gone, rng.normal(size=(removed, filters))


@pytest.mark.parametrize("rows", [200, 12], ids=["more rows than entries", "fewer"])
@pytest.mark.parametrize("intercept", [True, False])
def test_the_correction_solves_the_normal_equations(rows, intercept):
    x, gone, kernel = numbers(rows, 20, 10, 5)
    missing = gone @ kernel
    found = correction(x, missing, intercept, ridge=0.01)
    if intercept:
        x, missing = x - x.mean(axis=0), missing - missing.mean(axis=0)
    penalty = 0.01 * np.square(x).sum() / 20
    left = x.T @ (missing - x @ found) - penalty * found
    assert np.abs(left).max() < 1e-8 * np.abs(x.T @ missing).max()


def test_what_the_others_can_express_is_made_up_for_exactly():
    x, _, kernel = numbers(300, 20, 10, 5)
    gone = x @ np.random.default_rng(1).normal(size=(20, 10)) + 3.0  # linear in what stays
    missing = gone @ kernel
    found = correction(x, missing, intercept=True, ridge=1e-12)
    left = missing - x @ found
    assert np.abs(left - left.mean(axis=0)).max() < 1e-6 * np.abs(missing).max()


def test_no_small_change_of_the_correction_is_better():
    x, gone, kernel = numbers(60, 6, 4, 3)
    missing = gone @ kernel
    found = correction(x, missing, intercept=False, ridge=0.1)
    penalty = 0.1 * np.square(x).sum() / 6

    def objective(change):
        return np.square(x @ change - missing).sum() + penalty * np.square(change).sum()

    best = objective(found)
    for direction in np.random.default_rng(2).normal(size=(50, *found.shape)):
        assert objective(found + 1e-3 * direction) > best


def test_inputs_that_never_vary_change_nothing():
    assert not correction(np.ones((9, 4)), np.ones((9, 2)), intercept=True).any()


def test_products_in_single_precision_lead_to_the_same_correction(monkeypatch):
    x, gone, kernel = numbers(400, 40, 10, 5)
    x, missing = x.astype("float32"), (gone @ kernel).astype("float32")
    exact = correction(x, missing, intercept=True)
    monkeypatch.setattr("keras_gcp.compensation.least_squares._SINGLE_PRECISION_FROM", 40)
    fast = correction(x, missing, intercept=True)
    assert 0 < np.abs(fast - exact).max() < 1e-5 * np.abs(exact).max()
