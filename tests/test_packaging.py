"""What is built is complete, typed, free of frameworks, and works by itself."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

import keras_gcp

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "keras_gcp"


def run(*command: object, cwd: Path) -> str:
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = (sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder)
    run(*build, ROOT, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as content:
        (name,) = [entry for entry in content.namelist() if entry.endswith("/METADATA")]
        return Parser().parsestr(content.read(name).decode())


def test_wheel_holds_the_whole_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as content:
        packed = {name for name in content.namelist() if ".dist-info/" not in name}
        licences = [name for name in content.namelist() if name.endswith("/LICENSE")]
    files = [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.jinja"), PACKAGE / "py.typed"]
    assert packed == {path.relative_to(ROOT).as_posix() for path in files}
    assert len(licences) == 1


def test_every_folder_is_a_regular_package():
    # import-linter overlooks folders without an __init__.py, and says nothing.
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


def test_version_has_a_single_source(wheel, metadata):
    assert metadata["Name"] == "keras-gcp"
    assert metadata["Version"] == keras_gcp.__version__
    assert f"-{keras_gcp.__version__}-" in wheel.name
    assert re.fullmatch(r"\d+\.\d+\.\d+", keras_gcp.__version__)


def test_the_command_line_is_installed(wheel):
    with zipfile.ZipFile(wheel) as content:
        (name,) = [one for one in content.namelist() if one.endswith("entry_points.txt")]
        assert "keras-gcp = keras_gcp.cli:main" in content.read(name).decode()


def test_no_framework_is_forced_on_the_user(metadata):
    requirements = metadata.get_all("Requires-Dist") or []
    base = {re.split(r"[^\w-]", line)[0] for line in requirements if "extra ==" not in line}
    assert base == {"filelock", "keras", "numpy", "platformdirs", "rich"}
    assert {"tensorflow", "jax", "torch", "tfmot", "examples", "cli", "tfds", "dev"} <= set(
        metadata.get_all("Provides-Extra") or []
    )
    # The CPU build beside a GPU build would shadow it.
    assert not [line for line in requirements if line.startswith("tensorflow-cpu")]


def test_wheel_works_outside_the_source_tree(wheel, tmp_path):
    target = tmp_path / "installed"
    install = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index")
    run(*install, "--target", target, wheel, cwd=tmp_path)
    printed = run(
        sys.executable,
        "-I",  # neither the current folder nor PYTHONPATH
        "-c",
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import keras_gcp, keras_gcp.models\n"
        "missing = [name for name in keras_gcp.__all__ if not hasattr(keras_gcp, name)]\n"
        "assert not missing, missing\n"
        "from keras_gcp.criteria.relevance.rules import registered_relevance_rules as rules\n"
        "assert len(rules()) > 100, len(rules())\n"  # They fill by themselves.
        "print(keras_gcp.__version__, keras_gcp.__file__, keras_gcp.models.__file__, sep='\\n')\n",
        target,
        cwd=tmp_path,
    )
    version, *files = printed.split("\n")[:3]
    assert version == keras_gcp.__version__
    assert all(Path(file).is_relative_to(target) for file in files)


def test_changelog_tells_of_this_version():
    text = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(rf"^## \[?{re.escape(keras_gcp.__version__)}\b", text, flags=re.MULTILINE)
