"""Numbers as people read them, rounding at the borders of a unit included;
tables hold every cell whole."""

from __future__ import annotations

import numpy as np
import pytest

from keras_gcp import formatting
from keras_gcp.errors import InvalidArgument
from keras_gcp.formatting import LINE, shortened, shortened_names, table, wrapped


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (512, "512"),
        (999.9, "1000"),
        (1000, "1.00 k"),
        (94_800, "94.8 k"),
        (999_600, "1.00 M"),
        (1_234_567, "1.23 M"),
        (125_485_696, "125 M"),
        (2_100_000_000, "2.10 G"),
        (-1_500, "-1.50 k"),
    ],
)
def test_counts(value, text):
    assert formatting.count(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.04, "0.04 s"), (2.31, "2.3 s"), (41.3, "41 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")],
)
def test_seconds(value, text):
    assert formatting.seconds(value) == text


def test_sizes_shares_latencies_and_factors():
    assert formatting.file_size(948) == "948 B"
    assert formatting.file_size(1_101_120) == "1.10 MB"
    assert formatting.percent(0.4928) == "49.3 %"
    assert formatting.milliseconds(0.16796) == "0.168 ms"
    assert formatting.factor(40.8, 20.0) == "2.04x"
    assert formatting.factor(1, 0) == "–"


def test_columns_of_numbers_are_aligned_to_the_right():
    lines = table(["layer", "kept"], [["a", 8], ["long_name", 1024]]).splitlines()

    assert lines[0].split() == ["layer", "kept"]
    assert lines[-2].endswith("    8")
    assert lines[-1].endswith("1,024")
    assert lines[-2].startswith("a ")


@pytest.mark.parametrize("cell", ["8 of 16", "49.3 %", "1.23 M", "1.10 MB", "2.04x", "0.168 ms"])
def test_numbers_with_units_count_as_numbers(cell):
    last = table(["a heading that is wider"], [[cell]]).splitlines()[-1]

    assert len(last) == len("a heading that is wider")
    assert last.endswith(f" {cell}")


def test_long_cells_are_wrapped_and_nothing_is_cut_off():
    reason = " ".join(f"word{i}" for i in range(60))
    text = table(["layer", "why"], [["conv", reason]], width=60)

    assert all(len(line) <= 60 for line in text.splitlines())
    assert [word for word in text.split() if word.startswith("word")] == reason.split()


def test_a_title_may_be_longer_than_its_table():
    title = "half of the multiply-adds, a sample of 512"
    assert table(["a"], [["b"]], title=title).splitlines()[0] == title
    assert max(map(len, table(["a"], [["b"]], title=title, width=20).splitlines())) <= 20


def test_a_table_is_the_same_text_in_a_notebook(monkeypatch):
    whole = table(["layer", "kept"], [["conv", "8 of 16"]])
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    assert table(["layer", "kept"], [["conv", "8 of 16"]]) == whole != ""


def test_square_brackets_are_text_and_not_markup():
    assert "[bold]x[/bold]" in table(["[red]name"], [["[bold]x[/bold]"]], title="[blue]")


def test_values_of_all_kinds_have_a_text():
    row = table(["a", "b", "c", "d", "e"], [[None, True, np.int64(1234567), np.float32(0.1), "x"]])

    assert row.splitlines()[-1].split() == ["yes", "1,234,567", "0.1", "x"]


def test_rows_of_the_wrong_length_are_refused():
    with pytest.raises(InvalidArgument, match="1 cells for 2 columns"):
        table(["a", "b"], [["only one"]])


def test_names_too_long_for_a_table_lose_their_middle_and_are_never_broken():
    names = [f"conv{i}_block{j}_preact_1_convolution" for i in range(3) for j in range(9, 12)]
    rows = [[name, "8 of 16", f"{name}, {name}", "because " * 9] for name in names]
    text = table(["group", "kept", "tied", "why"], rows)
    shown = [line.split()[0] for line in text.splitlines()[2:] if not line.startswith(" ")]

    assert max(map(len, text.splitlines())) <= LINE
    assert len(set(shown)) == len(shown) == len(names)  # They differ in their middle.
    for name, short in zip(names, shown, strict=True):
        head, _, tail = short.partition("…")
        assert name.startswith(head) and name.endswith(tail)
    assert text.count("8 of 16") == len(names)


def test_names_that_fit_are_shown_whole():
    text = table(["group", "why"], [["stage1_block1_conv1", "because " * 20]])
    assert "stage1_block1_conv1 " in text and "…" not in text


def test_numbers_are_never_shortened_though_the_table_gets_wider():
    numbers = [f"{i}234,567" for i in range(1, 10)] * 2
    text = table([f"{i}" for i in range(len(numbers))], [numbers])
    assert text.splitlines()[-1].split() == numbers


@pytest.mark.parametrize("width", [5, 9, 16, 40])
def test_shortened_texts_keep_both_ends_and_their_length(width):
    name = "stage_3/block_17/first_convolution_2"
    short = shortened(name, width)
    assert len(short) == min(width, len(name)) and short[0] == "s" and short[-1] == "2"
    assert shortened("conv", width) == "conv"


def test_names_that_only_differ_at_one_place_stay_different():
    for place in (0, 6, 10, 20, 29):
        names = ["x" * place + letter + "y" * (29 - place) for letter in "abc"]
        assert len(set(shortened_names(names, 12).values())) == 3


def test_long_lines_are_broken_between_words_and_short_ones_left_alone():
    text = "  spaces   stay  where a line   fits"
    assert wrapped(text) == text
    long = " ".join(["word"] * 40) + " " + "n" * 100
    lines = wrapped(long).splitlines()
    assert max(map(len, lines)) <= LINE and all(line.startswith("  ") for line in lines[1:])
    assert " ".join(lines).split()[:-1] == ["word"] * 40 and lines[-1].endswith("n…" + "n" * 38)
