"""The way of one loss value from a framework's hook to W&B is short, and the docs list it as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.walk import DOCS, TRAININGS, files, returns, table, walk, with_tables

FILES, RETURNS = 14, 6


@pytest.mark.parametrize("framework", TRAININGS)
def test_loss_passes_few_files_and_the_docs_list_its_calls(framework: str, tmp_path: Path) -> None:
    calls = walk(TRAININGS[framework])
    print(text := table(calls))
    passed = files(calls)
    assert passed[0].startswith("integrations/"), text
    assert (calls[-1].file.split("/")[:2], calls[-1].writer) == (["integrations", "wandb"], True), text
    assert "local_log/writer.py" in passed, text
    assert (len(set(passed)) <= FILES, returns(calls) <= RETURNS) == (True, True), text
    page = DOCS.read_text(encoding="utf-8")
    assert with_tables(page, {framework: text}) == page, "docs/architecture.md is out of date: run `make docs`"
