"""What a reader is multiplied with, as rows of one product."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keras_gcp.channels.patches import channels_last, some_places
from keras_gcp.channels.products import Product, products_of
from keras_gcp.criteria.readers import Reader


def products_read(reader: Reader, x: np.ndarray) -> tuple[Product, ...] | None:
    """The products that a reader is the kernel of; None if it is of none that are known.

    Args:
        reader: The reader.
        x: What it reads, `(examples, ...)` as its layer receives it.
    """
    return _products_at(reader, _turned(reader, x).shape[1:-1])


def is_product(reader: Reader) -> bool:
    """Whether `products_read` will find any, which does not depend on sizes."""
    return _products_at(reader, (8,) * (len(reader.source.shape) - 2)) is not None


def _products_at(reader: Reader, space: Sequence[int]) -> tuple[Product, ...] | None:
    products = products_of(reader.call.operation, space)
    if products is None or products[0].variable is not reader.weight.variable:
        return None
    return products if products[0].axis == reader.axis else None


def joined_rows(
    reader: Reader, products: Sequence[Product], x: np.ndarray
) -> tuple[np.ndarray, int]:
    """`(rows, places)`: rows with the entries of all products side by side, and of how many places.

    Of each entry only deviations from its mean.

    Entries of different products must not stand in for each other: one group of a convolution
    cannot read what another one reads. So their rows are put into blocks on a diagonal, whose
    covariance with each other is zero, and what a position explains is the sum over the products.
    Nothing but covariances is asked of rows: a triangle with the same ones takes little memory.

    Args:
        reader: The reader.
        products: Its products.
        x: What it reads.
    """
    x = _turned(reader, x)
    entries = len(products[0].positions)
    places = some_places((len(x), *products[0].counts), entries)
    count = len(places[0])
    parts = [product.rows(x, places).astype(np.float64) for product in products]
    parts = [rows - rows.mean(axis=0) for rows in parts]
    if len(parts) == 1:
        return parts[0], count
    triangles = [np.asarray(np.linalg.qr(rows, mode="r")) for rows in parts]
    height, width = triangles[0].shape
    joined = np.zeros((len(parts), height, len(parts), width))
    for number, triangle in enumerate(triangles):
        joined[number, :, number] = triangle
    # Covariances are sums over rows, divided by their number.
    scale = np.sqrt(len(parts) * height / count)
    return scale * joined.reshape(len(parts) * height, -1), count


def blocks_of(reader: Reader, products: Sequence[Product]) -> tuple[np.ndarray, np.ndarray]:
    """The coupled channels that are read, and for each entry of `joined_rows` which one it is.

    All that leaves with a channel is one block: its entries of a patch, its places after Flatten,
    its copies.
    """
    return numbered(reader.coupled[np.concatenate([product.positions for product in products])])


def numbered(coupled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different ones in the order they first come in, and for each entry which it is."""
    found, first, inverse = np.unique(coupled, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return found[order], np.argsort(order)[inverse]


def independent_variances(
    kernel: np.ndarray, reader: Reader, x: np.ndarray, block: np.ndarray
) -> np.ndarray:
    """Variance times squared kernel, for each position along the reader's axis.

    That is what a channel adds to the variance of what is computed, place by place, if channels are
    independent of each other; it needs no products.

    Args:
        kernel: Value of the reader's weight.
        reader: The reader.
        x: What it reads.
        block: The coupled channels of that.
    """
    coupled = reader.coupled
    squares = np.square(np.moveaxis(kernel, reader.axis, 0).reshape(len(coupled), -1)).sum(axis=1)
    varying = [a for a, size in enumerate(block.shape) if size > 1] or [block.ndim - 1]
    lines = np.moveaxis(x, varying[0] + 1, 0).reshape(x.shape[varying[0] + 1], -1)
    line = np.moveaxis(block, varying[0], 0).reshape(block.shape[varying[0]], -1)[:, 0]
    found = dict(zip(line.tolist(), lines.var(axis=1).tolist(), strict=False))
    variances: np.ndarray = squares * np.array([found.get(one, 0.0) for one in coupled.tolist()])
    return variances


def _turned(reader: Reader, x: np.ndarray) -> np.ndarray:
    return channels_last(reader.call.operation, x)
