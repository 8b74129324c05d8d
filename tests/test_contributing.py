"""The examples of CONTRIBUTING.md work: each is added as the page says and records a training."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.support.processes import ROOT
from tests.support.warm import run_bare

BLOCK = re.compile(r"```python\n# src/(\S+?)(?:, in (\w+))?\n(.*?)```", re.DOTALL)
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FILES = {path: text for path, registry, text in BLOCK.findall(PAGE) if not registry}
LINES = {registry: text.strip() for _, registry, text in BLOCK.findall(PAGE) if registry}

FRAMEWORK = {
    "my_trainer/__init__.py": "",
    "my_trainer/callbacks.py": "class Callback:\n    pass\n",
    "my_trainer/training.py": """
from types import SimpleNamespace

import torch

def train(callback):
    trainer = SimpleNamespace(folder="out", batch_size=4, step=0)
    callback.on_begin(trainer)
    for step in range(1, 4):
        trainer.step = step
        callback.on_step(trainer, torch.tensor(1 / step))
    callback.on_done(trainer)
""",
}
# The files lie beside the package's own: the package's folders are extended, not changed.
PROGRAM = f"""
import sys
sys.path.insert(0, "")
import trackkit.callbacks, trackkit.integrations
from trackkit import TrackKit, finish
from trackkit.callbacks import CALLBACKS
from trackkit.integrations import BACKENDS, FRAMEWORKS, Framework

for package in (trackkit.callbacks, trackkit.integrations):
    package.__path__.append(package.__name__.replace(".", "/"))
from trackkit.callbacks.weight_norm import WeightNorm

CALLBACKS.update({{{LINES["CALLBACKS"]}}})
FRAMEWORKS.update({{{LINES["FRAMEWORKS"]}}})
BACKENDS.update({{{LINES["BACKENDS"]}}})
"""
MY_TRAINER = """
kit = TrackKit(project="mine", callbacks={"weight_norm": False})
from my_trainer.callbacks import Callback
from my_trainer.training import train
assert isinstance(kit, Callback)
train(kit)
finish()
"""
LIGHTNING = """
from tests.support.lightning_toys import Silent, data, trainer
trainer([TrackKit(project="mine")], log_every_n_steps=1, default_root_dir="out").fit(Silent(), data(3))
finish()
"""


def run_examples(code: str) -> list[str]:
    """Runs a program with the page's files and lines added; returns the lines that the backend wrote."""
    for path, text in {**FILES, **FRAMEWORK}.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text)
    done = run_bare(PROGRAM + code, cwd=Path.cwd())
    assert done.returncode == 0, done.stderr
    assert "failed" not in done.stderr
    (rows,) = Path("out").rglob("rows.txt")
    return rows.read_text().splitlines()


def test_page_has_an_example_of_each_kind() -> None:
    assert sorted(FILES) == [
        "trackkit/callbacks/weight_norm.py",
        "trackkit/integrations/my_trainer.py",
        "trackkit/integrations/text_file.py",
    ]
    assert set(LINES) == {"CALLBACKS", "FRAMEWORKS", "BACKENDS"}


def test_framework_and_backend_of_the_page_record_a_training() -> None:
    rows = run_examples(MY_TRAINER)
    assert [row.split()[:2] for row in rows] == [["mine", "1"], ["mine", "2"], ["mine", "3"]]
    assert "'batch/samples': 12" in rows[-1]
    assert "batch/weight_norm" not in rows[-1]


def test_metric_of_the_page_is_recorded() -> None:
    run_examples(LIGHTNING)
    (log,) = Path("out").rglob("rows.jsonl")
    norms = [json.loads(line)["batch/weight_norm"] for line in log.read_text().splitlines()]
    assert len(norms) == 3
    assert all(norm > 0 for norm in norms)
