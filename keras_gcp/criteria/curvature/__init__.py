"""How sharply the loss bends: second moments of gradients, of labels that the model itself draws.

Pascanu and Bengio, "Revisiting Natural Gradient for Deep Networks", 2014; Martens and Grosse,
"Optimizing Neural Networks with Kronecker-factored Approximate Curvature", 2015: with labels drawn
from the model's own prediction, the second moment of the gradients is the Gauss-Newton part of the
loss's Hessian. It needs no labels, and no gradient has to be zero on average by luck.
"""

from keras_gcp.criteria.curvature.likelihood import Likelihood, likelihoods_of, needs_labels
from keras_gcp.criteria.curvature.moments import Gate, Moments, second_moments

__all__ = [
    "Gate",
    "Likelihood",
    "Moments",
    "likelihoods_of",
    "needs_labels",
    "second_moments",
]
