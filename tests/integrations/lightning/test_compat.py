"""Private names of Lightning and torch: the installed versions have them, and a missing one is reported."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.loops import _TrainingEpochLoop
from lightning.pytorch.trainer.connectors.logger_connector.result import _ResultCollection

from trackkit.integrations.lightning import _compat


def test_installed_versions_have_every_private_name() -> None:
    assert _compat.missing() == []


@pytest.mark.parametrize(
    ("owner", "name", "reported"),
    [
        (_ResultCollection, "_get_cache", "Results._get_cache"),
        (Trainer, "_evaluation_loop", "Trainer._evaluation_loop"),
        (_TrainingEpochLoop, "_on_before_fetch", "Trainer.fit_loop.epoch_loop._on_before_fetch"),
    ],
)
def test_removed_name_is_reported(owner: type, name: str, reported: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(owner, name)
    assert _compat.missing() == [reported]


def test_unknown_name_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["Trainer._gone", "Trainer._gone.attribute", "Trainer.fit_loop.setup_data._gone", "Fused._gone"]
    monkeypatch.setattr(_compat, "PRIVATE", [_compat.Private(name, "", "", "") for name in names])
    assert _compat.missing() == names


def test_every_private_name_in_the_file_is_listed() -> None:
    source = Path(_compat.__file__).read_text(encoding="utf-8")
    functions = source[source.index("BEFORE_FETCH = ") : source.index("def missing")]
    used = set(re.findall(r"[.\"](_[a-z]\w+)", functions))
    assert used == {part for each in _compat.PRIVATE for part in each.name.split(".") if part.startswith("_")}


def test_no_other_file_reaches_a_private_name() -> None:
    folder = Path(_compat.__file__).parent
    for path in folder.glob("*.py"):
        if path.name != "_compat.py":
            private = re.findall(r"(?<!self)(?<!cls)\.(_[a-z]\w+)", path.read_text(encoding="utf-8"))
            assert private == [], path.name
