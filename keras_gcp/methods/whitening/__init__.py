"""BWCP: what whitens and masks, what a model is converted with, and the way back.

`arithmetic`: the equations. `layer`: `BatchWhitening`. `sites`: which normalizations become one,
and why others do not. `silence`: what closed channels are where they are read. `convert`: `bwcp`.
`fold`: `fold_bwcp`.
"""
