"""Greedy order by what least squares can make up for."""

import numpy as np

from keras_gcp.criteria.compensation_aware import greedy_order


def problem(channels=7, taps=3, filters=4, seed=0):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(400, channels * taps)) @ rng.normal(size=(channels * taps,) * 2)
    rows -= rows.mean(axis=0)
    return rows, rng.normal(size=(channels * taps, filters))


def unexplained(rows, kernel, taps, chosen):
    """Variance of the outputs that least squares on the chosen channels leaves, slowly."""
    outputs = rows @ kernel
    if len(chosen):
        entries = np.concatenate([np.arange(c * taps, (c + 1) * taps) for c in chosen])
        solution, *_ = np.linalg.lstsq(rows[:, entries], outputs, rcond=None)
        outputs = outputs - rows[:, entries] @ solution
    return np.square(outputs).sum() / len(rows)


def test_gains_are_what_least_squares_on_one_channel_more_explains():
    rows, kernel = problem()
    order, gains = greedy_order(rows.T @ rows / len(rows), kernel, taps=3)
    whole = unexplained(rows, kernel, 3, [])
    for k in range(len(order)):
        before = unexplained(rows, kernel, 3, order[:k])
        after = unexplained(rows, kernel, 3, order[: k + 1])
        np.testing.assert_allclose(gains[k], (before - after) / whole, rtol=0.02, atol=1e-4)


def test_every_pick_is_the_best_one():
    rows, kernel = problem(seed=1)
    order, _ = greedy_order(rows.T @ rows / len(rows), kernel, taps=3)
    chosen: list[int] = []
    for best in order:
        rest = [c for c in range(7) if c not in chosen]
        errors = [unexplained(rows, kernel, 3, [*chosen, c]) for c in rest]
        assert best == rest[int(np.argmin(errors))]
        chosen.append(best)


def test_of_two_equal_channels_one_is_worth_nothing():
    rows, kernel = problem(channels=4, taps=1)
    rows[:, 2] = 3 * rows[:, 0]
    picked, gains = greedy_order(rows.T @ rows / len(rows), kernel, taps=1)
    gain_of = dict(zip(picked, gains, strict=True))
    assert min(gain_of[0], gain_of[2]) < 1e-4 < max(gain_of[0], gain_of[2])


def test_of_equal_channels_the_first_is_picked_whatever_the_roundings():
    rows, kernel = problem(channels=6, taps=2)
    rows[:, 6:10] = rows[:, :4]  # The fourth is the first again, the fifth the second.
    kernel[6:10] = kernel[:4]
    picks = []
    for seed in range(8):
        noise = 1e-7 * np.random.default_rng(seed).normal(size=rows.shape)
        noisy = rows * (1 + noise)
        picks.append(greedy_order(noisy.T @ noisy / len(rows), kernel, taps=2)[0].tolist())
    assert all(pick == picks[0] for pick in picks)
    assert picks[0].index(0) < picks[0].index(3) and picks[0].index(1) < picks[0].index(4)


def test_all_channels_together_explain_everything():
    rows, kernel = problem()
    _, gains = greedy_order(rows.T @ rows / len(rows), kernel, taps=3)
    np.testing.assert_allclose(gains.sum(), 1, rtol=1e-3)
