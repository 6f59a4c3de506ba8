"""HASTE: channels that look alike are merged, patch by patch, after Meiner et al., 2023.

- `convolution`: the layer that hashes and merges; `patch_grid`: the patches it does so in.
- `convert`: a model with such layers.
- `cost`: operations counted on data.
"""
