"""A short text that stands for arrays: the same ones have the same, others another."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np


def digest_of(arrays: Iterable[Any]) -> str:
    """A text that differs for other shapes, types or contents.

    Args:
        arrays: Arrays, or lists and dicts of these; each is looked at before the next one is asked
            for. None is left out.
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in arrays:
        for leaf in keras.tree.flatten(part):
            if leaf is not None:
                array = np.ascontiguousarray(leaf)
                digest.update(f"{array.dtype} {array.shape};".encode())
                digest.update(array.tobytes())
    return digest.hexdigest()
