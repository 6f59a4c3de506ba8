"""A convolution that merges, patch by patch, the channels which a hash cannot tell apart.

The layer of HASTE: Meiner, Mehnert and Condurache, "Data-Free Dynamic Compression of CNNs for
Tractable Efficiency", 2023 (arXiv 2309.17211).
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_gcp.channels.channel_ids import ChannelIds
from keras_gcp.channels.patches import channel_axis, channels_last_tensor
from keras_gcp.channels.registry import register_rule
from keras_gcp.channels.rules.common import apply_activation, places_of
from keras_gcp.channels.site import Site
from keras_gcp.errors import InvalidArgument
from keras_gcp.methods.hashing.patch_grid import MARGIN, PatchGrid, grid_of
from keras_gcp.validation import between, integer, require_integer, require_one_of

TIE = 1e-5
"""A projection counts as positive from this share of the patch's largest entry on."""

_PADDINGS = ("valid", "same")
_DATA_FORMATS = ("channels_last", "channels_first")


@keras.saving.register_keras_serializable(package="keras_gcp")
class LSHConvolution(layers.Layer):
    """A two-dimensional convolution whose channels are merged by locality-sensitive hashing.

    `keras_gcp.methods.haste` puts it in the place of trained convolutions; it is for inference. The
    input is cut into overlapping patches, two pixels wider than the kernel. In each patch:

    1. The channels are centred: at each pixel the mean of all channels is subtracted.
    2. Every centred channel is projected on `planes` fixed random vectors of entries -1, 0 and 1.
       The signs of the projections are its code.
    3. Channels with equal codes are a bucket. Its input is the mean of its channels (not centred),
       its filter the sum of their slices of the kernel.
    4. The patch is convolved with as many channels as there are buckets.

    Where the channels of a bucket are equal, nothing is lost. This layer *simulates* that: it
    replaces each channel by the mean of its bucket and convolves all of them with the kernel as it
    is, which is the same sum. So it shows what HASTE does to the outputs, in plain operations that
    run and convert everywhere, and saves no time. It holds a matrix of all pairs of channels for
    each patch: where memory runs out, smaller batches help. `keras_gcp.methods.haste_cost` counts
    what the reduced convolution would take.

    Pruning leaves the channels that it reads as they are, since each takes part in the hash of all
    others; its own filters can be pruned.

    Args:
        filters: Number of filters.
        kernel_size: Height and width of the kernel; an integer for both.
        planes: Number of random vectors: the more, the fewer channels are merged.
        sparsity: Share of zeros in the random vectors that is expected, in [0, 1).
        seed: Seed of the random vectors. The same seed gives the same ones everywhere.
        strides: Vertical and horizontal step; an integer for both.
        padding: `"valid"` or `"same"`.
        data_format: `"channels_last"` or `"channels_first"`; None: as `keras.json` says.
        activation: As for `keras.layers.Conv2D`.
        use_bias: Whether there is a bias.
        **kwargs: `name`, `trainable`, `dtype`.

    Input shape: `(examples, height, width, channels)`, or channels first.

    Output shape: that of `keras.layers.Conv2D`.

    Raises:
        InvalidArgument: an argument is out of its range.

    Example:

    ```python
    inputs = keras.Input((32, 32, 16))
    x = keras_gcp.methods.LSHConvolution(24, 3, planes=8, padding="same")(inputs)
    ```
    """

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        planes: int,
        sparsity: float = 2 / 3,
        *,
        seed: int = 0,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str | None = None,
        activation: Any = None,
        use_bias: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        data_format = data_format or keras.config.image_data_format()
        require_one_of("padding", padding, _PADDINGS)
        require_one_of("data_format", data_format, _DATA_FORMATS)
        self.filters = require_integer("filters", filters, least=1)
        self.kernel_size = _pair("kernel_size", kernel_size)
        self.planes = require_integer("planes", planes, least=1)
        self.sparsity = require_sparsity(sparsity)
        self.seed = require_integer("seed", seed, least=0, most=2**32 - 1)
        self.strides = _pair("strides", strides)
        self.padding = padding
        self.data_format = data_format
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.input_spec = layers.InputSpec(ndim=4)

    def build(self, input_shape: Any) -> None:
        axis = channel_axis(self, 4)
        width = input_shape[axis]
        if width is None:
            raise InvalidArgument(
                f"Layer '{self.name}' (class LSHConvolution) expects a known number of channels on "
                f"axis {axis}. Received: an input of shape {tuple(input_shape)}."
            )
        self.input_spec = layers.InputSpec(ndim=4, axes={axis: width})
        self.kernel = self.add_weight(
            shape=(*self.kernel_size, width, self.filters), name="kernel", trainable=True
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                shape=(self.filters,), initializer="zeros", name="bias", trainable=True
            )
        self.built = True

    @property
    def vectors(self) -> np.ndarray:
        """The random vectors, `(pixels of a patch, planes)`, of entries -1, 0 and 1."""
        height, width = (size + MARGIN for size in self.kernel_size)
        return ternary_vectors(height * width, self.planes, self.sparsity, self.seed)

    def call(self, inputs: Any) -> Any:
        x = channels_last_tensor(self, inputs)
        grid = self._grid(x)
        patches = grid.patches(x)
        merged = ops.cast(self._merged(patches), self.compute_dtype)
        outputs = ops.conv(
            merged, self.kernel, self.strides, padding="valid", data_format="channels_last"
        )
        outputs = grid.joined(outputs)
        if self.bias is not None:
            outputs = ops.add(outputs, ops.cast(self.bias, outputs.dtype))
        outputs = ops.moveaxis(outputs, -1, channel_axis(self, 4))
        return self.activation(outputs)

    def buckets(self, inputs: Any) -> Any:
        """How many buckets are occupied, `(examples, rows of patches, columns of patches)`.

        Args:
            inputs: What the layer is called on.
        """
        x = channels_last_tensor(self, inputs)
        grid = self._grid(x)
        alike = self._alike(grid.patches(x))
        counts = ops.round(ops.sum(1.0 / ops.sum(alike, axis=-1), axis=-1))
        return ops.reshape(counts, (-1, *(side.count for side in grid.sides)))

    def outputs_by_patch(self, inputs: Any) -> np.ndarray:
        """How many outputs each patch gives, `(rows, columns)`: fewer at the far edges."""
        return self._grid(channels_last_tensor(self, inputs)).outputs_by_patch()

    def _grid(self, x: Any) -> PatchGrid:
        return grid_of(ops.shape(x)[1:3], self.kernel_size, self.strides, self.padding)

    def _merged(self, patches: Any) -> Any:
        """Patches with the mean of its bucket in the place of each channel."""
        alike = self._alike(patches)
        shares = alike / ops.sum(alike, axis=-1, keepdims=True)
        x = ops.cast(_pixels_by_channels(patches), alike.dtype)
        # Buckets are equally large for all of their channels, so the matrix is symmetric.
        return ops.reshape(ops.matmul(x, shares), ops.shape(patches))

    def _alike(self, patches: Any) -> Any:
        """`(patches, channels, channels)`: 1 where two channels have the same code, else 0."""
        x = _pixels_by_channels(patches)
        x = ops.cast(x, "float64" if self.compute_dtype == "float64" else "float32")
        centred = x - ops.mean(x, axis=-1, keepdims=True)
        vectors = ops.convert_to_tensor(self.vectors, dtype=x.dtype)
        projections = ops.matmul(ops.transpose(centred, (0, 2, 1)), vectors)
        least = TIE * ops.max(ops.abs(x), axis=(1, 2), keepdims=True)
        signs = ops.where(projections > least, 1.0, -1.0)
        agreeing = ops.matmul(signs, ops.transpose(signs, (0, 2, 1)))
        return ops.cast(agreeing > self.planes - 0.5, x.dtype)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        axis = channel_axis(self, 4)
        space = [size for at, size in enumerate(input_shape) if at not in (0, axis)]
        sizes = zip(space, self.kernel_size, self.strides, strict=True)
        outputs = [
            None if size is None else self._outputs(size, kernel, stride)
            for size, kernel, stride in sizes
        ]
        outputs.insert(axis - 1, self.filters)
        return (input_shape[0], *outputs)

    def _outputs(self, size: int, kernel: int, stride: int) -> int:
        found = -(-size // stride) if self.padding == "same" else (size - kernel) // stride + 1
        if found < 1:
            raise InvalidArgument(
                f"Layer '{self.name}' (class LSHConvolution) has a kernel of {kernel} pixels and "
                f"padding 'valid'. Expected an input at least as large. Received: {size} pixels."
            )
        return found

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "planes": self.planes,
            "sparsity": self.sparsity,
            "seed": self.seed,
            "strides": self.strides,
            "padding": self.padding,
            "data_format": self.data_format,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
        }


def hashed(layer: layers.Conv2D, planes: int, sparsity: float, seed: int) -> LSHConvolution:
    """The layer in the place of a plain convolution; without weights until it is built.

    Args:
        layer: A `Conv2D` of one group, not dilated.
        planes: As for `LSHConvolution`.
        sparsity: Likewise.
        seed: Likewise.
    """
    config = layer.get_config()
    function = layer.activation
    # A layer as activation has a state of its own; a function may be one that has no name.
    of_layer = isinstance(function, layers.Layer)
    return LSHConvolution(
        layer.filters,
        layer.kernel_size,
        planes,
        sparsity,
        seed=seed,
        strides=layer.strides,
        padding=layer.padding,
        data_format=layer.data_format,
        activation=config["activation"] if of_layer else function,
        use_bias=layer.use_bias,
        **{key: config[key] for key in ("name", "trainable", "dtype")},
    )


def ternary_vectors(size: int, count: int, sparsity: float, seed: int) -> np.ndarray:
    """Random vectors `(size, count)`: 0 with probability `sparsity`, else -1 or 1 alike.

    NumPy promises that `RandomState` gives the same numbers in all of its versions. So a seed is
    all that a file has to keep.
    """
    drawn = np.random.RandomState(seed).random_sample((size, count))
    signs = np.where(drawn < (1 + sparsity) / 2, -1, 1)
    return np.where(drawn < sparsity, 0, signs).astype("float32")


def require_sparsity(value: Any) -> float:
    """The expected share of zeros.

    Raises:
        InvalidArgument: it is not a number in [0, 1).
    """
    found = between(value, 0.0, 1.0)
    if found is None or found == 1:
        raise InvalidArgument(
            "`sparsity` expects the share of zeros in the random vectors, in [0, 1), such as 2/3. "
            f"Received: {value!r}."
        )
    return found


def _pair(name: str, value: Any) -> tuple[int, int]:
    sizes = [value, value] if integer(value) is not None else value
    if not isinstance(sizes, list | tuple) or len(sizes) != 2:
        raise InvalidArgument(f"`{name}` expects one integer, or two. Received: {value!r}.")
    height, width = (require_integer(name, size, least=1) for size in sizes)
    return height, width


def _pixels_by_channels(patches: Any) -> Any:
    _, height, width, channels = patches.shape
    return ops.reshape(patches, (-1, height * width, channels))


@register_rule(LSHConvolution)
def lsh_convolution(site: Site) -> ChannelIds:
    """Each channel has a part in the hash of the others, so all that come in stay."""
    layer, incoming = site.layer, site.channels(0)
    site.macs(layer.kernel, places_of(site, site.output_shapes[0]))
    site.anchor(incoming, f"LSHConvolution '{site.path}' hashes all channels that it reads")
    outgoing = site.fresh(layer.filters)
    site.weight(layer.kernel, consumes={-2: incoming}, produces={-1: outgoing})
    site.weight(layer.bias, carries={0: outgoing})
    site.begins(outgoing)
    site.config("filters", site.count(outgoing))
    apply_activation(site, outgoing)
    return site.output_block(outgoing)
