"""Both of Lightning's import roots accept TrackKit: bare, in a list, in the CLI, pickled, copied, spawned."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest

from tests.support.lightning_toys import Logging, data, trainer
from tests.support.local_log import local_run, local_runs
from tests.support.warm import run_bare, run_script, run_spawning
from trackkit import TrackKit
from trackkit.integrations.memory import MemorySink

ROOTS = ("lightning.pytorch", "pytorch_lightning")

# A whole training by names of `root`; `kit` comes from what stands before it.
TRAIN = """
import torch
from torch.utils.data import DataLoader, TensorDataset

class Module(pl.LightningModule):
    def __init__(self, lr: float = 0.1):
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(2, 1)

    def training_step(self, batch, batch_idx):
        loss = self.layer(batch[0]).pow(2).mean()
        self.log("train_twice", 2 * loss, on_epoch=True)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)

    def train_dataloader(self):
        return DataLoader(TensorDataset(torch.ones(6, 2)), batch_size=2)
"""
FIT = """
pl.Trainer(callbacks=CALLBACKS, max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
           enable_progress_bar=False).fit(Module())
assert isinstance(kit, pl.Callback)
"""

ORDERS = {
    "framework first": "import ROOT as pl\nfrom trackkit import TrackKit\nkit = TrackKit()",
    "instance before the framework": "from trackkit import TrackKit\nkit = TrackKit()\nimport ROOT as pl",
    "the other root too": "import OTHER\nfrom trackkit import TrackKit\nkit = TrackKit()\nimport ROOT as pl",
}


def complete(folder: Path) -> None:
    """Asserts that the run of `TRAIN` in `folder` is complete."""
    run = local_run(folder)
    assert [step for step, _ in run.history("batch/loss")] == [1, 3]
    assert [step for step, _ in run.history("batch/grad_norm")] == [1, 3]
    for step, loss in run.history("batch/twice"):
        assert step in (1, 3)
        assert loss > 0
    assert [step for step, _ in run.history("epoch/train/twice")] == [3]
    assert run.config["hparams/lr"] == 0.1
    assert (run.run["status"], run.run["exit_code"]) == ("finished", 0)


@pytest.mark.parametrize(
    ("root", "order"), [*((ROOTS[0], order) for order in ORDERS), (ROOTS[1], "instance before the framework")]
)
def test_every_import_order_makes_a_callback_of_either_root(isolated: Path, root: str, order: str) -> None:
    other = ROOTS[1 - ROOTS.index(root)]
    start = ORDERS[order].replace("ROOT", root).replace("OTHER", other)
    callbacks = "[kit]" if order == "framework first" else "kit"
    done = run_bare(start + TRAIN + FIT.replace("CALLBACKS", callbacks), cwd=isolated)
    assert done.returncode == 0, done.stderr
    complete(isolated)


CLI = """
import sys
import ROOT as pl
from ROOT.cli import LightningCLI
{train}
LightningCLI(Module, save_config_kwargs={{"overwrite": True}})
"""
YAML = """
trainer:
  accelerator: cpu
  max_epochs: 1
  logger: false
  enable_checkpointing: false
  enable_progress_bar: false
  callbacks: {callbacks}
"""
ARGUMENTS = "init_args: {project: from-the-cli, synonyms: {twice: double}}"
ENTRIES = {
    "list": f"\n    - class_path: trackkit.TrackKit\n      {ARGUMENTS}",
    "bare": f"\n      class_path: trackkit.TrackKit\n      {ARGUMENTS}",
}


@pytest.mark.parametrize(("root", "entry"), [(ROOTS[0], "list"), (ROOTS[1], "bare")])
def test_cli_of_either_root_accepts_class_path_and_settings(isolated: Path, root: str, entry: str) -> None:
    (isolated / "program.py").write_text(CLI.format(train=TRAIN).replace("ROOT", root))
    (isolated / "config.yaml").write_text(YAML.format(callbacks=ENTRIES[entry]))
    done = run_script(isolated / "program.py", "fit", "--config", "config.yaml", cwd=isolated)
    assert done.returncode == 0, done.stderr
    run = local_run(isolated)
    assert run.config["trackkit/settings/project"] == "from-the-cli"
    assert {key for key in run.config if key.startswith("hparams/")} == {"hparams/lr"}
    assert [step for step, _ in run.history("batch/double")] == [1, 3]


def test_cli_reports_a_wrong_setting(isolated: Path) -> None:
    (isolated / "program.py").write_text(CLI.format(train=TRAIN).replace("ROOT", ROOTS[0]))
    entry = "\n    - class_path: trackkit.TrackKit\n      init_args: {mode: ofline}"
    (isolated / "config.yaml").write_text(YAML.format(callbacks=entry))
    done = run_script(isolated / "program.py", "fit", "--config", "config.yaml", cwd=isolated)
    assert done.returncode != 0
    # The command line checks the choices in the signature itself.
    assert "Literal['auto', 'online', 'offline', 'disabled']" in done.stderr
    assert local_runs(isolated) == []


@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda kit: pickle.loads(pickle.dumps(kit))])
def test_copy_records_a_run_of_its_own(isolated: Path, duplicate: object, used: bool) -> None:
    kit = TrackKit(sinks=[MemorySink()], names="keep")
    if used:
        trainer(kit).fit(Logging(), data(2))
    twin = duplicate(kit)  # type: ignore[operator]
    trainer(twin).fit(Logging(), data(4))
    assert twin.config.names == "keep"
    assert [run.summary["final/steps"] for run in local_runs(isolated)] == [2, 4][not used :]
    assert len({run.run["run_id"] for run in local_runs(isolated)}) == 1 + used


def test_copy_made_during_a_fit_does_not_disturb_it() -> None:
    sink = MemorySink()
    kit = TrackKit(sinks=[sink])

    class Copying(Logging):
        def on_train_batch_end(self, outputs: object, batch: object, batch_idx: int) -> None:
            copy.deepcopy(kit)
            pickle.dumps(kit)

    trainer(kit, log_every_n_steps=1).fit(Copying(), data(3))
    assert [step for step, _ in sink.history("batch/loss")] == [1, 2, 3]


SPAWN = """
import lightning.pytorch as pl
from tests.support.lightning_toys import Logging, data
from trackkit import TrackKit

if __name__ == "__main__":
    module = Logging()
    trainer = pl.Trainer(
        accelerator="cpu", strategy="ddp_spawn", devices=2, callbacks=TrackKit(), max_epochs=1, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(module, data(3), data(2))
    trainer.test(module, data(2), verbose=False)
"""


def test_fit_and_test_in_spawned_processes_are_one_run(isolated: Path) -> None:
    (isolated / "program.py").write_text(SPAWN)
    done = run_spawning(isolated / "program.py", cwd=isolated)
    assert done.returncode == 0, done.stderr
    run = local_run(isolated)
    assert [step for step, _ in run.history("batch/loss")] == [1, 3]
    assert [step for step, _ in run.history("epoch/val/loss")] == [3]
    assert len(run.history("epoch/test/loss")) == 1
    assert run.summary["final/steps"] == 3
    assert run.summary["final/test/loss"] == run.history("epoch/test/loss")[0][1]
    assert run.run["world_size"] == 2
