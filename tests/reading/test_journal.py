"""`JOURNAL.md`: entries and stubs are appended, hand-written lines stay, runs link back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import trackkit
from tests.support.local_log import write_run
from trackkit.local_log.regular import ReadError
from trackkit.reading.journal import add_entry, add_stubs


def test_entry_has_the_figures_and_the_text_and_the_run_links_back(tmp_path: Path) -> None:
    best = {"final/best/val/loss": 0.25, "final/best/val/loss_step": 5, "final/steps": 10}
    folder = write_run(tmp_path, "a", {"git/commit": "1234567890", "git/dirty": True}, best)
    journal = tmp_path / "JOURNAL.md"
    add_entry(
        journal,
        trackkit.read_run(folder),
        "Tried a | larger rate.\nIt helped; key hf_abcdefghijklmnopqrstuvwxyzABCDEFGH.",
    )
    text = journal.read_text()
    assert text.startswith("# Journal\n\n## 2")
    assert "**finished**, 10 steps, 30 min, best val/loss 0.25 at step 5, commit 1234567*" in text
    assert "Tried a | larger rate.\nIt helped" in text
    assert "hf_abcdef" not in text
    heading = next(line for line in text.splitlines() if line.startswith("## ")).removeprefix("## ")
    assert trackkit.read_run(folder).run["notes"] == f"JOURNAL.md: {heading}"
    shout = write_run(tmp_path / "long", "b", name="\x1b[2J" + "n" * 3000)
    add_entry(tmp_path / "other.md", trackkit.read_run(shout), "Long.")
    assert max(map(len, (tmp_path / "other.md").read_text().splitlines())) < 300
    assert "\x1b" not in (tmp_path / "other.md").read_text()
    add_entry(journal, trackkit.read_run(folder), "Again.")
    assert journal.read_text().startswith(text)
    assert trackkit.read_run(folder).run["notes"] == f"JOURNAL.md: {heading}"


def test_hostile_figures_stay_on_their_line(tmp_path: Path) -> None:
    hostile = "a\n# heading \x1b[2J<b>"
    best = {"final/best/val/loss": hostile, "final/best/val/loss_step": hostile, "final/steps": hostile}
    config = {"git/commit": "a\n# \x1b[2J", "trackkit/settings/group": hostile}
    run = trackkit.read_run(write_run(tmp_path, "a", config, best, status=hostile))
    journal = tmp_path / "JOURNAL.md"
    # Of the command line: bytes that are no UTF-8.
    add_entry(journal, run, "Why \udcff.")
    assert add_stubs(journal, trackkit.runs(tmp_path)) == ["a # heading [2J&lt;b>"]
    text = journal.read_text(encoding="utf-8")
    assert "\x1b" not in text
    assert "<b>" not in text
    assert [line for line in text.splitlines() if line.startswith("# ")] == ["# Journal"]


def test_stub_is_made_once_for_each_group_that_has_ended(tmp_path: Path) -> None:
    for name, lr, group, status in (
        ("a", 0.1, "sweep|1", "finished"),
        ("b", 0.2, "sweep|1", "failed"),
        ("c", 0.3, "live", "running"),
        ("d", 0.3, None, "finished"),
    ):
        best = {"final/best/val/acc": lr, "final/best/val/acc_step": 5}
        live = {"host": "elsewhere", "boot_id": "other"} if status == "running" else {}
        config = {"hparams/lr": lr, "trackkit/settings/group": group}
        write_run(tmp_path / name, name, config, best, status=status, **live)
    journal = tmp_path / "JOURNAL.md"
    journal.write_text("# Mine\n\nA line of mine.\n")
    assert add_stubs(journal, trackkit.runs(tmp_path)) == ["sweep|1"]
    text = journal.read_text()
    assert text.startswith("# Mine\n\nA line of mine.\n\n## Group sweep|1 (2 runs)\n")
    assert "| a | finished | 0.1 | 7 | 0.1 |" in text
    journal.write_text(text.replace("_Why were these runs made, and what came of it?_", "Mine again."))
    assert add_stubs(journal, trackkit.runs(tmp_path)) == []
    assert journal.read_text().endswith("Mine again.\n")


def test_mistakes_are_named(tmp_path: Path) -> None:
    run = trackkit.read_run(write_run(tmp_path, "a"))
    with pytest.raises(ReadError, match="the entry is empty"):
        add_entry(tmp_path / "JOURNAL.md", run, "  ")
    with pytest.raises(ReadError, match="cannot write the journal"):
        add_entry(tmp_path / "no" / "JOURNAL.md", run, "text")
    with pytest.raises(ReadError, match="cannot read the journal"):
        add_stubs(tmp_path, trackkit.runs(tmp_path))
    assert "notes" not in json.loads((tmp_path / "_trackkit/a/run.json").read_text())
