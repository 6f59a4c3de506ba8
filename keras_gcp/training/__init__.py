"""Pruning while `model.fit` goes on: the callback, and all that belongs to a running fit."""
