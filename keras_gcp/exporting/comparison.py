"""How far a file's outputs are from the model's: two measures, pure functions of arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from keras_gcp.backend.comparison import relative_maximum

Measure = Callable[[np.ndarray, np.ndarray], float]


def relative_rms(got: np.ndarray, expected: np.ndarray) -> float:
    """Root mean square of the difference over root mean square of the expected values.

    Rounding to 8 bits moves every value a little and a few values much; the root mean square
    sees a wrong file (about 1) and forgives those few.
    """
    difference, scale = _rms(got - expected), _rms(expected)
    return difference / scale if scale > 0 else difference


MEASURES: dict[str, Measure] = {
    "relative maximum": relative_maximum,
    "relative rms": relative_rms,
}


def largest_difference(
    got: Sequence[np.ndarray], expected: Sequence[np.ndarray], measure: str
) -> float:
    """The worst output's difference; infinite if an output is missing, misshapen or not finite.

    Args:
        got: Outputs of the file, in the order of `model.outputs`, each `(examples, ...)`.
        expected: Outputs of the model, likewise.
        measure: A key of `MEASURES`.

    Returns:
        A share of the model's output, 0 for equal outputs.
    """
    if [a.shape for a in got] != [b.shape for b in expected]:
        return float("inf")
    differences = [
        MEASURES[measure](a.astype(np.float64), b.astype(np.float64))
        for a, b in zip(got, expected, strict=True)
    ]
    return float("inf") if np.isnan(differences).any() else max(differences)


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
