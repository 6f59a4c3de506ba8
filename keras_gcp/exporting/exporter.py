"""The public `export`: write, load back, compare, and only then put in place."""

from __future__ import annotations

import contextlib
import math
import re
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_gcp import keras_state
from keras_gcp.errors import ExportMismatch, InvalidArgument, KerasGCPError, UnsupportedModel
from keras_gcp.exporting import files, worker, writers
from keras_gcp.exporting.comparison import largest_difference
from keras_gcp.exporting.formats import FORMATS, Materials, check_formats
from keras_gcp.exporting.precision import is_mixed_precision
from keras_gcp.exporting.quiet import silenced
from keras_gcp.exporting.records import ExportedFile, ExportedFiles, Loading
from keras_gcp.exporting.runtime import operators
from keras_gcp.exporting.samples import CALIBRATION_EXAMPLES, Examples, examples_for
from keras_gcp.exporting.structure import output_names
from keras_gcp.exporting.worker import WorkerDied
from keras_gcp.storage.faults import told_of_the_disk
from keras_gcp.validation import between, require_flag, require_path

COMPARED_EXAMPLES = 32


def export(
    model: keras.Model,
    directory: str | Path,
    formats: Sequence[str] = ("keras", "saved_model", "tflite"),
    sample: Any = None,
    *,
    tolerance: float | Mapping[str, float] | None = None,
    name: str | None = None,
    include_optimizer: bool = False,
) -> ExportedFiles:
    """Writes a model in several formats, each file proved equal to the model.

    Every file is written aside, loaded back, and compared with the model on up to 32
    examples; only a file that agrees is moved to its place, replacing an older one. A file
    that does not agree is removed, an older one stays. Formats are written in the given
    order, and files already in place stay there when a later format fails. What an
    export that was killed has left in `directory` is removed by the next one there.

    | format | file | compared by | default tolerance |
    |---|---|---|---|
    | `"keras"` | `<name>.keras`, uncompiled (see `include_optimizer`) | relative maximum | 1e-5 |
    | `"saved_model"` | folder `<name>_saved_model` | relative maximum | 1e-5 |
    | `"tflite"` | `<name>.tflite`, 32-bit floats | relative maximum | 1e-4 |
    | `"tflite_float16"` | `<name>_float16.tflite`, weights in 16 bits | relative rms | 0.01 |
    | `"tflite_dynamic"` | `<name>_dynamic.tflite`, weights in 8 bits | relative rms | 0.25 |
    | `"tflite_int8"` | `<name>_int8.tflite`, all in 8 bits | relative rms | 0.25 |
    | `"onnx"` | `<name>.onnx` (needs tf2onnx and onnxruntime) | relative maximum | 1e-4 |

    Relative maximum: largest absolute difference over the largest absolute value of that
    output. Relative rms: root mean square of the difference over root mean square of the
    output. With mixed precision no tolerance is smaller than 0.02.

    TFLite files have batch size 1, or that of a model whose own is fixed, and built-in operators
    only; inputs and outputs keep the model's names in the file's signature. A mixed-precision model
    goes there in 32 bits, and one that leaves sizes of its input open at the size of the sample.
    Recurrent layers with `stateful=True` start again in a file. Files are converted and run in a
    process of their own, started once: TensorFlow's converter is known to crash, as on recurrent
    layers in 8 bits (unless `unroll=True`), which is then an error here.

    A `.keras` file names layers of your own (and with the optimizer, losses and metrics, too), it
    does not hold them; `loads_with` of its record says how it loads without them, or with which,
    and if they are not registered with Keras, there is a warning. The other formats hold all they
    need.

    Args:
        model: Functional or Sequential model, built.
        directory: Folder for the files; made if missing.
        formats: Which files, see above.
        sample: Real examples, as in `keras_gcp.plan`: `x` or `(x, y)`, arrays or a data set; labels
            are not looked at. Compared on 32 of them, int8 calibrated on 256, evenly spread over
            arrays, the first ones of a data set. None: compared on random normal inputs (seeded),
            and the record says so.
        tolerance: Largest difference allowed: one number for every format asked for, or a dict
            by format. None: as above.
        name: Name of the files; None: the model's name.
        include_optimizer: Whether the `.keras` file holds what training goes on from: loss,
            metrics, and the optimizer with its slots (two numbers for each weight with Adam, so the
            file is three times as large). False: the model alone; compile it again to train it.

    Returns:
        One `ExportedFile` per format, in the order of `formats`; a tuple that prints as a table.

    Raises:
        ExportMismatch: If a file does not compute what the model computes.
        InvalidArgument: If an argument is out of range or does not fit the model.
        UnsupportedModel: If a format cannot hold the model.
        WriteFailed: If the folder cannot be written, or the disk is full. Files written before that
            are whole, and what was in the place of the others is still there.

    Example:

    ```python
    files = keras_gcp.export(model, "exported", sample=(x_test, y_test))
    print(files)
    small = keras.models.load_model(files[0].path)
    ```
    """
    _check_model(model)
    check_formats(formats, has_sample=sample is not None)
    include_optimizer = require_flag("include_optimizer", include_optimizer)
    tolerances = {f: _tolerance_of(f, tolerance, formats, model) for f in formats}
    name = _file_name(model.name if name is None else name)
    batch = keras_state.fixed_batch(model) or 1
    examples = examples_for(model, sample, max(COMPARED_EXAMPLES, batch))
    # A file goes on where its last batch ended, so what keeps a state is compared on one batch.
    compared = batch if keras_state.stateful_layers(model) else max(COMPARED_EXAMPLES, batch)
    directory = Path(require_path("directory", directory))
    if any(FORMATS[f].is_tflite for f in formats):
        worker.prepare()
    with files.workspace(directory) as folder, keras_state.states_put_back(model):
        subject = _Subject(model, examples.spread(compared), examples, folder, include_optimizer)
        expected = _reference(subject)
        written = []
        for one in formats:
            with told_of_the_disk(f"The {one} file of '{model.name}'", directory):
                written.append(
                    _export_one(subject, expected, one, tolerances[one], directory, name)
                )
        return ExportedFiles(written)


@dataclass(frozen=True)
class _Subject:
    model: keras.Model
    compared: Examples
    examples: Examples
    folder: Path
    include_optimizer: bool


def _export_one(
    subject: _Subject,
    expected: list[np.ndarray],
    format_name: str,
    tolerance: float,
    directory: Path,
    name: str,
) -> ExportedFile:
    kind, model, begin = FORMATS[format_name], subject.model, time.perf_counter()
    aside = subject.folder / f"{name}{kind.suffix}"
    with silenced():
        outputs = _write_and_run(subject, format_name, aside)
    difference = largest_difference(outputs, expected, kind.measure)
    if not difference <= tolerance:
        raise ExportMismatch(
            f"The {format_name} file of '{model.name}' does not compute what the model computes: "
            f"{kind.measure} difference {difference:.3g} over {len(subject.compared)} "
            f"{subject.compared.source} examples, allowed {tolerance:.3g}. The file was removed. "
            "If such a difference is harmless here, pass `tolerance=`; for a quantised format "
            "try more, or more typical, examples as `sample=`."
        )
    with silenced():
        loading = kind.loading(aside)
    target = directory / aside.name
    files.replace(aside, target)
    _warn_of_own_code(target, loading)
    return ExportedFile(
        format=format_name,
        path=target,
        bytes=files.size_of(target),
        max_difference=difference,
        compared_on=subject.compared.source,
        seconds=time.perf_counter() - begin,
        operators=operators(target) if kind.is_tflite else (),
        measure=kind.measure,
        tolerance=tolerance,
        examples=len(subject.compared),
        loads_with=loading.code,
        custom_objects=loading.custom_objects,
    )


def _warn_of_own_code(path: Path, loading: Loading) -> None:
    if loading.loads_here:
        return
    named = " and ".join(map(repr, loading.custom_objects)) or "a lambda"
    warnings.warn(
        f"'{path}' needs {named}: code of your own, which Keras does not know, or does not trust. "
        f"Load it with {loading.code}.",
        stacklevel=4,
    )


def _write_and_run(subject: _Subject, format_name: str, path: Path) -> list[np.ndarray]:
    kind, calibration = FORMATS[format_name], subject.examples.spread(CALIBRATION_EXAMPLES)
    materials = Materials(subject.folder / "batch_of_one", calibration, subject.include_optimizer)
    doing = "written"
    try:
        kind.write(subject.model, path, materials)
        doing = "loaded back and run"
        with _on_cpu():
            return kind.run(subject.model, path, subject.compared.arrays)
    except WorkerDied as error:
        raise UnsupportedModel(_cannot(subject.model, doing, format_name, str(error))) from error
    except (KerasGCPError, OSError, MemoryError):
        raise
    except Exception as error:
        reason = worker.in_words(error)
        raise UnsupportedModel(_cannot(subject.model, doing, format_name, reason)) from error


def _cannot(model: keras.Model, doing: str, format_name: str, reason: str) -> str:
    return (
        f"The model '{model.name}' cannot be {doing} as {format_name}. Expected every layer and "
        f"operation in it to be known to that format. The reason given: {reason}"
    )


def _reference(subject: _Subject) -> list[np.ndarray]:
    with _on_cpu():
        outputs = writers.run_model(subject.model, subject.compared.arrays)
    for name, output in zip(output_names(subject.model), outputs, strict=True):
        if not np.isfinite(output).all():
            raise UnsupportedModel(
                f"The output '{name}' of the model '{subject.model.name}' itself is NaN or "
                "infinite on the examples, so no file can be compared with it."
            )
    return outputs


def _on_cpu() -> contextlib.AbstractContextManager[Any]:
    """Runs on the CPU: a GPU may round 32-bit convolutions to 10 bits (TensorFloat-32).

    Around running only: what is written must not be bound to a device.
    """
    on_tensorflow = keras.backend.backend() == "tensorflow"
    return keras.device("cpu:0") if on_tensorflow else contextlib.nullcontext()


def _check_model(model: Any) -> None:
    if not isinstance(model, keras.Model):
        raise InvalidArgument(f"Expected a `keras.Model`, received {type(model).__name__}.")
    if not getattr(model, "inputs", None) or not getattr(model, "outputs", None):
        raise UnsupportedModel(
            f"The model '{model.name}' ({type(model).__name__}) has no symbolic inputs: it is "
            "subclassed, or not built yet. Expected a Functional model or a Sequential one with "
            "a `keras.Input`."
        )


def _tolerance_of(
    format_name: str,
    given: float | Mapping[str, float] | None,
    formats: Sequence[str],
    model: keras.Model,
) -> float:
    if isinstance(given, Mapping):
        unknown = [key for key in given if not isinstance(key, str) or key not in formats]
        if unknown:
            raise InvalidArgument(f"`tolerance` names {unknown}, which `formats` does not.")
        given = given.get(format_name)
    if given is None:
        default = FORMATS[format_name].tolerance
        return max(default, 0.02) if is_mixed_precision(model) else default
    found = between(given, 0.0, math.inf)
    if not found:
        raise InvalidArgument(
            f"`tolerance` expects a number greater than 0, or a dict of these by format. "
            f"Received: {given!r}."
        )
    return found


def _file_name(name: Any) -> str:
    sign = r'[^\\/:*?"<>|\0]'
    if not isinstance(name, str) or not re.fullmatch(rf"(?!\.){sign}+", name):
        raise InvalidArgument(
            f"{name!r} is not a name for a file. Pass `name=` without path separators."
        )
    return name
