"""Penalties on weights while `fit` runs, so that channels become easy to tell apart.

- `penalty`: what they share.
- `polarization`: of the scales of normalizations, to two sides.
- `variance`: of what channels contribute, to few of them.
"""
