"""Large networks: no recursion of ours, and time that grows with the number of edges."""

from __future__ import annotations

import inspect
import sys
import time

import keras
import pytest
from keras import layers

import keras_gcp


def chain(blocks):
    x = inputs = keras.Input((4, 4, 3))
    for _ in range(blocks):
        x = layers.ReLU()(layers.Conv2D(4, 3, padding="same")(x))
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))


def test_tracing_counting_and_planning_do_not_recurse_along_the_network():
    model = chain(150)
    keras_gcp.plan(
        model, {"macs": 0.5}, selection={"align": 1}
    )  # Everything is imported and cached.
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 60)
    try:
        plan = keras_gcp.plan(model, {"macs": 0.5}, selection={"align": 1})
        counted = keras_gcp.count(model)
    finally:
        sys.setrecursionlimit(limit)
    assert plan.before.macs == counted.macs


@pytest.mark.slow
def test_planning_takes_time_in_proportion_to_the_length_of_a_chain():
    seconds = []
    for blocks in (100, 300):
        model = chain(blocks)
        times = []
        for _ in range(6):  # the least of several: other work on the machine only adds
            start = time.perf_counter()
            keras_gcp.plan(model, {"macs": 0.5}, selection={"align": 1})
            times.append(time.perf_counter() - start)
        seconds.append(min(times))
    assert seconds[1] < 6 * seconds[0]  # 9 times if it grew with the square
