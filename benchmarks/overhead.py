"""Measures the cost of tracking: bare training, an empty callback, TrackKit and its peers, in turn, in one process.

    python benchmarks/overhead.py [--framework lightning huggingface loop] [--rounds 7] [--steps 1000] [--every 10 50]
                                  [--device cpu]

Prints two numbers for each round and variant. Wall: time per optimizer step, from the 20th step to the last, so without
start and end. Hooks: time per step inside the callbacks' hooks and the framework's logging calls, in separate rounds,
because timing has a cost too. Everything is offline, and every row has the same content and cadence. The peers' sets:

- Lightning: `self.log` of the loss, WandbLogger, LearningRateMonitor, `grad_norm` at each row;
- Hugging Face: WandbCallback;
- a plain loop: `wandb.log` of loss, rate and `clip_grad_norm_`'s norm at each row. (There is no empty callback.)

For the plain loop there is a third number: the processor time of the calls at a step without a row, in a loop that
does nothing else.
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any

os.environ.update(WANDB_MODE="offline", WANDB_SILENT="true", TOKENIZERS_PARALLELISM="false")
for variable in ("WANDB_RUN_ID", "WANDB_PROJECT"):
    os.environ.pop(variable, None)

import torch  # noqa: E402

DEVICE = "cpu"
WARM = 20
WIDTH = 64
BATCH = 32


class Clock:
    """Measures the time of the steps between the warm-up and the end, and the time inside hooks."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.seen = 0
        self.began = self.ended = 0.0
        self.inside = 0.0
        self.depth = 0

    def tick(self) -> None:
        self.seen += 1
        if DEVICE != "cpu" and self.seen in (WARM, self.steps):
            # The work of the steps before is part of their time.
            torch.cuda.synchronize()
        if self.seen == WARM:
            self.began = time.perf_counter()
            self.inside = 0.0
        elif self.seen == self.steps:
            self.ended = time.perf_counter()
            self.inside_at_end = self.inside

    @property
    def wall_us(self) -> float:
        return (self.ended - self.began) / (self.steps - WARM) * 1e6

    @property
    def hooks_us(self) -> float:
        return self.inside_at_end / (self.steps - WARM) * 1e6

    def time(self, owner: Any, *names: str) -> None:
        """Counts the time inside `owner`'s methods; nested calls count once."""
        for name in names:
            setattr(owner, name, self._timed(getattr(owner, name)))

    def _timed(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            if self.depth:
                return method(*args, **kwargs)
            self.depth += 1
            began = time.perf_counter()
            try:
                return method(*args, **kwargs)
            finally:
                self.inside += time.perf_counter() - began
                self.depth -= 1

        return timed


def network() -> torch.nn.Module:
    nn = torch.nn
    return nn.Sequential(nn.Linear(WIDTH, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 1))


def batches(steps: int) -> torch.utils.data.TensorDataset:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(steps * BATCH, WIDTH, generator=generator)
    return torch.utils.data.TensorDataset(features, features.sum(1, keepdim=True))


def hooks_of(callback: Any) -> list[str]:
    """Returns the hooks that the callback's own class, or TrackKit, defines."""
    bases = (
        "lightning.pytorch.callbacks.callback",
        "pytorch_lightning.callbacks.callback",
        "transformers.trainer_callback",
    )
    named = (name for name in dir(callback) if name.startswith("on_"))
    return [name for name in named if getattr(type(callback), name).__module__ not in bases]


# -- Lightning ---------------------------------------------------------------------------------------------------


def lightning_round(variant: str, steps: int, every: int, hooks: bool, folder: str) -> float:
    import lightning.pytorch as pl
    from lightning.pytorch.callbacks import Callback, LearningRateMonitor
    from lightning.pytorch.loggers import WandbLogger
    from lightning.pytorch.utilities import grad_norm

    clock = Clock(steps)
    peers = variant == "peers"

    class Net(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            clock.tick()
            features, targets = batch
            loss = torch.nn.functional.mse_loss(self.net(features), targets)
            if peers:
                self.log("train_loss", loss)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=1e-3)

    class Norm(Callback):
        def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
            if (trainer.global_step + 1) % every == 0:
                module.log_dict({"grad_norm": grad_norm(module, 2)["grad_2.0_norm_total"]})

    callbacks: list[Any] = []
    if variant == "empty":
        callbacks = [Callback()]
    elif variant == "TrackKit":
        from trackkit import TrackKit

        callbacks = [TrackKit(dir=folder)]
    elif peers:
        callbacks = [LearningRateMonitor(logging_interval="step"), Norm()]
    logger: Any = WandbLogger(project="overhead", save_dir=folder, offline=True) if peers else False
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu" if DEVICE == "cpu" else "gpu",
        devices=1,
        log_every_n_steps=every,
        logger=logger,
        callbacks=callbacks,
        default_root_dir=folder,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    torch.manual_seed(0)
    module = Net()
    if hooks:
        for callback in callbacks:
            clock.time(callback, *hooks_of(callback))
        clock.time(module, "log", "log_dict")
        if variant != "TrackKit":
            clock.time(trainer._logger_connector, "log_metrics")  # noqa: SLF001 -- the time inside Lightning's own logging counts
    with _adapter_timed(clock, hooks and variant == "TrackKit"):
        trainer.fit(module, torch.utils.data.DataLoader(batches(steps), BATCH))
    _finish()
    return clock.hooks_us if hooks else clock.wall_us


class _adapter_timed:
    """Counts the time that TrackKit spends in methods of the trainer that it wraps."""

    def __init__(self, clock: Clock, active: bool) -> None:
        from trackkit.integrations.lightning import clock as pauses
        from trackkit.integrations.lightning.logged import Logged

        self.clock, self.active = clock, active
        self.timed = {Logged: ("log_metrics", "complete_row"), pauses.Clock: ("resume",)}

    def __enter__(self) -> None:
        self.kept = [(owner, name, getattr(owner, name)) for owner, names in self.timed.items() for name in names]
        if self.active:
            for owner, names in self.timed.items():
                self.clock.time(owner, *names)

    def __exit__(self, *_: object) -> None:
        for owner, name, method in self.kept:
            setattr(owner, name, method)


# -- Hugging Face ------------------------------------------------------------------------------------------------


def huggingface_round(variant: str, steps: int, every: int, hooks: bool, folder: str) -> float:
    from transformers import Trainer, TrainerCallback, TrainingArguments
    from transformers.integrations import WandbCallback

    clock = Clock(steps)
    rows = batches(steps)

    class Data(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return len(rows)

        def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
            features, targets = rows[index]
            return {"features": features, "labels": targets}

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def forward(self, features: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
            clock.tick()
            return {"loss": torch.nn.functional.mse_loss(self.net(features), labels)}

    callbacks: list[Any] = []
    if variant == "empty":
        callbacks = [TrainerCallback()]
    elif variant == "TrackKit":
        from trackkit import TrackKit

        callbacks = [TrackKit(dir=folder)]
    elif variant == "peers":
        callbacks = [WandbCallback()]
    torch.manual_seed(0)
    trainer = Trainer(
        Net(),  # type: ignore[arg-type]
        TrainingArguments(
            folder,
            num_train_epochs=1,
            per_device_train_batch_size=BATCH,
            logging_steps=every,
            logging_first_step=True,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=DEVICE == "cpu",
        ),
        train_dataset=Data(),
        callbacks=callbacks,
    )
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    if hooks:
        for callback in callbacks:
            clock.time(callback, *hooks_of(callback))
    trainer.train()
    _finish()
    return clock.hooks_us if hooks else clock.wall_us


# -- a plain loop ------------------------------------------------------------------------------------------------


def loop_round(variant: str, steps: int, every: int, hooks: bool, folder: str) -> float:
    import trackkit

    clock = Clock(steps)
    torch.manual_seed(0)
    net = network().to(DEVICE)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    loader = torch.utils.data.DataLoader(batches(steps), BATCH)
    tracked, peers = variant == "TrackKit", variant == "peers"
    track = trackkit.loop(
        net, optimizer, every=every, total_steps=steps, dir=folder, mode=None if tracked else "disabled"
    )
    run = _wandb_run(folder) if peers else None
    with _loop_timed(clock, hooks and tracked), track:
        if hooks and tracked:
            clock.time(track, "step")
        if hooks and peers:
            clock.time(run, "log")
        for number, (features, targets) in enumerate(track.batches(loader) if tracked else loader, 1):
            clock.tick()
            loss: Any = torch.nn.functional.mse_loss(net(features.to(DEVICE)), targets.to(DEVICE))
            optimizer.zero_grad()
            loss.backward()
            row = run is not None and (number % every == 0 or number == 1)
            norm = torch.nn.utils.get_total_norm([each.grad for each in net.parameters()]) if row else None  # type: ignore[misc]
            optimizer.step()
            if tracked:
                track.step(loss)
            if run is not None and norm is not None:
                run.log({"loss": loss.item(), "lr": optimizer.param_groups[0]["lr"], "norm": norm.item()}, step=number)
    if run is not None:
        run.finish()
    _finish()
    return clock.hooks_us if hooks else clock.wall_us


def _wandb_run(folder: str) -> Any:
    import wandb

    return wandb.init(project="overhead", dir=folder, mode="offline")


class _loop_timed:
    """Counts the time inside the hooks that `trackkit.loop` puts on optimizers and parameters."""

    def __init__(self, clock: Clock, active: bool) -> None:
        from trackkit.integrations.loop.norms import Follower

        self.clock, self.active, self.owner = clock, active, Follower
        self.names = ("_before_step", "_after_step", "_accumulated", "_again", "_measure") if active else ()

    def __enter__(self) -> None:
        self.kept = {name: getattr(self.owner, name) for name in self.names}
        self.clock.time(self.owner, *self.names)

    def __exit__(self, *_: object) -> None:
        for name, method in self.kept.items():
            setattr(self.owner, name, method)


def report_calls(rounds: int, steps: int, folder: str) -> None:
    """Prints what `track.batches`, the optimizer's hook and `track.step` cost at a step without a row.

    A row is made every 50 steps, outside of the measured time, so that memory is used as in a training.
    """
    import trackkit

    class Still(torch.optim.Optimizer):
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            pass

    class Ready(torch.utils.data.DataLoader[Any]):
        def __iter__(self) -> Any:
            return iter(ready)

    net = torch.nn.Linear(2, 1)
    steps -= steps % 50
    loader = Ready(batches(steps), BATCH)
    ready = list(torch.utils.data.DataLoader(batches(steps), BATCH))
    loss = net(torch.zeros(2)).sum()
    figures = []

    def timed(data: Any, step: Callable[[Any], object]) -> float:
        given, total = iter(data), 0.0
        optimizer = Still(net.parameters(), {"lr": 0.1}) if step is id else tracked
        for _ in range(steps // 50):
            # Arms the hooks; makes the row; writes it.
            for _ in range(3):
                next(given)
                optimizer.step()
                step(loss)
            began = time.thread_time()
            for _ in range(47):
                next(given)
                optimizer.step()
                step(loss)
            total += time.thread_time() - began
        return total / (steps // 50 * 47) * 1e6

    for _ in range(rounds):
        tracked = Still(net.parameters(), {"lr": 0.1})
        with trackkit.loop(net, tracked, every=50, dir=folder) as track:
            for _ in range(48):
                tracked.step()
                track.step(loss)
            figures.append(timed(track.batches(loader), track.step) - timed(loader, id))
    listed = " ".join(f"{value:7.2f}" for value in figures)
    print(f"  calls  TrackKit  {listed}   median {statistics.median(figures):7.2f} us per step without a row")


def _finish() -> None:
    import wandb

    import trackkit

    trackkit.finish()
    if wandb.run is not None:
        wandb.finish()


# -- figures -----------------------------------------------------------------------------------------------------

ROUNDS = {"lightning": lightning_round, "huggingface": huggingface_round, "loop": loop_round}
VARIANTS = ("bare", "empty", "TrackKit", "peers")


def measure(framework: str, rounds: int, steps: int, every: int, hooks: bool, folder: str) -> dict[str, list[float]]:
    """Returns the numbers of each variant, one per round; the order of the variants rotates with the rounds."""
    figures: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    for number in range(-1, rounds):
        for turn in range(len(VARIANTS)):
            variant = VARIANTS[(number + turn) % len(VARIANTS)]
            if (hooks and variant == "bare") or (framework == "loop" and variant == "empty"):
                continue
            figure = ROUNDS[framework](variant, steps, every, hooks, folder)
            if number >= 0:
                figures[variant].append(figure)
    return {variant: values for variant, values in figures.items() if values}


def report(framework: str, rounds: int, steps: int, every: int, folder: str) -> None:
    print(f"\n{framework}: {steps} steps, a row every {every}, {rounds} rounds after a warm-up round, us per step")
    wall = measure(framework, rounds, steps, every, False, folder)
    medians = {variant: statistics.median(values) for variant, values in wall.items()}
    for variant, values in wall.items():
        listed = " ".join(f"{value:7.1f}" for value in values)
        ratio = medians[variant] / medians["bare"]
        print(f"  wall   {variant:9} {listed}   median {medians[variant]:7.1f}  {ratio:.3f} of bare")
    cost = {
        variant: statistics.median(value - bare for value, bare in zip(wall[variant], wall["bare"], strict=True))
        for variant in wall
        if variant != "bare"
    }
    listed = ", ".join(f"{variant} {value:.1f}" for variant, value in cost.items())
    print(
        f"  wall   over bare, median of the rounds' differences: {listed}; "
        f"TrackKit / peers {cost['TrackKit'] / cost['peers']:.3f}"
    )
    inside = measure(framework, rounds, steps, every, True, folder)
    for variant, values in inside.items():
        listed = " ".join(f"{value:7.1f}" for value in values)
        print(f"  hooks  {variant:9} {listed}   median {statistics.median(values):7.1f}")
    ours, theirs = statistics.median(inside["TrackKit"]), statistics.median(inside["peers"])
    print(f"  hooks  TrackKit / peers {ours / theirs:.3f}")


def set_device(parser: argparse.ArgumentParser, device: str) -> None:
    global DEVICE
    if device not in ("cpu", "cuda"):
        parser.error(f"--device is cpu or cuda, not {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        parser.error(f"no CUDA device: torch {torch.__version__} sees none")
    DEVICE = device


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--framework", nargs="+", choices=ROUNDS, default=list(ROUNDS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--every", type=int, nargs="+", default=[10, 50], help="steps per row; 50 is Lightning's own")
    parser.add_argument("--device", default=DEVICE, help="cpu or cuda: one device, all variants on it")
    arguments = parser.parse_args()
    set_device(parser, arguments.device)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    machine = f"{os.cpu_count()} cores, {platform.machine()}"
    if DEVICE != "cpu":
        machine += f", {torch.cuda.get_device_name()}"
    print(f"torch {torch.__version__}, {machine}, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TRACKKIT_INDEX"] = os.path.join(folder, "index.jsonl")
        for framework in arguments.framework:
            for every in arguments.every:
                report(framework, arguments.rounds, arguments.steps, every, folder)
            if framework == "loop":
                report_calls(arguments.rounds, arguments.steps, folder)


if __name__ == "__main__":
    main()
