"""Activation density: layers become as wide as they are filled, after Foldy-Porto et al., 2020.

- `callback`: `ActivationDensity`.
- `rounds`: what each training at some widths was.
"""
