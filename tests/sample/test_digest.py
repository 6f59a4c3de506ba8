"""The same arrays have the same digest, others another."""

import numpy as np

from keras_gcp.sample.digest import digest_of

X = np.arange(6, dtype="float32")


def test_it_differs_for_other_contents_shapes_types_and_orders():
    others = [[X], [X + 1], [X.reshape(2, 3)], [X.astype("float64")], [X, X], [], [X, X + 1]]
    others.append([X + 1, X])
    assert len({digest_of(arrays) for arrays in others}) == len(others)


def test_it_looks_at_numbers_not_at_how_they_are_stored():
    apart = np.stack([X, X], axis=1)[:, 0]
    assert digest_of([X]) == digest_of([apart]) == digest_of([{"x": X}, None])


def test_it_asks_for_one_array_after_another():
    known = []

    def arrays():
        for value in (1.0, 2.0):
            known.append(value)
            yield np.array(value)

    assert digest_of(arrays()) == digest_of([np.array(1.0), np.array(2.0)])
    assert known == [1.0, 2.0]
