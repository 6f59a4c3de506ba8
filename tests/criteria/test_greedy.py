"""Greedy order of inputs, from the covariance or from the rows, whichever is smaller."""

import numpy as np
import pytest

from keras_gcp.criteria.greedy import greedy_order


def problem(rows, sizes, filters=3, seed=0):
    """Rows without mean, a kernel, and blocks of the given sizes, in mixed order."""
    rng = np.random.default_rng(seed)
    blocks = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    values = rng.normal(size=(rows, len(blocks))) * rng.uniform(0.2, 2.0, len(blocks))
    return values - values.mean(axis=0), rng.normal(size=(len(blocks), filters)), blocks


def slowly(rows, kernel, blocks, ridge):
    """The same with every covariance written out, and inverted again at every step."""
    covariance = rows.T @ rows / len(rows)
    covariance += ridge * np.trace(covariance) / len(covariance) * np.eye(len(covariance))

    def missing_variance(chosen):
        rest = ~np.isin(blocks, chosen)
        left = covariance[np.ix_(rest, rest)]
        if chosen:
            across = covariance[np.ix_(rest, ~rest)]
            left = left - across @ np.linalg.inv(covariance[np.ix_(~rest, ~rest)]) @ across.T
        return np.trace(kernel[rest].T @ left @ kernel[rest])

    whole, picked, gains = missing_variance([]), [], []
    while len(picked) <= blocks.max():
        now = missing_variance(picked)
        found = {
            i: now - missing_variance([*picked, i])
            for i in range(blocks.max() + 1)
            if i not in picked
        }
        equal = [i for i, gain in found.items() if gain >= max(found.values()) - 1e-5 * whole]
        picked.append(equal[0])
        gains.append(found[picked[-1]])
    return picked, gains, whole


@pytest.mark.parametrize(
    ("rows", "sizes"),
    [
        pytest.param(60, [4] * 6, id="more rows than inputs"),
        pytest.param(60, [1, 5, 2, 5, 1], id="blocks of several sizes"),
        pytest.param(12, [4] * 6, id="fewer rows than inputs"),
        pytest.param(12, [4] * 20, id="far fewer rows than inputs"),
        pytest.param(12, [1, 7, 3, 7, 1, 2], id="fewer rows, several sizes"),
        pytest.param(8, [1, 7, 3, 7] * 3, id="far fewer rows, several sizes"),
        pytest.param(5, [9] * 6, id="blocks larger than the number of rows"),
        pytest.param(5, [9, 1, 2, 9, 5], id="some blocks larger"),
    ],
)
@pytest.mark.parametrize("ridge", [1e-6, 0.03])
def test_the_order_and_the_gains_are_those_of_slow_inversion(rows, sizes, ridge):
    values, kernel, blocks = problem(rows, sizes)
    picked, gains = greedy_order(values, kernel, blocks, ridge)
    slow_picked, slow_gains, whole = slowly(values, kernel, blocks, ridge)
    assert picked.tolist() == slow_picked
    np.testing.assert_allclose(gains, slow_gains, rtol=1e-4, atol=1e-9 * whole)
    np.testing.assert_allclose(gains.sum(), whole, rtol=1e-6)


def test_inputs_that_never_change_are_worth_nothing_and_do_no_harm():
    values, kernel, blocks = problem(30, [2] * 4)
    values[:, blocks == 2] = 0.0
    picked, gains = greedy_order(values, kernel, blocks, 1e-6)
    assert picked[-1] == 2 and gains[-1] < 1e-5
    picked, gains = greedy_order(np.zeros_like(values), kernel, blocks, 1e-6)
    assert sorted(picked) == [0, 1, 2, 3] and np.isfinite(gains).all()
