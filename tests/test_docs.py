"""The Python code of the documentation runs, page by page, and that of the README."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_gcp
from keras_gcp import methods
from keras_gcp.channels import registry
from keras_gcp.criteria.relevance import rules

DOCS = Path(__file__).resolve().parents[1] / "docs"
README = DOCS.parent / "README.md"
PAGES = [page for page in sorted(DOCS.rglob("*.md")) if "```python" in page.read_text("utf-8")]

SLOW = {
    *("budgets", "events", "export", "gates", "index", "long_trainings", "prunenet"),
    *("stamp", "tutorial"),
    # Systems that train their networks anew again and again; tests/methods holds their claims.
    *("activation_density", "adversarial_fine_tuning", "bwcp", "consensus", "grasp"),
    "network_adjustment",
    *("guides/int8_and_qat", "guides/prune_trained", "guides/prune_while_training"),
    *("guides/other_tasks", "guides/transfer_learning", "coming_from/tfmot"),
}
"""Processes of their own, many files, or many trainings."""

UNTITLED = (DOCS, DOCS / "methods")
"""Folders whose pages are called by their names alone."""

NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))
TINY = {
    "first_steps": {"EPOCHS": 4, "IMAGES": 200},
    "pretrained_to_int8": {"WEIGHTS": None, "SIZE": 32, "IMAGES": 96, "EPOCHS": 2},
    "reading_a_plan": {"WIDTH": 16},
}
"""Settings of notebooks that a test can afford."""
SLOW_NOTEBOOKS = {"pretrained_to_int8"}

MARKS = {
    **{page: [pytest.mark.slow] for page in SLOW},
    "tfmot": [pytest.mark.slow, pytest.mark.needs_tfmot],
}


def name_of(page: Path) -> str:
    if page == README:
        return "README"
    if page.parent in UNTITLED:
        return page.stem
    return page.relative_to(DOCS).with_suffix("").as_posix()


def blocks_of(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)


@pytest.fixture
def in_a_folder(monkeypatch, tmp_path):
    """What pages write, and the rules that they register, are gone afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_RULES", dict(registry._RULES))
    monkeypatch.setattr(rules, "_RULES", dict(rules._RULES))


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, id=name_of(page), marks=MARKS.get(name_of(page), ())) for page in PAGES],
)
def test_the_code_of_the_page_runs(page, in_a_folder):
    exec(compile("\n".join(blocks_of(page)), str(page), "exec"), {"__name__": page.stem})


@pytest.mark.parametrize("page", [README, *PAGES], ids=name_of)
def test_what_the_page_calls_is_there(page):
    """Slow pages, too: a name that has changed is found without running them."""
    tree = ast.parse("\n".join(blocks_of(page)))
    called = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    names = {name for name in called if re.fullmatch(r"(keras_gcp|schedules)(\.\w+)+", name)}
    for name in names:
        path = name.split(".")
        found = keras_gcp.schedules if path[0] == "schedules" else keras_gcp
        for part in path[1:]:
            found = getattr(found, part)


# ------------------------------------------------------------------------------------ the README


@pytest.mark.slow
@pytest.mark.needs_tensorflow("it writes TFLite and ONNX files")
def test_the_code_of_the_readme_runs(in_a_folder):
    """As it stands, after what a reader has: data, a compiled model, an optimizer, an own layer."""
    model, (x, y) = small_classifier()
    optimizer = keras.optimizers.SGD(0.1)
    optimizer.build(model.trainable_variables)
    names = {
        "keras": keras,
        "model": model,
        "optimizer": optimizer,
        "make_train_step": lambda model, optimizer: model.make_train_function,
        "ChannelScale": type("ChannelScale", (keras.layers.Layer,), {}),
        **{"x": x, "y": y, "x_train": x, "y_train": y},
        **{"x_val": x[:32], "y_val": y[:32], "x_test": x[32:], "y_test": y[32:]},
    }
    for block in (block for block in blocks_of(README) if not needs_more(block)):
        exec(compile(block.replace("at_least=0.90", "at_least=0.05"), "README", "exec"), names)
    assert names["comparison"]["int8"].bytes < names["comparison"]["pruned"].bytes
    assert Path("comparison.svg").exists()


@pytest.mark.slow
@pytest.mark.needs_tfmot
def test_the_code_of_the_readme_on_tfmot_runs(in_a_folder):
    model, (x, y) = small_classifier()
    (block,) = [block for block in blocks_of(README) if "keras_gcp.tfmot" in block]
    names = {"model": model, "x_train": x, "y_train": y, "x_test": x, "keras_gcp": keras_gcp}
    exec(compile(block, "README", "exec"), names)


@pytest.mark.slow
def test_the_code_of_the_readme_on_keras_hub_runs(in_a_folder, monkeypatch):
    """With random weights: those of a preset would be downloaded."""
    keras_hub = pytest.importorskip("keras_hub")
    from benchmarks.hub_networks import NETWORKS

    backbone = NETWORKS["mobilenet_v3_small_050"]()
    monkeypatch.setattr(keras_hub.models.Backbone, "from_preset", lambda name: backbone)
    (block,) = [block for block in blocks_of(README) if "keras_hub" in block]
    names = {"keras_hub": keras_hub, "keras_gcp": keras_gcp}
    exec(compile(block, "README", "exec"), names)
    flat = keras_gcp.flatten(names["backbone"])
    assert keras_gcp.count(names["small"]).macs <= 0.5 * keras_gcp.count(flat).macs


def needs_more(block: str) -> bool:
    """Whether a block is of packages that not every environment has."""
    return "keras_hub" in block or "keras_gcp.tfmot" in block


def small_classifier():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    h = keras.layers.Conv2D(32, 3, padding="same", use_bias=False)(inputs)
    h = keras.layers.ReLU()(keras.layers.BatchNormalization()(h))
    h = keras.layers.Conv2D(32, 3, activation="relu")(h)
    h = keras.layers.GlobalAveragePooling2D()(h)
    model = keras.Model(inputs, keras.layers.Dense(4, activation="softmax")(h), name="small")
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    x = np.random.default_rng(0).random((64, 8, 8, 3), dtype="float32")
    return model, (x, np.arange(64) % 4)


# ------------------------------------------------------------------------------------- notebooks


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_has_code_that_compiles_and_one_cell_of_settings(path):
    notebook = json.loads(path.read_text("utf-8"))
    assert notebook["nbformat"] == 4
    code = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]
    assert len(code) > 4
    compile("\n".join(code), str(path), "exec")
    (settings,) = [c for c in notebook["cells"] if "parameters" in c["metadata"].get("tags", ())]
    names = {node.targets[0].id for node in ast.parse("".join(settings["source"])).body}
    assert set(TINY[path.stem]) <= names


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_keeps_no_more_than_what_it_printed(path):
    cells = json.loads(path.read_text("utf-8"))["cells"]
    kept = [output for cell in cells for output in cell.get("outputs", ())]
    assert {output["output_type"] for output in kept} <= {"stream"}
    assert path.stat().st_size < 40_000


@pytest.mark.needs_tensorflow("it writes a TFLite file")
@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=[pytest.mark.slow] * (path.stem in SLOW_NOTEBOOKS))
        for path in NOTEBOOKS
    ],
)
def test_the_notebook_runs_with_tiny_settings(path, in_a_folder):
    nbclient = pytest.importorskip("nbclient", reason="comes with the docs extra")
    nbformat = pytest.importorskip("nbformat", reason="comes with the docs extra")
    notebook = nbformat.read(path, as_version=4)
    at = next(i for i, c in enumerate(notebook.cells) if "parameters" in c.metadata.get("tags", ()))
    tiny = "\n".join(f"{name} = {value!r}" for name, value in TINY[path.stem].items())
    notebook.cells.insert(at + 1, nbformat.v4.new_code_cell(tiny))
    nbclient.NotebookClient(notebook, timeout=600).execute()


# ---------------------------------------------------------------------------------- what is where


def test_every_published_system_has_a_page():
    told = set(re.findall(r"docs/methods/(\w+)\.md", methods.__doc__))
    assert told == {page.stem for page in PAGES if page.parent.name == "methods"}


def test_there_is_a_page_on_own_layers():
    assert DOCS / "own_layers.md" in PAGES
