"""Groups of options that commands share, and what of the package each of them stands for."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter
from cyclopts.types import ExistingFile

from keras_gcp.errors import InvalidArgument

if TYPE_CHECKING:
    from keras_gcp.costs.budget import Budget
    from keras_gcp.evaluation.sensitivity_result import Sensitivity
    from keras_gcp.selection import Selection

_BUDGET = Group("What may remain (several hold together)", sort_key=1)
_MODEL = Group("The model", sort_key=2)
_DATA = Group("Data", sort_key=3)
_CHOICE = Group("How channels are chosen", sort_key=4)
_OUTPUT = Group("Output", sort_key=9)

ModelFile = Annotated[ExistingFile, Parameter(metavar="MODEL")]
Several = Annotated[tuple[str, ...], Parameter(consume_multiple=True, metavar="NAME")]
Amount = Annotated[str | None, Parameter(metavar="AMOUNT")]
Numbers = Annotated[str | None, Parameter(metavar="NUMBERS")]


@Parameter(name="*", group=_OUTPUT)
@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """How results and errors are shown.

    Attributes:
        json: Print the result as JSON, and nothing else on stdout.
        traceback: Show where in the code an error arose.
    """

    json: bool = False
    traceback: bool = False


@Parameter(name="*", group=_MODEL)
@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """How a model file is read.

    Attributes:
        input_shape: Size to count at, where the model leaves it open: 224,224,3.
        flatten: Open layers that hide layers (`keras_gcp.flatten`), as networks of keras-hub need.
        import_module: Modules to import first, which register layers and rules of your own.
    """

    input_shape: Numbers = None
    flatten: bool = False
    import_module: Several = ()

    def shape(self) -> tuple[int, ...] | None:
        """The size of `--input-shape`."""
        if self.input_shape is None:
            return None
        parts = self.input_shape.strip("()").split(",")
        if not all(part.strip().isdecimal() for part in parts):
            raise InvalidArgument(
                "`--input-shape` expects sizes with commas, without the batch, such as 224,224,3. "
                f"Received: {self.input_shape!r}."
            )
        return tuple(int(part) for part in parts)


@Parameter(name="*", group=_MODEL)
@dataclass(frozen=True, kw_only=True)
class PrunedModelOptions(ModelOptions):
    """How a model file is read, and what of it is left alone.

    Attributes:
        exclude: Layers that keep all of their channels.
    """

    exclude: Several = ()


_SHORTER = {
    "tflite_bytes_int8": "--tflite-int8-bytes",
    "peak_activation_bytes": "--peak-bytes",
    "peak_activation_bytes_int8": "--peak-int8-bytes",
}
"""Options that are not called like their resource."""


@Parameter(name="*", group=_BUDGET)
@dataclass(frozen=True, kw_only=True)
class BudgetOptions:
    """A share of the model (50%, or 0.5), or an amount (20M, 250kB, 12ms).

    Attributes:
        macs: Multiply-adds.
        parameters: Entries of all weights.
        channels: Channels that may be pruned.
        tflite_bytes: Size of the TFLite file with 32-bit floats.
        tflite_bytes_int8: Size of the TFLite file in 8 bits.
        peak_activation_bytes: Peak memory of activations in 32-bit floats.
        peak_activation_bytes_int8: Peak memory of activations in 8 bits.
        latency_ms: Time of one example in the TFLite file; 0.5 is a share, 0.5ms is not.
        threads: Threads for `--latency-ms`.
    """

    macs: Amount = None
    parameters: Amount = None
    channels: Amount = None
    tflite_bytes: Amount = None
    tflite_bytes_int8: Annotated[Amount, Parameter(name="--tflite-int8-bytes")] = None
    peak_activation_bytes: Annotated[Amount, Parameter(name="--peak-bytes")] = None
    peak_activation_bytes_int8: Annotated[Amount, Parameter(name="--peak-int8-bytes")] = None
    latency_ms: Amount = None
    threads: int = 1

    def given(self) -> dict[str, str]:
        """Resource to what was written."""
        limits = {name: value for name, value in vars(self).items() if name != "threads"}
        return {name: value for name, value in limits.items() if value is not None}

    def budget(self) -> Budget:
        """The budget.

        Raises:
            InvalidArgument: there is none, or it cannot be read.
        """
        from keras_gcp.costs.budget import Budget, timed

        limits: dict[str, Any] = self.given()
        if not limits:
            raise InvalidArgument(
                "Nothing says what may remain. Expected at least one limit, such as `--macs 50%` "
                "or `--tflite-int8-bytes 250kB`."
            )
        try:
            if "latency_ms" in limits:
                limits["latency_ms"] = timed(limits["latency_ms"], self.threads)
            return Budget(limits)
        except InvalidArgument as error:
            raise InvalidArgument(_as_flags(str(error))) from error


def _as_flags(text: str) -> str:
    """A message about a budget with the options in place of Python's arguments."""
    for name in vars(BudgetOptions()):
        text = text.replace(f"`budget['{name}']`", f"`{option_of(name)}`")
    return text


def option_of(resource: str) -> str:
    """The option that limits a resource."""
    return _SHORTER.get(resource, "--" + resource.replace("_", "-"))


@Parameter(name="*", group=_DATA)
@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Examples, and what is done to them first.

    Attributes:
        data: A .npz file (x and y, x_train and y_train, x_test and y_test, ...), a folder with a
            subfolder of images for each class, or tfds:NAME.
        pixel_mean: What to subtract: one number, or one for each channel (0.5,0.4,0.3).
        pixel_std: What to divide by after that.
        max_examples: Examples to read at most of each part; of folders and tfds 2,000 if not said.
        seed: Seed for drawing examples, and for the random criterion.
    """

    data: Annotated[str | None, Parameter(metavar="WHERE")] = None
    pixel_mean: Numbers = None
    pixel_std: Numbers = None
    max_examples: int | None = None
    seed: int = 0


@Parameter(name="*", group=_CHOICE)
@dataclass(frozen=True, kw_only=True)
class ChoiceOptions:
    """How channels are chosen.

    Attributes:
        criterion: auto, loss_aware, feature_relevance, compensation_aware, taylor, l1_norm,
            l2_norm, bn_scale or random. Most look at data.
        rounds: In how many cuts to go there, each scored anew.
        sample_size: Examples that are drawn for scores and compensation.
        align: Widths to prefer: multiples of this, or auto.
        floor: Least width of a layer, as a share of its own (0.1), or in channels (8).
        ranking: One ranking of all channels by score, by score for cost, or uniform shares.
        normalize: What makes scores of different layers comparable.
        evenness: From 0 (layers may get as unequal as scores say) to 1 (all are cut alike).
        sensitivity: A file of `keras-gcp sensitivity --output`: what is sensitive is spared.
    """

    criterion: str = "auto"
    rounds: int = 1
    sample_size: int = 512
    align: str = "auto"
    floor: float = 0.1
    ranking: Literal["auto", "score", "score_per_cost", "uniform"] = "auto"
    normalize: Literal["auto", "norm", "mean", "rank", "none"] = "auto"
    evenness: float = 0.0
    sensitivity: ExistingFile | None = None

    def given(self) -> list[str]:
        """Which options that a plan has settled were given."""
        changed = [one.name for one in fields(self) if getattr(self, one.name) != one.default]
        return [f"--{name}" for name in changed if name != "sample_size"]

    def selection(self) -> Selection:
        """How to select."""
        from keras_gcp.selection import Selection

        if self.align != "auto" and not self.align.isdecimal():
            raise InvalidArgument(
                f"`--align` expects auto, or a number of channels. Received: {self.align!r}."
            )
        floor = int(self.floor) if self.floor >= 1 else self.floor
        return Selection(
            align="auto" if self.align == "auto" else int(self.align),
            floor=floor,
            ranking=self.ranking,
            normalize=self.normalize,
            evenness=self.evenness,
            prior=None if self.sensitivity is None else _sensitivity_in(self.sensitivity),
        )


def _sensitivity_in(path: Path) -> Sensitivity:
    from keras_gcp.cli.files import read_json
    from keras_gcp.evaluation.sensitivity_result import Sensitivity

    return Sensitivity.from_dict(read_json(path))
