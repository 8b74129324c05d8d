"""The vocabulary, and the page generated from it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.processes import ROOT, run_python
from tests.support.toy import TRAININGS, Recipe
from trackkit import TrackKit
from trackkit.integrations.memory import MemorySink
from trackkit.schema.keys import KEYS, axis_key, describe, markdown


def test_schema_page_is_up_to_date(tmp_path: Path) -> None:
    made = run_python("import runpy; runpy.run_module('trackkit.schema.keys', run_name='__main__')", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    remedy = f"run: {Path(sys.executable).name} -m trackkit.schema.keys > docs/schema.md"
    assert (ROOT / "docs" / "schema.md").read_text() == made.stdout == markdown(), remedy


def test_every_key_has_one_complete_line() -> None:
    assert len({key.name for key in KEYS}) == len(KEYS)
    assert all(key.written and key.meaning for key in KEYS)
    assert {key.name.split("/")[0] for key in KEYS} == {"batch", "epoch", "device", "samples", "final"}
    assert not any("|" in text or "\n" in text for key in KEYS for text in key), "lines are cells of a table"


@pytest.mark.parametrize("framework", sorted(TRAININGS))
def test_keys_of_a_real_run_are_in_the_vocabulary(framework: str) -> None:
    options = {"grad_norm": {"per_layer": True}, "throughput": {"flops_per_sample": 1.0, "peak_flops": 1.0}}
    kit = TrackKit(sinks=[sink := MemorySink()], callbacks=options)
    TRAININGS[framework](Recipe(), Path("out"), [kit])
    lines = {key: describe(key) for row in sink.rows for key in row.values} | {
        key: describe(key) for key in sink.columns
    }
    assert [key for key, line in lines.items() if line is None] == []
    catch_all = {key for key, line in lines.items() if line is not None and line.name == "batch/<name>"}
    assert catch_all == {"batch/acc", "batch/train_loss"}, "measured keys have lines of their own"


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("batch/loss", "batch/loss"),
        ("batch/lr/head", "batch/lr/<group>"),
        ("batch/lr/SGD_0/head", "batch/lr/<group>"),
        ("batch/rewards/format", "batch/<name>"),
        ("epoch/step", "epoch/step"),
        ("epoch/val/acc", "epoch/<split>/<name>"),
        ("final/steps", "final/steps"),
        ("final/val/loss", "final/<split>/<name>"),
        ("final/best/val/acc", "final/best/val/<name>"),
    ],
)
def test_describe_returns_the_most_literal_line(key: str, line: str) -> None:
    found = describe(key)
    assert found is not None
    assert found.name == line


@pytest.mark.parametrize(
    "key", ["loss", "system/gpu", "batch/", "batch/a b", "epoch/validation/acc", "device/x", "final/x/acc"]
)
def test_describe_returns_none_for_an_unknown_key(key: str) -> None:
    assert describe(key) is None


def test_axes_follow_the_tier() -> None:
    assert axis_key("batch/acc") == axis_key("device/gpu_mem_reserved_GB") == "batch/step"
    assert (axis_key("epoch/val/acc"), axis_key("epoch/val/acc", "epoch")) == ("epoch/step", "epoch/epoch")
