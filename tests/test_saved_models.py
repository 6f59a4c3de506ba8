"""The models in savedmodels/ are what their cards say: small, of that size, and that good."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_gcp
from examples.datasets import load
from keras_gcp.selection.plan import Plan

FOLDER = Path(__file__).resolve().parents[1] / "savedmodels"
CARDS = ("cifar10", "digits", "vww")
MOST_BYTES = 1_000_000

if not FOLDER.is_dir():
    pytest.skip("a source distribution has no models", allow_module_level=True)

by_card = pytest.mark.parametrize("name", CARDS)


def card_of(name):
    return json.loads((FOLDER / name / "card.json").read_text("utf-8"))


def loaded(name):
    return keras.models.load_model(FOLDER / name / f"{name}.keras", compile=False)


def accuracy(model, x, y):
    answers = model.predict(x, batch_size=250, verbose=0).argmax(axis=-1)
    return float((answers == np.asarray(y).reshape(-1)).mean())


@by_card
def test_the_files_are_those_of_the_card_and_small(name):
    sizes = {path.name: path.stat().st_size for path in (FOLDER / name).iterdir()}
    assert max(sizes.values()) < MOST_BYTES
    files = card_of(name)["files"]
    assert {file: sizes[file] for file in files} == files
    assert set(files) == {f"{name}.keras", f"{name}_int8.tflite"}
    assert set(sizes) == set(files) | {"README.md", "card.json", "plan.json"}


@by_card
def test_the_model_has_the_size_of_the_card_and_of_its_plan(name):
    card, model = card_of(name), loaded(name)
    plan = Plan.from_json((FOLDER / name / "plan.json").read_text("utf-8"))
    found = keras_gcp.count(model)
    assert [plan.before.macs, found.macs] == card["macs"]
    assert [plan.before.parameters, found.parameters] == card["parameters"]
    assert found.macs == plan.after.macs < plan.before.macs


@by_card
def test_the_page_has_the_numbers_of_the_card(name):
    card, page = card_of(name), (FOLDER / name / "README.md").read_text("utf-8")
    numbers = [*card["macs"], *card["parameters"], *card["files"].values()]
    times = [time for pair in card["latency_ms"].values() for time in pair]
    scores = [*card["accuracy"].values(), *card["controls"].values()]
    wanted = [f"{number:,}" for number in numbers] + [f"{100 * score:.2f} %" for score in scores]
    wanted += [f"{time:.4f}" for time in times]
    assert [text for text in wanted if text not in page] == []
    assert card["command"] in " ".join(re.sub(r"\\\n", " ", page).split())
    for word in ("data", "seed", "latency", "images"):
        assert word in page.lower()


def test_the_digits_network_is_as_good_as_its_card_says():
    data = load("digits", seed=0)
    found = accuracy(loaded("digits"), data.x_test, data.y_test)
    # One image of 500 may fall the other way on another processor.
    assert found == pytest.approx(card_of("digits")["accuracy"]["pruned"], abs=1.1 / 500)


@pytest.mark.slow
@by_card
def test_they_load_where_keras_gcp_is_not_installed(name, without_keras_gcp):
    code = "import sys, keras; print(keras.models.load_model(sys.argv[1]).count_params())"
    printed = without_keras_gcp(code, FOLDER / name / f"{name}.keras")
    assert int(printed.split()[-1]) == loaded(name).count_params()


@pytest.mark.slow
@pytest.mark.needs_tensorflow("a .tflite file")
def test_the_int8_file_of_digits_is_as_good_as_its_card_says():
    data = load("digits", seed=0)
    compared = keras_gcp.compare(
        [loaded("digits"), FOLDER / "digits" / "digits_int8.tflite"],
        (data.x_test, data.y_test),
        measure_latency=False,
        verbose=0,
    )
    card = card_of("digits")["accuracy"]
    values = [row.value for row in compared]
    assert values == pytest.approx([card["pruned"], card["int8 file"]], abs=2.1 / 500)


@pytest.mark.slow
@pytest.mark.skipif("KERAS_GCP_DATA" not in os.environ, reason="KERAS_GCP_DATA names no CIFAR-10")
def test_the_cifar10_network_is_as_good_as_its_card_says():
    from benchmarks.data import cifar10

    data = cifar10()
    found = accuracy(loaded("cifar10"), data.x_test, data.y_test)
    assert found == pytest.approx(card_of("cifar10")["accuracy"]["pruned"], abs=0.001)


@pytest.mark.slow
@pytest.mark.skipif(
    not {"KERAS_GCP_DATA", "KERAS_GCP_TRAINED"} <= os.environ.keys(),
    reason="KERAS_GCP_DATA and KERAS_GCP_TRAINED name no images and no unpruned network",
)
def test_the_vww_network_answers_as_often_alike_as_its_card_says():
    from benchmarks.trained_networks import NETWORKS

    card = card_of("vww")
    found = NETWORKS["vww"](card["images"])  # Its labels are what the unpruned network answers.
    same = accuracy(loaded("vww"), found.x_test, found.y_test)
    assert same == pytest.approx(card["accuracy"]["pruned"], abs=2.1 / card["images"])
