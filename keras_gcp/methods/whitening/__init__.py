"""BWCP: what whitens and masks, what a model is converted with, and the way back.

`arithmetic`: the equations. `layer`: `BatchWhitening`. `sites`: which normalizations become one,
and why others do not. `convert`: `bwcp`. `fold`: `fold_bwcp`.
"""
