"""The samples in a run's folder: what is written, and that nothing in the file harms its reader."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import wandb

from trackkit.engine.tables import Table
from trackkit.integrations.wandb.media import to_media
from trackkit.local_log import samples
from trackkit.local_log.samples import MAX_CELL, SamplesFile, read_samples

SECRET = "hf_" + "aB3dE6gH9jK2mN5pQ8sT1vW4xY7zA0cD3f"


def test_tables_and_texts_are_read_as_they_were_logged(tmp_path: Path) -> None:
    """W&B's and pandas tables too; pictures are left out. Numbers stay numbers, NaN included; messages stay lists."""
    file = SamplesFile(tmp_path / samples.NAME)
    message = [{"role": "user", "content": "hello"}]
    file.write({"samples/a": Table(["step", "prompt", "reward"], [[1, message, 0.5], [1, "NaN", math.nan]])}, 1)
    file.write({"samples/b": wandb.Table(["x"], [[2]]), "samples/c": pd.DataFrame({"y": np.array([1, 2])})}, 2)
    file.write({"samples/d": "a text", "samples/e": torch.ones(3, 3), "samples/f": object()}, 3)
    found = read_samples(tmp_path)
    assert [(each.key, each.step, each.columns) for each in found] == [
        ("samples/a", 1, ["step", "prompt", "reward"]),
        ("samples/b", 2, ["x"]),
        ("samples/c", 2, ["y"]),
        ("samples/d", 3, ["text"]),
    ]
    assert found[0].rows[0] == [1, message, 0.5]
    assert found[0].rows[1][1] == "NaN"
    assert math.isnan(found[0].rows[1][2])
    assert [each.rows for each in found[1:]] == [[[2]], [[1], [2]], [["a text"]]]


def test_later_attempt_counts_where_a_resumed_training_repeats_steps(tmp_path: Path) -> None:
    """As of rows. Two tables of one step and attempt both count."""
    file = SamplesFile(tmp_path / samples.NAME)
    for attempt, step in ((1, 2), (1, 4), (1, 4), (2, 4), (2, 4), (2, 6)):
        file.write({"samples/a": f"{attempt} at {step}"}, step, attempt)
    file.write({"samples/b": "another key"}, 1, 2)
    found = [(each.attempt, each.step, each.rows[0][0]) for each in read_samples(tmp_path)]
    assert found == [
        (1, 2, "1 at 2"), (2, 4, "2 at 4"), (2, 4, "2 at 4"), (2, 6, "2 at 6"), (2, 1, "another key")
    ]  # fmt: skip


def test_secrets_are_masked_and_long_cells_cut(tmp_path: Path) -> None:
    file = SamplesFile(tmp_path / samples.NAME)
    rows = [[f"use {SECRET} now", [{"content": SECRET}], "word " * 4000, "\udc80", object(), np.ones(2)]]
    file.write({"samples/a": Table(list("abcdef"), rows)}, 1)
    text = (tmp_path / samples.NAME).read_text()
    assert SECRET not in text
    media = to_media("samples/a", Table(list("ab"), [rows[0][:2]]))
    assert SECRET not in str(media.data)
    assert media.data[0][0].startswith("use ")
    cells = read_samples(tmp_path)[0].rows[0]
    assert cells[0].startswith("use ")
    assert MAX_CELL < len(cells[2]) < MAX_CELL + 50
    assert cells[3:] == ["\\udc80", "object", [1.0, 1.0]]


def test_table_that_does_not_fit_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Later ones that fit are written; one line says what is missing."""
    monkeypatch.setattr(samples, "MAX_TABLE", 500)
    monkeypatch.setattr(samples, "MAX_FILE", 700)
    file = SamplesFile(tmp_path / samples.NAME)
    for length in (600, 300, 30, 300):
        file.write({"samples/a": Table(["x"], [["y" * length]])}, length)
    assert [each.step for each in read_samples(tmp_path)] == [300, 30]
    assert (tmp_path / samples.NAME).stat().st_size < 700
    assert len([line for line in caplog.messages if "samples/a" in line and "too large" in line]) == 1


def test_damaged_lines_are_skipped(tmp_path: Path) -> None:
    """Cut lines, other types, deep nesting, a huge number, bytes that are no text, a link out of the folder."""
    good = {"key": "samples/a", "step": 1, "_time": 1.0, "columns": ["x"], "rows": [[1]]}
    bad = [
        "{", "[]", "1", "null", "[" * 100_000, json.dumps({**good, "step": "x"}), json.dumps({**good, "columns": 3}),
        json.dumps({**good, "rows": [[1, 2]]}), json.dumps({**good, "rows": 5}), json.dumps({**good, "step": 1e999}),
        json.dumps({"key": "samples/a"}),
    ]  # fmt: skip
    lines = [*bad, json.dumps(good)]
    (tmp_path / samples.NAME).write_bytes(b"\xff\xfe\n" + "\n".join(lines).encode() + b'\n{"key": "samp')
    assert [each.rows for each in read_samples(tmp_path)] == [[[1]]]
    SamplesFile(tmp_path / samples.NAME).write({"samples/b": "after a cut line"}, 2)
    assert [each.key for each in read_samples(tmp_path)] == ["samples/a", "samples/b"]
    other = tmp_path / "other"
    other.mkdir()
    (other / samples.NAME).symlink_to(tmp_path / samples.NAME)
    assert read_samples(other) == []
