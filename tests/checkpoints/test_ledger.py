"""The ledger keeps the last state of each entry, and reads whatever is in its file."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trackkit.checkpoints.entry import STATES, Entry, File, is_safe_name, parse_line, to_line
from trackkit.checkpoints.ledger import LEDGER, Ledger, read_ledger
from trackkit.checkpoints.rules import Rules
from trackkit.checkpoints.uploads import UploadError

ENTRY = Entry(
    number=7,
    path="/saves/näme.ckpt",
    step=3,
    epoch=0.5,
    metric="val_loss",
    value=0.25,
    goal="min",
    time=12.5,
    framework="lightning",
    collection="model-x",
    state="hashed",
    files=(File("näme.ckpt", 10, 3, 4, "md5=="), File("sub/b.pt", 1)),
    digest="d",
    promoted=("staging",),
)


def test_last_state_of_each_entry_counts(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.put(ENTRY)
    ledger.put(replace(ENTRY, number=8, value=-math.inf))
    ledger.change(7, state="committed", version="model-x:v0")
    ledger.change(7, state="committed")
    assert read_ledger(tmp_path) == ledger.entries == Ledger(tmp_path).entries
    assert [each.state for each in ledger.entries] == ["committed", "hashed"]
    lines = (tmp_path / LEDGER).read_text().splitlines()
    assert len(lines) == 3
    assert all(json.loads(line) for line in lines)


def test_server_s_words_are_masked(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.put(ENTRY)
    assert ledger.change(7, reason="refused: PUT https://me:pw7K@host/x failed").reason == (
        "refused: PUT https://***@host/x failed"
    )
    assert "pw7K" not in (tmp_path / LEDGER).read_text()
    assert "pw7K" not in str(UploadError("PUT https://me:pw7K@host/x failed"))


def test_options_are_read_back_and_survive_the_loss_of_the_file(tmp_path: Path) -> None:
    rules = Rules(keep=10, promote={"registry": "r", "alias": "a"})
    ledger = Ledger(tmp_path)
    ledger.set_options(rules.options)
    assert not (tmp_path / LEDGER).exists()
    ledger.put(ENTRY)
    assert Rules.recorded(Ledger(tmp_path).options) == rules
    (tmp_path / LEDGER).unlink()
    ledger.put(replace(ENTRY, number=8))
    assert Rules.recorded(Ledger(tmp_path).options) == rules
    ledger.set_options(Rules(keep=5).options)
    again = Ledger(tmp_path)
    assert (Rules.recorded(again.options), len(again.entries)) == (Rules(keep=5), 2)


@pytest.mark.parametrize(
    "damaged", ['{"options":{"keep":0}}', '{"options":{"more":1}}', '{"options":7}', '{"options":']
)
def test_damaged_options_are_the_defaults(tmp_path: Path, damaged: str) -> None:
    (tmp_path / LEDGER).write_text(damaged + "\n" + to_line(ENTRY) + "\n")
    assert Rules.recorded(Ledger(tmp_path).options) == Rules()
    assert read_ledger(tmp_path) == [ENTRY]


def test_metadata_is_strict_json() -> None:
    for value in (0.5, None, math.nan, math.inf):
        text = json.dumps(replace(ENTRY, value=value).metadata, allow_nan=False)
        assert json.loads(text)["files"] == {"näme.ckpt": 10, "sub/b.pt": 1}


@settings(max_examples=50, deadline=None)
@given(
    st.builds(
        Entry,
        number=st.integers(1, 10**9),
        path=st.text(),
        step=st.integers(0, 10**12),
        epoch=st.none() | st.floats(0, 1e6),
        value=st.none() | st.floats(allow_nan=False, max_value=1e9, min_value=-1e9),
        time=st.floats(0, 1e12),
        used=st.booleans(),
        links=st.lists(st.text(), max_size=3).map(tuple),
        reason=st.text(),
    )
)
def test_line_gives_its_entry_back(entry: Entry) -> None:
    line = to_line(entry)
    assert "\n" not in line
    assert parse_line(line) == entry


def test_damaged_lines_are_skipped(tmp_path: Path) -> None:
    chance = random.Random(7)
    good = [to_line(replace(ENTRY, number=number)) for number in range(1, 30)]
    for _ in range(100):
        data = bytearray("\n".join(good).encode())
        for _ in range(chance.randrange(1, 20)):
            at = chance.randrange(len(data))
            data[at : at + chance.randrange(4)] = bytes(chance.randrange(256) for _ in range(chance.randrange(4)))
        (tmp_path / LEDGER).write_bytes(data)
        for entry in read_ledger(tmp_path):
            assert entry.number > 0
            assert all(is_safe_name(file.name) for file in entry.files)
            to_line(entry)


def test_fields_of_a_wrong_type_are_left_out(tmp_path: Path) -> None:
    given = {
        "number": 1,
        "path": "/a",
        "step": "3",
        "value": [],
        "state": "sold",
        "files": [{"name": "../x", "size": 1}],
    }
    lines = [
        given,
        {"number": True, "path": "/a"},
        {"number": 2},
        {"number": -1, "path": "/a"},
        [],
        5,
        {"number": 1e400},
    ]
    (tmp_path / LEDGER).write_text("\n".join(map(json.dumps, lines)))
    assert read_ledger(tmp_path) == [Entry(1, "/a")]


def test_cut_line_does_not_swallow_the_next(tmp_path: Path) -> None:
    Ledger(tmp_path).put(ENTRY)
    with (tmp_path / LEDGER).open("a") as file:
        file.write('{"number":9,"pa')
    Ledger(tmp_path).put(replace(ENTRY, number=10))
    assert [each.number for each in read_ledger(tmp_path)] == [7, 10]


def test_deleted_ledger_is_written_again(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.put(ENTRY)
    (tmp_path / LEDGER).unlink()
    ledger.put(replace(ENTRY, number=8))
    assert read_ledger(tmp_path) == ledger.entries


def test_what_cannot_be_written_is_written_with_the_next_line(tmp_path: Path) -> None:
    (tmp_path / LEDGER).mkdir()
    ledger = Ledger(tmp_path)
    ledger.put(replace(ENTRY, value=math.nan))
    assert not ledger.is_written
    (tmp_path / LEDGER).rmdir()
    ledger.put(replace(ENTRY, number=8))
    assert ledger.is_written
    assert [each.number for each in read_ledger(tmp_path)] == [7, 8]


def test_names_that_leave_the_folder_are_refused() -> None:
    assert [is_safe_name(name) for name in ("a", "a/b", "a b")] == [True] * 3
    assert [is_safe_name(name) for name in ("", "/a", "../a", "a/../../b", "a\0")] == [False] * 5


def test_present_entries_and_uploaded_bytes_follow_every_change(tmp_path: Path) -> None:
    ledger, chance = Ledger(tmp_path), random.Random(0)
    for number in range(1, 40):
        ledger.put(Entry(number, "/a", collection=chance.choice("ab"), files=(File("a", number),)))
        changed = chance.randint(1, number)
        ledger.change(changed, state=chance.choice(STATES), version=chance.choice(["", "a:v1"]))
        again = Ledger(tmp_path)
        assert ledger.entries == again.entries
        assert ledger.present == again.present == [each for each in ledger.entries if each.is_present]
        assert ledger.uploaded == again.uploaded
        assert ledger.last("a") == next((each for each in ledger.entries[::-1] if each.collection == "a"), None)
