"""Files that somebody else wrote, or altered: what is wrong is named, and nothing else happens."""

from __future__ import annotations

import copy
import errno
import json
import re
import threading

import networks
import numpy as np
import pytest
from helpers import random_plan
from storage.test_locks import holder_of

import keras_gcp
from keras_gcp.errors import InvalidArgument, KerasGCPError, WriteFailed
from keras_gcp.evaluation.frontier_result import FILE
from keras_gcp.evaluation.measurement_cache import WHOLE, Cache
from keras_gcp.resources.time_cache import TimeCache
from keras_gcp.selection.plan import Plan

ODD = [None, True, -1, 2.5, 1e300, 10**13, "x", "", [], [None], {}, {"a": 1}, float("nan")]
"""What may stand where something else was expected."""


def places_in(data, path=()):
    """The way to everything in plain data."""
    yield path
    if isinstance(data, list):
        data = dict(enumerate(data))
    for key, value in data.items() if isinstance(data, dict) else ():
        yield from places_in(value, (*path, key))


def altered(data, path, value):
    """The data with another value somewhere; `...` takes it out."""
    data = copy.deepcopy(data)
    inside = data
    for key in path[:-1]:
        inside = inside[key]
    if value is ...:
        del inside[path[-1]]
    else:
        inside[path[-1]] = value
    return data


def every_alteration(data, values=(..., *ODD)):
    for path in places_in(data):
        for value in values if path else ():
            yield path, altered(data, path, value)


# ---- plans


@pytest.mark.parametrize("name", networks.ALL)
def test_plans_of_all_networks_are_read_back(name):
    plan = random_plan(networks.ALL[name]())
    assert Plan.from_json(plan.to_json()).to_json() == plan.to_json()


@pytest.fixture(scope="module")
def plan():
    return keras_gcp.plan(
        networks.plain(), {"macs": 0.6, "parameters": 0.7}, selection={"align": 1}
    )


def test_an_altered_plan_is_refused_by_its_field_or_can_be_used(plan):
    """Every value of the file replaced by every odd one, or left out."""
    channels, refused = keras_gcp.trace(networks.plain()), 0
    for _, data in every_alteration(json.loads(plan.to_json())):
        try:
            read = Plan.from_json(json.dumps(data))
        except InvalidArgument as error:
            refused += 1
            assert re.match("Not a plan written by `Plan.to_json`: |The plan has", str(error))
            continue
        read.explain(), read.widths(), read.to_json(), repr(read)
        try:
            keras_gcp.selection.planning.keep_of(read, channels)
        except KerasGCPError:
            continue
    assert refused > 500


@pytest.mark.parametrize(
    "change, message",
    [
        (("layers", "a_conv", "width", 10**13), r"a_conv.width is 10+, but its groups have 8"),
        (("layers", "a_bn", "width", 10**13), "its layers have 10,0.* at most 67,108,864 are read"),
        (("layers", "a_conv", "kept", [8]), "a_conv.kept has 8, expected indices from 0 to 7"),
        (("layers", "a_conv", "kept", [-1]), "a_conv.kept has -1"),
        (("layers", "a_conv", "kept", [1, 1]), "a_conv.kept has an index twice"),
        (("layers", "a_conv", "kept", "abc"), "a_conv.kept is 'abc', expected list"),
        (("groups", 0, "positions", [99]), r"groups\[0\].positions has 99"),
        (("groups", 0, "members", []), r"groups\[0\].members is empty"),
        (("groups", 0, "members", 0, "path", "b"), "layer 'b', which is not among `layers`"),
        (("groups", 0, "members", 0, "width", -8), "width of 'a_conv' is -8"),
        (("before", "macs", float("inf")), "before.macs is inf, expected a finite number"),
        (("after", "parameters", -1), "after.parameters is -1, expected 0 or more"),
        (("slack", 0, "limit", "x"), r"slack\[0\].limit is 'x', expected float"),
        (("counted_at", [[10**9, 10**9, 3]]), r"counted_at\[0\] is .*at most 67,108,864 numbers"),
        (("notes", {"a": 1}), "notes.a is 1, expected str"),
        (("surplus", 1), "surplus is unknown"),
    ],
)
def test_what_is_wrong_with_a_plan_is_named(plan, change, message):
    data = altered(json.loads(plan.to_json()), change[:-1], change[-1])
    with pytest.raises(InvalidArgument, match=message):
        Plan.from_json(json.dumps(data))


@pytest.mark.parametrize("text", [b"\xff", None, 5, "[" * 100_000, "1" + "0" * 5000])
def test_what_is_no_json_is_no_plan(text):
    with pytest.raises(InvalidArgument, match="Not a plan written by|format"):
        Plan.from_json(text)


def test_plans_from_before_the_later_fields_are_read(plan):
    data = json.loads(plan.to_json())
    for name in ("slack", "checks", "uncounted", "outlooks", "counted_at"):
        del data[name]
    for name in ("before", "after"):
        del data[name]["further"], data[name]["activation_macs"]
    assert Plan.from_json(json.dumps(data)).after == plan.after


# ---- measurements


IDENTITY = {"weights": "abc", "seed": "0"}


@pytest.fixture
def cache(tmp_path):
    path = tmp_path / "cache.jsonl"
    values = Cache(path, IDENTITY)
    values.put(WHOLE, 0.9)
    values.put(("a", 4), 0.5)
    return path


def test_an_altered_cache_is_refused_with_file_line_and_field_or_holds_numbers(cache):
    lines = cache.read_text().splitlines()
    for number, line in enumerate(lines):
        for _, data in every_alteration(json.loads(line)):
            changed = [*lines[:number], json.dumps(data), *lines[number + 1 :]]
            cache.write_text("\n".join(changed) + "\n")
            try:
                found = Cache(cache, IDENTITY)
            except InvalidArgument as error:
                assert str(cache) in str(error)
                assert f"line {number + 1}" in str(error) or number == 0
            else:
                values = [found.get(key) for key in (WHOLE, ("a", 4))]
                assert all(value is None or np.isfinite(value) for value in values)


@pytest.mark.parametrize("value", ["abc", None, [1], float("nan"), float("inf")])
def test_a_value_that_is_no_finite_number_is_refused(cache, value):
    with cache.open("a") as file:
        file.write(json.dumps({"group": "b", "kept": 1, "value": value}) + "\n")
    with pytest.raises(InvalidArgument, match="cache.jsonl'.*line 4: value is .*, expected"):
        Cache(cache, IDENTITY)


def test_a_measurement_that_is_no_number_is_not_kept_on_disk(cache):
    values = Cache(cache, IDENTITY)
    values.put(("b", 2), float("nan"))
    assert np.isnan(values.get(("b", 2)))
    assert Cache(cache, IDENTITY).get(("b", 2)) is None


@pytest.mark.parametrize("content", [b"[" * 100_000 + b"\n", b"\xff\n", b"1\n", b'{"format": 1}\n'])
def test_what_is_no_cache_is_left_alone(content, tmp_path):
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(InvalidArgument, match="notes.txt' is not a cache"):
        Cache(path, IDENTITY)
    assert path.read_bytes() == content


def test_half_a_line_that_did_not_fit_on_the_disk_is_taken_back(tmp_path, monkeypatch):
    path = tmp_path / "cache.jsonl"
    values = Cache(path, IDENTITY)
    values.put(("a", 1), 0.5)
    before = path.read_bytes()

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("keras_gcp.evaluation.measurement_cache.os.fsync", full)
        with pytest.raises(WriteFailed, match="cache.jsonl': .*No space left.*run again"):
            values.put(("a", 2), 0.25)
    assert path.read_bytes() == before
    values.put(("a", 3), 0.75)
    again = Cache(path, IDENTITY)
    assert [again.get(("a", kept)) for kept in (1, 2, 3)] == [0.5, None, 0.75]
    assert [one.name for one in tmp_path.iterdir()] == ["cache.jsonl"]


def test_a_cache_that_another_process_is_writing_is_waited_for(tmp_path):
    path = tmp_path / "cache.jsonl"
    values = Cache(path, IDENTITY)
    with holder_of(tmp_path / "cache.jsonl.lock") as process:
        killer = threading.Timer(0.2, process.kill)
        killer.start()
        values.put(("a", 1), 0.5)
        assert process.wait() != 0
    assert Cache(path, IDENTITY).get(("a", 1)) == 0.5


def test_a_cache_where_no_file_can_be_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "cache.jsonl"):
        with pytest.raises(InvalidArgument, match="`cache` expects the path of a file"):
            Cache(path, IDENTITY)


def test_layer_times_that_cannot_be_are_measured_anew(tmp_path):
    times = TimeCache(tmp_path, {"processor": "this"})
    content = {
        "machine": {"processor": "this"},
        "milliseconds": {"good": 2.0, "nan": float("nan"), "less": -1.0, "none": 0},
    }
    times.path.write_text(json.dumps(content))
    times = TimeCache(tmp_path, {"processor": "this"})
    assert [times.get(key, lambda: 7.0) for key in content["milliseconds"]] == [2.0, 7.0, 7.0, 7.0]
    for text in ("[" * 100_000, json.dumps({**content, "milliseconds": {"good": "x"}})):
        times.path.write_text(text)
        assert TimeCache(tmp_path, {"processor": "this"}).get("good", lambda: 7.0) == 7.0


# ---- results


def a_sensitivity():
    points = [{"share": s, "kept": k, "value": v} for s, k, v in ((0.5, 4, 0.8), (0.25, 2, 0.5))]
    group = {"name": "a_conv", "layers": ["a_conv"], "width": 8, "points": points}
    other = {"name": "b_conv", "layers": ["b_conv"], "width": 12, "points": points}
    groups = [group, copy.deepcopy(other)]
    common = {"metric": "accuracy", "higher_is_better": True, "baseline": 0.9, "examples": 9}
    return {"format": 1, **common, "groups": groups}


def test_an_altered_sensitivity_is_refused_or_can_be_used():
    channels = keras_gcp.trace(networks.plain())
    groups = {g.name: g.coupled for g in channels.groups if g.anchored is None}
    scores = np.ones(channels.coupled_count)
    for _, data in every_alteration(a_sensitivity()):
        try:
            read = keras_gcp.Sensitivity.from_dict(data)
        except InvalidArgument as error:
            assert re.match("Not what `Sensitivity.to_dict` returned: |The sensitivity", str(error))
            continue
        read.explain(), read.to_dict()
        try:
            assert np.isfinite(read.weighted(scores, groups)).all()
        except InvalidArgument:
            continue


def test_a_width_from_a_file_allocates_nothing():
    data = a_sensitivity()
    data["groups"][0]["width"] = 10**13
    read = keras_gcp.Sensitivity.from_dict(data)
    assert read.weighted(np.ones(20), {"a_conv": np.arange(8)}).shape == (20,)


@pytest.mark.parametrize(
    "change, message",
    [
        (("baseline", float("nan")), "baseline is nan"),
        (("groups", 0, "points", 0, "kept", 9), r"groups\[0\].points\[0\] has .* keeps 9 of 8"),
        (("groups", 1, "points", []), r"groups\[1\] has another number of points"),
        (("groups", 0, "width", "8"), r"groups\[0\].width is '8', expected int"),
        (("examples", ...), "examples is missing"),
    ],
)
def test_what_is_wrong_with_a_sensitivity_is_named(change, message):
    with pytest.raises(InvalidArgument, match=message):
        keras_gcp.Sensitivity.from_dict(altered(a_sensitivity(), change[:-1], change[-1]))


def a_frontier():
    point = {"budget": 0.5, "share": 0.5, "macs": 9, "parameters": 9, "value": 0.5, "epochs": 1}
    common = {"metric": "accuracy", "higher_is_better": True, "resource": "macs"}
    return {"format": 1, **common, "points": [{**point, "path": "half.keras"}]}


def test_an_altered_frontier_is_refused_with_the_file_or_can_be_used(tmp_path):
    for _, data in every_alteration(a_frontier()):
        (tmp_path / FILE).write_text(json.dumps(data))
        try:
            read = keras_gcp.Frontier.load(tmp_path)
        except InvalidArgument as error:
            assert str(tmp_path) in str(error)
            continue
        read.explain(), read.to_dict()
        assert all(point.path.parent == tmp_path for point in read.points)


@pytest.mark.parametrize("name", ["../half.keras", "/etc/half.keras", "", "..", "."])
def test_a_frontier_names_files_of_its_own_folder_only(name, tmp_path):
    data = altered(a_frontier(), ("points", 0, "path"), name)
    (tmp_path / FILE).write_text(json.dumps(data))
    with pytest.raises(InvalidArgument, match=r"points\[0\].path is .*expected the name of a file"):
        keras_gcp.Frontier.load(tmp_path)


def test_a_folder_without_a_frontier_is_refused(tmp_path):
    with pytest.raises(InvalidArgument, match="is not a file that `keras_gcp.frontier` wrote"):
        keras_gcp.Frontier.load(tmp_path / "nowhere")
