"""The greedy order of channels that grouped, separable and transposed convolutions read."""

import keras
import numpy as np
import pytest
from keras import layers
from reading_convolutions import READERS, examples, network

from keras_gcp import criteria
from keras_gcp.channels.trace import trace
from keras_gcp.sample import DrawnSample


def shares(model, x):
    """Scores of the channels of the first convolution, of each set of coupled ones once."""
    channels = trace(model)
    scores = criteria.get("compensation_aware")(model, channels, DrawnSample(x, None))["before"]
    _, first = np.unique(channels.produced["before"], return_index=True)
    return scores[np.sort(first)] / scores[first].sum()


@pytest.mark.parametrize("kind", READERS)
def test_of_two_equal_channels_one_is_worth_nothing(kind):
    copies = [(0, 1), (4, 5)] if "grouped" in kind else [(0, 1)]
    found = shares(network(kind, copies), examples(kind))
    assert len(found) == (4 if "grouped" in kind else 8)
    assert found[1] < 1e-4 < found[0]
    assert found[2:].min() > 10 * found[1]


def test_one_group_cannot_stand_in_for_another():
    """The first two positions hold the same two channels, but for each group the other way."""
    found = shares(network("grouped", copies=[(0, 5), (1, 4)]), examples("grouped"))
    assert found.min() > 0.01


def unexplained(rows, kernel, chosen):
    """Variance of the outputs that least squares on some channels leaves, slowly."""
    outputs = rows @ kernel
    solution, *_ = np.linalg.lstsq(rows[:, chosen], outputs, rcond=None)
    return float(np.square(outputs - rows[:, chosen] @ solution).sum())


def test_a_position_is_worth_what_it_explains_in_all_groups_each_by_itself():
    inputs = keras.Input((5, 5, 3))
    before = layers.Conv2D(12, 1, activation="relu", name="before")
    reader = layers.Conv2D(9, 1, groups=3)
    model = keras.Model(inputs, reader(before(inputs)))
    x = np.random.default_rng(0).normal(size=(40, 5, 5, 3)).astype("float32")
    rows = np.float64(keras.ops.convert_to_numpy(before(x))).reshape(-1, 12)
    rows -= rows.mean(axis=0)
    kernel = np.float64(keras.ops.convert_to_numpy(reader.kernel))[0, 0]

    def left(chosen):
        return sum(
            unexplained(rows[:, 4 * g : 4 * g + 4], kernel[:, 3 * g : 3 * g + 3], chosen)
            for g in range(3)
        )

    chosen, gains = [], np.zeros(4)
    while len(chosen) < 4:
        errors = {j: left([*chosen, j]) for j in range(4) if j not in chosen}
        best = min(errors, key=errors.get)
        gains[best] = left(chosen) - errors[best]
        chosen.append(best)
    ordered = np.maximum.accumulate(gains[chosen[::-1]])[::-1]
    expected = dict(zip(chosen, ordered / ordered.sum(), strict=True))
    np.testing.assert_allclose(shares(model, x), [expected[j] for j in range(4)], rtol=1e-3)
