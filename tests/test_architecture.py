"""Rules of the layout that import contracts cannot say. Those they can are in pyproject.toml."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from keras_gcp import criteria

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "keras_gcp"

# Private names of the standard library and of TensorFlow, each with the file that needs it. Those
# of Keras have `keras_state/` for a home.
OF_OTHERS = {
    ("backend/tensorflow.py", "_registry"),
    ("backend/tensorflow.py", "_list_all_concrete_functions"),
    ("exporting/serving.py", "_exit"),
    ("graph.py", "_fields"),  # of a named tuple, and documented
}
BY_NAME = frozenset({"attrgetter", "delattr", "getattr", "hasattr", "setattr"})


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def names_defined(tree: ast.AST) -> set[str]:
    """Functions, classes, fields and attributes that a file itself makes."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_self(node):
            found.add(node.attr)
    return found


def is_self(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")


def names_used(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Attributes that a file reads or sets, with the line, those named in a string, too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.lineno, node.attr
        elif isinstance(node, ast.Call) and called(node) in BY_NAME:
            for argument in node.args:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield from ((node.lineno, part) for part in argument.value.split("."))


def called(node: ast.Call) -> str:
    return getattr(node.func, "id", getattr(node.func, "attr", ""))


def foreign_privates(source: str, file: str) -> list[str]:
    """Private attributes that a file uses and does not define."""
    tree = ast.parse(source)
    own = names_defined(tree)
    return [
        f"{file}:{line} {name}"
        for line, name in names_used(tree)
        if is_private(name) and name not in own and (file, name) not in OF_OTHERS
    ]


def test_private_state_of_keras_is_touched_in_keras_state_only():
    files = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}
    found = {file: foreign_privates(path.read_text(), file) for file, path in sorted(files.items())}
    inside = {file for file in found if file.startswith("keras_state/")}
    assert any(found[file] for file in inside)  # It can find.
    assert [one for file in found.keys() - inside for one in found[file]] == []


@pytest.mark.parametrize(
    "line",
    [
        "model._flatten_layers()",
        "getattr(layer, '_build_shapes_dict', None)",
        "variable.value._shape = (3,)",
        "operator.attrgetter('layer._dtype_policy')(model)",
        "class Pruner(keras.callbacks.Callback):\n    def end(self):\n        self._model.run()",
    ],
)
def test_a_private_attribute_is_found(line):
    assert len(foreign_privates(line, "x.py")) == 1


def test_private_attributes_of_a_files_own_classes_are_its_business():
    own = "class A:\n    def __init__(self):\n        self._n = 0\ndef f(a):\n    return a._n"
    assert foreign_privates(own, "x.py") == []


def test_exceptions_for_private_names_of_others_are_still_needed():
    used = {
        (file, name)
        for file, _ in OF_OTHERS
        for _, name in names_used(ast.parse((PACKAGE / file).read_text()))
    }
    assert used >= OF_OTHERS


def test_the_contract_of_criteria_names_every_criterion():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (listed,) = [c["modules"] for c in contracts["contracts"] if c["type"] == "independence"]
    found = {type(criteria.get(name)).__module__ for name in criteria.names()}
    assert set(listed) == found - {"keras_gcp.criteria.auto"}  # It chooses among them.


def test_every_name_of_the_package_has_its_layer():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (rooms,) = [c for c in contracts["contracts"] if c.get("containers") == ["keras_gcp"]]
    assert rooms["exhaustive"]
    listed = {name.strip() for layer in rooms["layers"] for name in layer.split("|")}
    found = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py"}
    found |= {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert {name for name in listed if not name.startswith("(")} == found - {"__init__"}


def test_at_the_top_lie_only_modules_without_a_room():
    top = {path.stem for path in PACKAGE.glob("*.py")}
    names = "__init__ __main__ _version errors extras graph public versions"
    assert top == set(names.split())
