"""What TensorBoard shows of pruning, read back from the files."""

from __future__ import annotations

import importlib.util
import io
import sys

import keras
import networks
import numpy as np
import pytest
from fitting import THREE_STEPS, compiled, fit, pruning

import keras_gcp
from keras_gcp.training import tensorboard
from keras_gcp.training.event_records import STAGES

pytestmark = pytest.mark.needs_tensorflow("it writes the files of TensorBoard")


def read(folder):
    """Tag to what was written: `{step: value}`; texts as text, pictures as PNG."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    events = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    events.Reload()
    shown = {"text": lambda value: value.item().decode(), "images": lambda value: value[2]}
    found = {}
    for tag in events.Tags()["tensors"]:
        kind = events.SummaryMetadata(tag).plugin_data.plugin_name
        of = shown.get(kind, lambda value: value.item())
        found[tag] = {one.step: of(make_ndarray(one.tensor_proto)) for one in events.Tensors(tag)}
    return found


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A training with two events within epochs, and what TensorBoard shows of it."""
    folder = tmp_path_factory.mktemp("logs")
    schedule = keras_gcp.schedules.linear(begin=1, end=4, every=3, unit="step")
    callback = pruning({"macs": 0.5}, schedule)
    model = compiled(networks.plain())
    shown = keras.callbacks.TensorBoard(folder, update_freq=2)
    fit(model, [shown, callback], 2, THREE_STEPS)
    return callback, folder


def test_curves_show_what_every_event_left_and_took(trained):
    callback, folder = trained
    found = read(folder / "pruning")
    steps = [event.step for event in callback.events]
    assert len(steps) == 2 and steps[0] % 3  # In the middle of an epoch of three steps.
    assert list(found["macs_left"]) == [0, *steps]
    assert found["macs_left"][0] == 1.0
    original = callback.original_costs["macs"]
    for event in callback.events:
        assert found["macs_left"][event.step] == pytest.approx(event.macs_after / original)
        assert found["parameters"][event.step] == event.parameters_after
        assert found["removed_channels"][event.step] == event.removed_channels
        assert found["sample_loss/after"][event.step] == pytest.approx(event.loss_after, rel=1e-5)
        for stage in STAGES:
            taken = found.get(f"seconds/{stage}", {}).get(event.step, 0.0)
            assert taken == pytest.approx(event.seconds[stage], rel=1e-5), stage
    assert found["seconds/score"][steps[0]] > 0


def test_the_plan_is_shown_as_text_and_its_widths_as_a_picture(trained):
    image = pytest.importorskip("matplotlib.image", reason="pictures need matplotlib")
    callback, folder = trained
    found = read(folder / "pruning")
    last = callback.events[-1].step
    assert callback.plan.explain() in found["plan"][last]
    assert set(found["plan"]) == set(found["widths"]) == {one.step for one in callback.events}
    picture = image.imread(io.BytesIO(found["widths"][last]))
    assert picture.shape[0] > 100 and picture.shape[1] > 400
    dark = (np.abs(picture[..., :3] - (0, 0x72 / 255, 0xB2 / 255)).max(-1) < 0.02).sum()
    pale = (np.abs(picture[..., :3] - (0xD5 / 255, 0xDB / 255, 0xE1 / 255)).max(-1) < 0.02).sum()
    layers = callback.plan.layers
    kept = np.concatenate([layers[name] for name in callback.events[-1].widths]).mean()
    assert dark / (dark + pale) == pytest.approx(kept, abs=0.1)


def test_what_keras_writes_is_still_there(trained):
    _, folder = trained
    assert 1 in read(folder / "train")["epoch_loss"]


def test_events_between_epochs_stand_at_epochs_and_skipped_ones_say_why(tmp_path, monkeypatch):
    callback = pruning(schedule=keras_gcp.schedules.one_shot(1), on_failure="skip")
    model = compiled(networks.plain())

    def fails(*arguments, **options):
        raise RuntimeError("out of luck")

    monkeypatch.setattr("keras_gcp.training.pruning_run.PruningRun.event", fails)
    with pytest.warns(UserWarning, match="out of luck|budget is not met"):
        fit(model, [callback, keras.callbacks.TensorBoard(tmp_path)], epochs=2)
    found = read(tmp_path / "pruning")
    assert list(found["skipped"]) == [1] and "out of luck" in found["skipped"][1]
    assert found["macs_left"] == {0: 1.0}


def test_without_the_callback_nothing_is_written():
    log = tensorboard.EventLog([keras.callbacks.History()])
    log.begin({"macs": 1.0}, 0, None)
    log.close()
    assert log._files == []


def test_without_matplotlib_it_says_that_pictures_are_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.warns(UserWarning, match="no pictures of the widths.*keras-gcp\\[plot\\]"):
        tensorboard.EventLog([keras.callbacks.TensorBoard(tmp_path)]).close()
