"""Trains until a given step, where it may crash; can also resume from a checkpoint.

    python -m tests.support.doomed TASK    # the fields of `Task`, as JSON; in the folder of the training

Takes 80 steps in two epochs, with a row for each step and a checkpoint every 20 steps. Appends a line to the file
`truth` for each step the optimizer has finished, and to `saved` for each checkpoint. Under torchrun only rank 0 does.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from inspect import signature
from typing import Any

import torch
from torch.utils.data import DataLoader

from tests.support.toy import Net, Points

STEPS, EPOCH, SAVED = 80, 40, 20
RANK, RANKS = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


@dataclass(frozen=True)
class Task:
    """The options of a training.

    Attributes:
        framework: `lightning` or `huggingface`.
        kit: the settings of TrackKit; None trains without it.
        resume: the checkpoint to resume from; "" for none.
        out: output folder.
        before: Python code to run first.
        at, then: step, and the Python code to run before it; `net` is the model.
        after: Python code to run at the end.
        pause: seconds, before every step.
        steps: to train.
    """

    framework: str
    kit: dict[str, Any] | None = field(default_factory=dict)
    resume: str = ""
    out: str = "out"
    before: str = ""
    at: int = -1
    then: str = ""
    after: str = ""
    pause: float = 0.0
    steps: int = STEPS


def note(name: str, text: object) -> None:
    """Appends a line to a file in one write, so that a crash does not cut it short."""
    file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(file, f"{text}\n".encode())
    os.close(file)


def step_of(checkpoint: str) -> int:
    """Returns the step in the name of a checkpoint: 40 for `.../checkpoint-40` and `.../checkpoint-40.ckpt`."""
    return int(checkpoint.rpartition("-")[2].partition(".")[0]) if checkpoint else 0


def optimizer(net: torch.nn.Module, task: Task) -> torch.optim.Optimizer:
    """Returns an SGD optimizer that notes its steps and runs the task's `then`."""
    taken = step_of(task.resume)

    class Doomed(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            nonlocal taken
            time.sleep(task.pause)
            if taken == task.at:
                exec(task.then, {"net": net})
            result = super().step(closure)
            taken += 1
            if RANK == 0:
                note("truth", taken)
            return result

    return Doomed(net.parameters(), lr=0.1)


def with_lightning(task: Task, callbacks: list[Any]) -> None:
    import lightning.pytorch as pl
    from lightning.pytorch.callbacks import ModelCheckpoint

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()

        def training_step(self, batch: Any, _: int) -> torch.Tensor:
            return self.net(**batch)["loss"]  # type: ignore[no-any-return]

        def validation_step(self, batch: Any, _: int) -> None:
            self.log("val_loss", self.net(**batch)["loss"])

        def train_dataloader(self) -> Any:
            return DataLoader(Points(samples=4 * EPOCH * RANKS), 4)

        def val_dataloader(self) -> Any:
            return DataLoader(Points(5, 8), 4)

        def configure_optimizers(self) -> Any:
            return optimizer(self, task)

    class Saving(ModelCheckpoint):
        def _save_checkpoint(self, trainer: Any, filepath: str) -> None:
            super()._save_checkpoint(trainer, filepath)
            if RANK == 0:
                note("saved", filepath)

    saving = Saving(
        f"{task.out}/saved",
        "checkpoint-{step}",
        every_n_train_steps=SAVED,
        save_top_k=-1,
        auto_insert_metric_name=False,
    )
    ddp: dict[str, Any] = {"strategy": "ddp", "devices": RANKS} if RANKS > 1 else {}
    trainer = pl.Trainer(
        max_epochs=-1,
        max_steps=task.steps,
        accelerator="cpu",
        **ddp,
        log_every_n_steps=1,
        default_root_dir=task.out,
        callbacks=[*callbacks, saving],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        logger=False,
    )
    # Lightning 2.5 does not have the argument, and loads everything.
    everything: Any = {"weights_only": False} if "weights_only" in signature(trainer.fit).parameters else {}
    trainer.fit(Module(), ckpt_path=task.resume or None, **everything)


def with_huggingface(task: Task, callbacks: list[Any]) -> None:
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class Saving(TrainerCallback):
        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if RANK == 0:
                note("saved", os.path.abspath(f"{args.output_dir}/checkpoint-{state.global_step}"))

    net = Net()
    arguments = TrainingArguments(
        task.out,
        max_steps=task.steps,
        per_device_train_batch_size=4,
        per_device_eval_batch_size=4,
        logging_steps=1,
        eval_strategy="epoch",
        save_steps=SAVED,
        use_cpu=True,
        disable_tqdm=True,
        report_to="none",
    )
    trainer = Trainer(
        net,
        arguments,
        train_dataset=Points(samples=4 * EPOCH * RANKS),
        eval_dataset=Points(5, 8),
        callbacks=[*callbacks, Saving()],
        optimizers=(optimizer(net, task), None),
    )
    trainer.train(resume_from_checkpoint=task.resume or None)


TRAIN: dict[str, Callable[[Task, list[Any]], None]] = {"lightning": with_lightning, "huggingface": with_huggingface}


def main(task: Task) -> None:
    from trackkit import TrackKit

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    exec(task.before, {})
    TRAIN[task.framework](task, [TrackKit(**{"project": "p", **task.kit})] if task.kit is not None else [])
    exec(task.after, {})


def run(task: dict[str, Any]) -> None:
    """Calls `main` with the fields of a task."""
    main(Task(**task))


if __name__ == "__main__":
    run(json.loads(sys.argv[1]))
