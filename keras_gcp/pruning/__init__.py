"""Pruning outside of `fit`, and the stages that it shares with the callback."""
