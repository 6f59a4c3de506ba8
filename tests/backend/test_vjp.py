"""Derivatives and compilation, the same on every framework."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from keras_gcp import backend
from keras_gcp.errors import UnsupportedModel


def _numbers(tensor):
    return np.asarray(ops.convert_to_numpy(tensor))


def test_pullback_is_the_transposed_jacobian():
    matrix = np.random.default_rng(0).normal(size=(3, 5)).astype("float32")
    x = ops.convert_to_tensor(np.ones((2, 3), "float32"))
    cotangent = np.random.default_rng(1).normal(size=(2, 5)).astype("float32")
    outputs, pullback = backend.vjp(lambda x: ops.matmul(x, matrix), x)
    (gradient,) = pullback(ops.convert_to_tensor(cotangent))
    np.testing.assert_allclose(_numbers(outputs), np.ones((2, 3)) @ matrix, rtol=1e-5)
    np.testing.assert_allclose(_numbers(gradient), cotangent @ matrix.T, rtol=1e-5)


def test_several_outputs_take_several_cotangents():
    x, y = ops.array([2.0, 3.0]), ops.array([5.0, 7.0])
    outputs, pullback = backend.vjp(lambda x, y: [x * y, x + y], x, y)
    gradients = pullback([ops.array([1.0, 10.0]), ops.array([100.0, 1000.0])])
    assert [_numbers(output).tolist() for output in outputs] == [[10, 21], [7, 10]]
    assert [_numbers(g).tolist() for g in gradients] == [[105, 1070], [102, 1030]]


def test_an_input_that_does_not_matter_gets_zeros():
    _, pullback = backend.vjp(lambda x, y: 2.0 * x, ops.array([1.0]), ops.array([1.0, 2.0]))
    gradients = pullback(ops.array([3.0]))
    assert [_numbers(g).tolist() for g in gradients] == [[6.0], [0.0, 0.0]]


def test_compiled_function_computes_the_same():
    def function(structure):
        return {"sum": structure[0] + structure[1]}

    x = ops.array([1.0, 2.0])
    assert _numbers(backend.compiled(function)([x, x])["sum"]).tolist() == [2.0, 4.0]


def test_vjp_works_inside_a_compiled_function():
    def slope(x):
        _, pullback = backend.vjp(lambda x: x * x * x, x)
        return pullback(ops.ones_like(x))[0]

    assert _numbers(backend.compiled(slope)(ops.array([2.0]))).tolist() == [12.0]


def test_vjp_works_where_gradients_are_off():
    with backend.without_gradients():
        _, pullback = backend.vjp(lambda x: x * x, ops.array([3.0]))
        assert _numbers(pullback(ops.array([1.0]))[0]).tolist() == [6.0]


def test_a_backend_without_derivatives_is_refused(monkeypatch):
    monkeypatch.setattr(keras.config, "backend", lambda: "numpy")
    with pytest.raises(UnsupportedModel, match=r"'numpy'.*tensorflow, jax, torch"):
        backend.vjp(lambda x: x, 1.0)
