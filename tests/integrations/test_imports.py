"""One class serves every framework, in any order of imports. What imports load: `tests/test_structure.py`."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest

from tests.support.warm import run_bare
from trackkit import TrackKit
from trackkit.integrations.memory import MemorySink


def _run(code: str, cwd: Path) -> str:
    done = run_bare(code, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


BASES = """
from trackkit import TrackKit
from transformers import TrainerCallback
import lightning.pytorch as pl
import pytorch_lightning as ptl
kit = globals().get("kit") or TrackKit()
for base in (TrainerCallback, pl.Callback, ptl.Callback):
    assert isinstance(kit, base), base
    assert issubclass(TrackKit, base), base
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK
assert INTEGRATION_TO_CALLBACK["trackkit"] is TrackKit
from tests.support.huggingface_toys import make_trainer
from tests.support.toy import Recipe, with_lightning
from tests.support.local_log import local_run
from pathlib import Path
import trackkit
with_lightning(Recipe(epochs=1), Path("pl"), [kit])
make_trainer("hf", [kit]).train()
trackkit.finish()
for name in ("pl", "hf"):
    run = local_run(Path(name))
    assert len(run.history("batch/loss")) > 2 and run.run["status"] == "finished", (name, run.run)
print("good")
"""

ORDERS = {
    "trackkit first": "import trackkit",
    "frameworks first": "import transformers, lightning.pytorch, pytorch_lightning; import trackkit",
    "in between": "import transformers; import trackkit; import lightning.pytorch",
    "instance first": "import trackkit; kit = trackkit.TrackKit()",
}


@pytest.mark.parametrize("order", ORDERS)
def test_one_object_trains_with_both_frameworks_in_any_order_of_imports(order: str, tmp_path: Path) -> None:
    """`isinstance` holds for three bases, `report_to` is registered, and one instance records a run of each."""
    assert _run(ORDERS[order] + BASES, tmp_path).splitlines()[-1] == "good"


def test_without_an_import_transformers_says_what_it_knows(tmp_path: Path) -> None:
    """`report_to="trackkit"` needs `import trackkit` before `Trainer(...)`, and no sooner."""
    code = """
from transformers import Trainer, TrainingArguments
import torch
args = TrainingArguments("out", report_to="trackkit", use_cpu=True)
try:
    Trainer(torch.nn.Linear(1, 1), args)
except ValueError as error:
    assert "trackkit is not supported" in str(error), error
else:
    raise AssertionError("transformers took an unknown integration")
import trackkit
trainer = Trainer(torch.nn.Linear(1, 1), args)
assert any(isinstance(each, trackkit.TrackKit) for each in trainer.callback_handler.callbacks)
print("good")
"""
    assert _run(code, tmp_path).splitlines()[-1] == "good"


def test_an_instance_can_be_copied_and_pickled_with_both_frameworks_loaded() -> None:
    """Settings and sinks come along, before a training and after one; the open run does not."""
    import lightning.pytorch as pl
    from transformers import TrainerCallback

    kit = TrackKit(project="p", callbacks={"lr": False}, sinks=[MemorySink()])
    for twin in (copy.deepcopy(kit), pickle.loads(pickle.dumps(kit))):
        assert twin is not kit
        assert twin.config == kit.config
        assert twin.config is not kit.config
        assert isinstance(twin, pl.Callback)
        assert isinstance(twin, TrainerCallback)


def test_an_instance_is_copied_while_its_run_is_open(tmp_path: Path) -> None:
    """As Hugging Face's and Lightning's own code does with a trainer's callbacks."""
    from tests.support.huggingface_toys import make_trainer

    sink = MemorySink()
    kit = TrackKit(sinks=[sink])
    make_trainer(tmp_path, [kit]).train()
    twin = pickle.loads(pickle.dumps(kit))
    assert twin.config == kit.config
    make_trainer(tmp_path / "twin", [twin]).train()
    assert [step for step, _ in sink.history("batch/loss")] == [1, 2, 4, 6], "the twin writes to its own sinks"
    assert sink.columns["final/status"] == "finished"


def test_hydra_instantiates_it() -> None:
    """`_target_: trackkit.TrackKit`, with nested settings, alone and among a trainer's callbacks."""
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    node = OmegaConf.create(
        """
        callbacks:
          - _target_: trackkit.TrackKit
            project: my-project
            tags: [a, b]
            callbacks: {grad_norm: {per_layer: true}, lr: false}
        """
    )
    (kit,) = instantiate(node).callbacks
    assert isinstance(kit, TrackKit)
    assert (kit.config.project, kit.config.tags) == ("my-project", ["a", "b"])
    assert kit.config.callbacks == {"grad_norm": {"per_layer": True}, "lr": False}
