"""One toy training for each framework, and the same in plain torch: contract tests compare their numbers.

The data is in order and in whole batches, so every framework sees the same micro-batches. Each training logs loss and
accuracy of every micro-batch, of which a step has the mean, and evaluates loss and accuracy at the end of each epoch.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torch.utils.data import DataLoader, Dataset

SAMPLES, FEATURES, CLASSES, BATCH = 96, 6, 3, 4


@dataclass(frozen=True)
class Recipe:
    """The options of the training; everything else is fixed."""

    accumulation: int = 1
    clip: float = 0.0
    epochs: int = 2
    every: int = 3
    lr: float = 0.2


@dataclass
class Truth:
    """The numbers of the training: per optimizer step, and per epoch."""

    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    accs: list[float] = field(default_factory=list)
    val: list[tuple[int, float, float]] = field(default_factory=list)
    weights: dict[str, torch.Tensor] = field(default_factory=dict)


class Points(Dataset[dict[str, torch.Tensor]]):
    """Points of three classes, as dictionaries, in a fixed order."""

    def __init__(self, seed: int = 3, samples: int = SAMPLES) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.features = torch.randn(samples, FEATURES, generator=generator)
        self.labels = self.features[:, :CLASSES].argmax(1)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"features": self.features[index], "labels": self.labels[index]}


class Net(nn.Module):
    """A small classifier with the interface that Hugging Face expects."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(11)
            self.layers = nn.Sequential(nn.Linear(FEATURES, 8), nn.Tanh(), nn.Linear(8, CLASSES))

    def forward(self, features: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        logits = self.layers(features)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def accuracy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return (logits.argmax(-1) == labels).float().mean()


def schedule(step: int, total: int) -> float:
    """Returns the factor of the learning rate: linear decay, Hugging Face's default without warm-up."""
    return max(0.0, (total - step) / total)


def total_steps(recipe: Recipe, ranks: int = 1) -> int:
    return recipe.epochs * SAMPLES // BATCH // recipe.accumulation // ranks


def plain_training(recipe: Recipe) -> Truth:
    """Trains in plain torch."""
    net, train, val, truth = Net(), DataLoader(Points(), BATCH), DataLoader(Points(5, 24), BATCH), Truth()
    optimizer = torch.optim.SGD(net.parameters(), lr=recipe.lr)
    total, step = total_steps(recipe), 0
    for _ in range(recipe.epochs):
        micro: list[float] = []
        accs: list[float] = []
        for batch in train:
            out = net(**batch)
            (out["loss"] / recipe.accumulation).backward()
            micro.append(out["loss"].item())
            accs.append(accuracy(out["logits"], batch["labels"]).item())
            if len(micro) < recipe.accumulation:
                continue
            grads = [parameter.grad for parameter in net.parameters() if parameter.grad is not None]
            truth.norms.append(torch.cat([grad.flatten() for grad in grads]).norm().item())
            if recipe.clip:
                nn.utils.clip_grad_norm_(net.parameters(), recipe.clip)
            rate = recipe.lr * schedule(step, total)
            optimizer.param_groups[0]["lr"] = rate
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            truth.rates.append(rate)
            truth.losses.append(sum(micro) / len(micro))
            truth.accs.append(sum(accs) / len(accs))
            micro.clear()
            accs.clear()
        with torch.no_grad():
            outs = [(net(**batch), batch["labels"]) for batch in val]
            loss = sum(out["loss"].item() for out, _ in outs) / len(outs)
            acc = sum(accuracy(out["logits"], labels).item() for out, labels in outs) / len(outs)
        truth.val.append((step, loss, acc))
    truth.weights = {name: value.clone() for name, value in net.state_dict().items()}
    return truth


def with_lightning(recipe: Recipe, out: Path, callbacks: list[Any], **trainer_arguments: Any) -> Net:
    """Trains with Lightning; `trainer_arguments` are added to the Trainer's."""
    import lightning.pytorch as pl

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()

        def training_step(self, batch: dict[str, torch.Tensor], _: int) -> torch.Tensor:
            result = self.net(**batch)
            self.log("train_loss", result["loss"])
            self.log("train_acc", accuracy(result["logits"], batch["labels"]))
            loss: torch.Tensor = result["loss"]
            return loss

        def validation_step(self, batch: dict[str, torch.Tensor], _: int) -> None:
            result = self.net(**batch)
            self.log("val_loss", result["loss"])
            self.log("val_acc", accuracy(result["logits"], batch["labels"]))

        def train_dataloader(self) -> Any:
            return _loader(Points(), BATCH)

        def val_dataloader(self) -> Any:
            return DataLoader(Points(5, 24), BATCH)

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=recipe.lr)
            total = total_steps(recipe, self.trainer.world_size)
            scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule(step, total))
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    module = Module()
    trainer = pl.Trainer(
        max_epochs=recipe.epochs,
        accelerator="cpu",
        log_every_n_steps=recipe.every,
        accumulate_grad_batches=recipe.accumulation,
        gradient_clip_val=recipe.clip or None,
        default_root_dir=out,
        callbacks=callbacks,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"logger": False, "use_distributed_sampler": False, **trainer_arguments},
    )
    trainer.fit(module)
    return module.net


def with_huggingface(recipe: Recipe, out: Path, callbacks: list[Any], **training_arguments: Any) -> Net:
    """Trains with Hugging Face."""
    from transformers import Trainer, TrainingArguments

    net = Net()
    data = {"train_dataset": Points(), "eval_dataset": Points(5, 24)}
    _train_huggingface(
        Trainer, TrainingArguments, recipe, out, training_arguments, model=net, callbacks=callbacks, **data
    )
    return net


def with_trl(recipe: Recipe, out: Path, callbacks: list[Any], **training_arguments: Any) -> Net:
    """Trains with TRL's SFTTrainer, whose models are language models: the loss and the data are the toy's own."""
    from datasets import Dataset
    from transformers import PreTrainedConfig, PreTrainedModel, default_data_collator
    from transformers.modeling_outputs import SequenceClassifierOutput
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    class Model(PreTrainedModel):  # type: ignore[no-untyped-call]
        config_class = PreTrainedConfig

        def __init__(self, config: PreTrainedConfig) -> None:
            super().__init__(config)
            self.net = net

        def forward(self, features: torch.Tensor, labels: torch.Tensor) -> SequenceClassifierOutput:
            return SequenceClassifierOutput(**self.net(features, labels))

    def rows(points: Points) -> Dataset:
        return Dataset.from_dict({"features": points.features.tolist(), "labels": points.labels.tolist()})

    net = Net()
    own = {
        "dataset_kwargs": {"skip_prepare_dataset": True},
        "remove_unused_columns": False,
        "bf16": False,
        "gradient_checkpointing": False,
    }
    _train_huggingface(
        SFTTrainer,
        SFTConfig,
        recipe,
        out,
        {**own, **training_arguments},
        model=Model(PreTrainedConfig()),
        callbacks=callbacks,
        processing_class=_words(),
        data_collator=default_data_collator,
        train_dataset=rows(Points()),
        eval_dataset=rows(Points(5, 24)),
    )
    return net


def _words() -> Any:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({"<eos>": 0}, "<eos>")), eos_token="<eos>")  # type: ignore[no-untyped-call]


def _train_huggingface(
    trainer: Any, arguments: Any, recipe: Recipe, out: Path, training_arguments: dict[str, Any], **given: Any
) -> None:
    """Trains with a Hugging Face trainer; adds the logged accuracy in `log`, as TRL does.

    Args:
        trainer, arguments: classes of the trainer and its arguments.
        recipe, out: of the training.
        training_arguments: added to the arguments.
        given: to the trainer's constructor.
    """

    class ToyTrainer(trainer):  # type: ignore[misc]
        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, *_: Any, **__: Any) -> Any:
            result = model(**inputs)
            if model.training:
                acc = accuracy(result["logits"], inputs["labels"])
                self.micro = [*getattr(self, "micro", []), (result["loss"].item(), acc.item())]
            return (result["loss"], result) if return_outputs else result["loss"]

        def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
            last = self.micro[-recipe.accumulation :]
            loss, acc = (sum(each) / len(last) for each in zip(*last, strict=True))
            super().log({**logs, "train_loss": loss, "train_acc": acc} if "loss" in logs else logs, start_time)

        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            return torch.utils.data.SequentialSampler(self.train_dataset)

    def mean_accuracy(prediction: Any) -> dict[str, float]:
        logits = torch.as_tensor(prediction.predictions)
        return {"acc": accuracy(logits, torch.as_tensor(prediction.label_ids)).item()}

    ToyTrainer(
        args=arguments(
            str(out),
            num_train_epochs=recipe.epochs,
            per_device_train_batch_size=BATCH,
            per_device_eval_batch_size=BATCH,
            gradient_accumulation_steps=recipe.accumulation,
            max_grad_norm=recipe.clip,
            learning_rate=recipe.lr,
            optim="sgd",
            lr_scheduler_type="linear",
            logging_steps=recipe.every,
            logging_first_step=True,
            eval_strategy="epoch",
            save_strategy="no",
            use_cpu=True,
            disable_tqdm=True,
            **{"report_to": "none", **training_arguments},
        ),
        compute_metrics=mean_accuracy,
        **given,
    ).train()


def with_loop(recipe: Recipe, out: Path, callbacks: list[Any]) -> Net:
    """Trains with a loop of its own that `trackkit.loop` records; in plain torch if there is no TrackKit."""
    from trackkit.integrations.loop.loop import Loop

    net, train, val = Net(), _loader(Points(), BATCH), DataLoader(Points(5, 24), BATCH)
    if not callbacks:
        net.load_state_dict(plain_training(recipe).weights)
        return net
    optimizer = torch.optim.SGD(net.parameters(), lr=recipe.lr)
    total = total_steps(recipe)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule(step, total))
    with Loop(callbacks[0], net, optimizer, None, total, recipe.every, None) as track:
        for _ in range(recipe.epochs):
            micro: list[tuple[float, float]] = []
            for batch in track.batches(train):
                result = net(**batch)
                (result["loss"] / recipe.accumulation).backward()
                micro.append((result["loss"].item(), accuracy(result["logits"], batch["labels"]).item()))
                if len(micro) % recipe.accumulation == 0:
                    if recipe.clip:
                        clip_grad_norm_(net.parameters(), recipe.clip)
                    optimizer.step()
                    optimizer.zero_grad()
                    scheduler.step()
                track.step(result["loss"])
                if len(micro) % recipe.accumulation == 0:
                    last = micro[-recipe.accumulation :]
                    loss, acc = (sum(each) / len(last) for each in zip(*last, strict=True))
                    track.log({"train_loss": loss, "train_acc": acc})
            with torch.no_grad():
                outs = [(net(**batch), batch["labels"]) for batch in val]
            loss = sum(out["loss"].item() for out, _ in outs) / len(outs)
            acc = sum(accuracy(out["logits"], labels).item() for out, labels in outs) / len(outs)
            track.evaluation("val", {"val_loss": loss, "val_acc": acc}, samples=24)
    return net


def with_accelerate(recipe: Recipe, out: Path, callbacks: list[Any]) -> Net:
    """Trains with Accelerate, measured and logged by TrackKit if there is one."""
    from accelerate import Accelerator

    import trackkit

    net, optimizer = Net(), None
    trackers = [trackkit.AccelerateTracker() for _ in callbacks]
    accelerator = Accelerator(
        cpu=True, gradient_accumulation_steps=recipe.accumulation, project_dir=out, log_with=trackers
    )
    ranks = accelerator.num_processes
    total = total_steps(recipe, ranks)
    for tracker, kit in zip(trackers, callbacks, strict=True):
        tracker.kit = kit
        trackkit.accelerate(accelerator, total_steps=total, every=recipe.every)
    optimizer = torch.optim.SGD(net.parameters(), lr=recipe.lr)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule(step, total * ranks))
    loaders = DataLoader(Points(), BATCH), DataLoader(Points(5, 24), BATCH)
    model, optimizer, scheduler, train, val = accelerator.prepare(net, optimizer, scheduler, *loaders)
    accelerator.init_trackers("toy")
    step, micro = 0, []
    for epoch in range(recipe.epochs):
        for batch in train:
            with accelerator.accumulate(model):
                result = model(**batch)
                accelerator.backward(result["loss"])
                micro.append((result["loss"].item(), accuracy(result["logits"], batch["labels"]).item()))
                if accelerator.sync_gradients and recipe.clip:
                    accelerator.clip_grad_norm_(model.parameters(), recipe.clip)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
            if accelerator.sync_gradients:
                step += 1
                loss, acc = (sum(each) / len(micro) for each in zip(*micro, strict=True))
                micro.clear()
                if step in (1, total) or step % recipe.every == 0:
                    accelerator.log({"train_loss": loss, "train_acc": acc}, step=step)
        with torch.no_grad():
            outs = [(model(**batch), batch["labels"]) for batch in val]
        loss = sum(out["loss"].item() for out, _ in outs) / len(outs)
        acc = sum(accuracy(out["logits"], labels).item() for out, labels in outs) / len(outs)
        loss, acc = accelerator.gather(torch.tensor([[loss, acc]])).mean(0).tolist()
        accelerator.log({"val_loss": loss, "val_acc": acc, "epoch": epoch + 1, "step": step}, step=step)
    accelerator.end_training()
    # Freed now, DDP would join gloo's thread while it holds the GIL, which that thread may wait for (torch 2.13).
    _ALIVE.append(model)
    return net


_ALIVE: list[Any] = []


def _loader(data: Points, size: int) -> DataLoader[Any]:
    """Returns a loader in order; several ranks take batches in turn, as with Hugging Face."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        from accelerate.data_loader import BatchSamplerShard

        sampler = torch.utils.data.BatchSampler(torch.utils.data.SequentialSampler(data), size, False)
        rank, ranks = torch.distributed.get_rank(), torch.distributed.get_world_size()
        return DataLoader(data, batch_sampler=BatchSamplerShard(sampler, ranks, rank))
    return DataLoader(data, size)


TRAININGS: dict[str, Callable[..., Net]] = {"lightning": with_lightning, "huggingface": with_huggingface}

_TRL = {"trl": with_trl} if importlib.util.find_spec("trl") else {}
CONTRACT: dict[str, Callable[..., Net]] = {**TRAININGS, **_TRL, "loop": with_loop, "accelerate": with_accelerate}
"""The members of the adapter contract. TRL needs newer versions than the oldest that TrackKit works with."""
