"""Long tables as text: widths, what a narrow terminal gets, and hostile cells."""

from __future__ import annotations

from trackkit.reading.text_table import TextTable, joined, visible

COLUMNS = {"name": ["a" * 30, "日本" * 4], "id": ["x" * 20, "y"], "n": ["1", "200"], "tags": ["some, tags", "-"]}


def table() -> TextTable:
    return TextTable(COLUMNS, right=["n"], whole=["id"])


def text(made: TextTable) -> list[str]:
    return [joined(cells) for cells in made.lines()]


def test_columns_are_padded_by_the_cells_they_take() -> None:
    head, first, second = text(table())
    assert head == f"name{'':28}id{'':20}  n  tags"
    assert first == f"{'a' * 30}  {'x' * 20}    1  some, tags"
    # A wide character takes two cells.
    assert second == f"{'日本' * 4}{'':16}y{'':21}200  -"


def test_narrow_terminal_drops_columns_then_cuts_texts() -> None:
    made = table()
    assert made.fit(60, ["tags", "n"]) == []
    assert text(made)[1] == f"{'a' * 20}…  {'x' * 20}    1  some, tags"
    assert made.fit(50, ["tags", "n"]) == ["tags"]
    assert text(made)[1] == f"{'a' * 20}…  {'x' * 20}    1"
    made.fit(10)
    assert text(made)[1:] == [f"{'a' * 15}…  {'x' * 20}    1", f"{'日本' * 4}  y{'':19}  200"]


def test_control_characters_do_not_reach_the_terminal() -> None:
    assert visible("a\x1b[31m\nb\u202e\ud800") == "a [31m b  "
    assert text(TextTable({"a\nb": ["\x07"]})) == ["a b", ""]
