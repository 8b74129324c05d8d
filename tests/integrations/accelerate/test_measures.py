# ruff: noqa: SLF001 -- Accelerate has no public way to undo what accelerators share
"""`trackkit.accelerate`: what it measures beside the logs, and that it leaves the training as it is."""

from __future__ import annotations

import copy
import gc
import itertools
import pickle
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import trackkit
from tests.support.local_log import local_run
from trackkit import AccelerateTracker, ConfigError
from trackkit.integrations.memory import MemorySink

SAMPLES, BATCH = 50, 4


def _accelerator(sink: MemorySink, every: int = 5, total_steps: int | None = None, **options: Any) -> Accelerator:
    accelerator = Accelerator(cpu=True, log_with=AccelerateTracker(sinks=[sink]), **options)
    trackkit.accelerate(accelerator, total_steps=total_steps, every=every)
    return accelerator


def _prepared(accelerator: Accelerator) -> tuple[Any, Any, Any]:
    """Returns a model, its optimizer and a shuffled loader of 13 batches, the last one smaller."""
    torch.manual_seed(0)
    model = torch.nn.Linear(6, 3)
    data = TensorDataset(torch.randn(SAMPLES, 6), torch.randint(0, 3, (SAMPLES,)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    return accelerator.prepare(model, optimizer, DataLoader(data, BATCH, shuffle=True))


def _step(accelerator: Accelerator, model: Any, optimizer: Any, batch: Any, clip: float = 0.0) -> tuple[float, float]:
    """Trains on a batch; returns its loss, and the norm of the gradients before they are clipped."""
    with accelerator.accumulate(model):
        loss = cross_entropy(model(batch[0]), batch[1])
        accelerator.backward(loss)
        norm = torch.cat([each.grad.flatten() for each in model.parameters()]).norm().item()
        if clip and accelerator.sync_gradients:
            accelerator.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        optimizer.zero_grad()
    return loss.item(), norm


def test_rows_are_those_of_every_nth_step_of_logs_of_an_epoch_s_end_and_the_last() -> None:
    """Losses, norms and samples equal the test's own. Rows made for a log have the norm that clipping returned."""
    sink = MemorySink()
    accelerator = _accelerator(sink, mixed_precision="bf16")
    model, optimizer, loader = _prepared(accelerator)
    accelerator.init_trackers("p")
    losses, norms = [0.0], [0.0]
    for batch in itertools.chain(loader, loader):
        loss, norm = _step(accelerator, model, optimizer, batch, clip=0.1)
        losses.append(loss)
        norms.append(norm)
        if len(losses) - 1 in (3, 10):
            accelerator.log({"loss": loss, "mine": loss}, step=len(losses) - 1)
        if len(losses) - 1 == 17:
            accelerator.log({"late": 1})
            break
    accelerator.end_training()
    steps = [1, 3, 5, 10, 15, 17]
    assert dict(sink.history("batch/grad_norm")) == pytest.approx({step: norms[step] for step in steps}, rel=1e-3)
    windows = itertools.pairwise([0, *steps])
    means = {step: sum(losses[before + 1 : step + 1]) / (step - before) for before, step in windows}
    assert dict(sink.history("batch/loss")) == pytest.approx(means, rel=1e-3)
    assert sink.history("batch/samples") == [(step, step * BATCH - 2 * (step > 12)) for step in steps]
    assert dict(sink.history("batch/epoch")) == pytest.approx({step: step / 13 for step in steps})
    assert sink.history("batch/mine") == [(3, losses[3]), (10, losses[10])]
    assert sink.history("batch/loss_logged") == sink.history("batch/mine"), "what is measured keeps its key"
    assert sink.history("batch/late") == [(17, 1)]
    assert [step for step, _ in sink.history("batch/lr")] == steps
    assert (sink.columns["final/steps"], sink.columns["final/tracker_errors"]) == (17, 0)
    expected = {"runtime/precision": "bf16", "data/train_samples": SAMPLES, "optim/class": "AdamW"}
    assert {key: sink.settings.get(key) for key in expected} == expected


def test_last_step_of_an_epoch_is_measured_since_it_may_be_the_training_s() -> None:
    sink = MemorySink()
    accelerator = _accelerator(sink, every=100)
    model, optimizer, loader = _prepared(accelerator)
    accelerator.init_trackers("p")
    norms = [_step(accelerator, model, optimizer, batch)[1] for batch in loader]
    accelerator.end_training()
    assert dict(sink.history("batch/grad_norm")) == pytest.approx({1: norms[0], 13: norms[-1]}, rel=1e-4)
    assert sink.history("batch/epoch")[-1] == (13, 1.0)


def _train(out: Path, steps: range, resumed: bool = False, saves: bool = False) -> dict[str, Any]:
    """Trains on some of the steps of three epochs in a process's own accelerator; returns the weights."""
    accelerator = Accelerator(cpu=True, log_with="trackkit", project_dir=out)
    trackkit.accelerate(accelerator, total_steps=39, every=3)
    model, optimizer, loader = _prepared(accelerator)
    accelerator.init_trackers("p", config={"lr": 1e-2})
    if resumed:
        accelerator.load_state(str(out / "checkpoint"))
    for epoch in range(steps.start // 13, -(-steps.stop // 13)):
        begin = max(steps.start - epoch * 13, 0)
        batches = accelerator.skip_first_batches(loader, begin) if begin else loader
        for number, batch in enumerate(batches, epoch * 13 + begin):
            if number == steps.stop:
                break
            _step(accelerator, model, optimizer, batch)
    if saves:
        accelerator.save_state(str(out / "checkpoint"))
    accelerator.end_training()
    state: dict[str, Any] = model.state_dict()
    return state


def test_training_resumed_from_save_state_continues_its_run(tmp_path: Path) -> None:
    """Same run, same counts, and a checkpoint on record."""
    _train(tmp_path, range(17), saves=True)
    AcceleratorState._reset_state(reset_partial_state=True)
    _train(tmp_path, range(17, 39), resumed=True)
    run = local_run(tmp_path)
    steps = [1, 3, 6, 9, 12, 15, 17, *range(18, 40, 3)]
    assert [step for step, _ in run.history("batch/loss")] == steps
    assert run.history("batch/samples") == [(step, SAMPLES * (step // 13) + BATCH * (step % 13)) for step in steps]
    assert dict(run.history("batch/epoch")) == pytest.approx({step: step / 13 for step in steps})
    assert (run.run["status"], run.summary["final/steps"]) == ("finished", 39)
    assert run.summary["final/checkpoint_h"] > 0
    assert '"step":17' in (run.folder / "checkpoints.jsonl").read_text()


def test_rows_of_two_optimizers_are_those_of_the_first_one_s_steps() -> None:
    """As in a GAN: each optimizer has its own norm and rate, and the loss is the mean over both."""
    sink = MemorySink()
    accelerator = _accelerator(sink, every=2)
    torch.manual_seed(0)
    nets = [torch.nn.Linear(4, 1), torch.nn.Linear(4, 1)]
    first, second = nets
    optimizers = [torch.optim.SGD(first.parameters(), lr=0.1), torch.optim.Adam(second.parameters(), lr=0.2)]
    loader = DataLoader(torch.randn(16, 4), 4)
    *prepared, loader = accelerator.prepare(*nets, *optimizers, loader)
    nets, optimizers = prepared[:2], prepared[2:]
    accelerator.init_trackers("p")
    losses, norms = [], []
    for x in loader:
        for net, optimizer in zip(nets, optimizers, strict=True):
            loss = net(x).square().mean()
            accelerator.backward(loss)
            losses.append(loss.item())
            norms.append(torch.cat([each.grad.flatten() for each in net.parameters()]).norm().item())
            optimizer.step()
            optimizer.zero_grad()
    accelerator.end_training()
    assert [step for step, _ in sink.history("batch/loss")] == [1, 2, 4]
    assert dict(sink.history("batch/grad_norm/SGD")) == pytest.approx({1: norms[0], 2: norms[2], 4: norms[6]})
    assert dict(sink.history("batch/grad_norm/Adam")) == pytest.approx({1: norms[1], 2: norms[3], 4: norms[7]})
    assert sink.history("batch/lr/Adam") == [(1, 0.2), (2, 0.2), (4, 0.2)]
    expected = {1: sum(losses[:2]) / 2, 2: sum(losses[2:4]) / 2, 4: sum(losses[4:]) / 4}
    assert dict(sink.history("batch/loss")) == pytest.approx(expected)
    assert sink.history("batch/samples") == [(1, 4), (2, 8), (4, 16)]


def test_training_continues_after_free_memory() -> None:
    """As with one accelerator for all folds of a cross-validation. What it lets go of is not kept."""
    sink = MemorySink()
    accelerator = _accelerator(sink, every=1)
    accelerator.init_trackers("p")
    norms, optimizers = [], []
    for _ in range(2):
        model, optimizer, loader = _prepared(accelerator)
        optimizers.append(weakref.ref(optimizer.optimizer))
        for x, y in loader:
            accelerator.backward(cross_entropy(model(x), y))
            norms.append(accelerator.clip_grad_norm_(model.parameters(), 0.1).item())
            optimizer.step()
            optimizer.zero_grad()
        model, optimizer, loader = accelerator.free_memory(model, optimizer, loader)
    gc.collect()
    assert [each() for each in optimizers] == [None, None]
    accelerator.end_training()
    assert dict(sink.history("batch/grad_norm")) == pytest.approx(dict(enumerate(norms, 1)))
    assert dict(sink.history("batch/epoch")) == pytest.approx({step: step / 13 for step in range(1, 27)})
    assert (sink.columns["final/samples"], sink.columns["final/steps"]) == (2 * SAMPLES, 26)


def test_pass_that_free_memory_cuts_short_counts_as_one() -> None:
    """As a pass does that is left early for another over the same loader."""
    sink = MemorySink()
    accelerator = _accelerator(sink, every=1)
    accelerator.init_trackers("p")
    for batches in (5, 3):
        model, optimizer, loader = _prepared(accelerator)
        for x, y in itertools.islice(loader, batches):
            accelerator.backward(cross_entropy(model(x), y))
            optimizer.step()
            optimizer.zero_grad()
        model, optimizer, loader = accelerator.free_memory(model, optimizer, loader)
    accelerator.end_training()
    epochs = [*(step / 13 for step in range(1, 6)), *(1 + step / 13 for step in range(1, 4))]
    assert dict(sink.history("batch/epoch")) == pytest.approx(dict(enumerate(epochs, 1)))


@pytest.mark.parametrize("prepared", [True, False])
def test_optimizers_that_step_together_are_in_the_same_row(prepared: bool) -> None:
    """As Muon and AdamW for one model; the second one rests in every third step."""
    sink = MemorySink()
    accelerator = _accelerator(sink, every=1)
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 1))
    optimizers = [torch.optim.SGD(net[0].parameters(), lr=0.1), torch.optim.Adam(net[1].parameters(), lr=0.2)]
    loader = DataLoader(torch.randn(24, 4), 4)
    net, *optimizers = accelerator.prepare(net, *optimizers)
    loader = accelerator.prepare(loader) if prepared else loader
    accelerator.init_trackers("p")
    norms: dict[str, list[float]] = {"SGD": [], "Adam": []}
    for number, x in enumerate(loader):
        accelerator.backward(net(x).square().mean())
        for part, name in zip(net, norms, strict=True):
            norms[name].append(torch.cat([each.grad.flatten() for each in part.parameters()]).norm().item())
        for optimizer in optimizers[: 1 if number % 3 == 2 else 2]:
            optimizer.step()
        for optimizer in optimizers:
            optimizer.zero_grad()
    accelerator.end_training()
    for name, expected in norms.items():
        steps = [step for step in range(1, 7) if name == "SGD" or step % 3]
        found = dict(sink.history(f"batch/grad_norm/{name}"))
        assert found == pytest.approx({step: expected[step - 1] for step in steps})
    assert [step for step, _ in sink.history("batch/loss")] == list(range(1, 7))
    if prepared:
        assert sink.history("batch/samples") == [(step, 4 * step) for step in range(1, 7)]


def test_measured_accelerator_is_pickled_and_copied_without_its_measures() -> None:
    sink = MemorySink()
    accelerator = _accelerator(sink)
    model, optimizer, loader = _prepared(accelerator)
    accelerator.init_trackers("p")
    for batch in loader:
        _step(accelerator, model, optimizer, batch)
    for twin in (pickle.loads(pickle.dumps(accelerator)), copy.deepcopy(accelerator)):
        twin.backward(torch.ones((), requires_grad=True))
    copy.deepcopy(optimizer).step()
    pickle.loads(pickle.dumps(loader))
    accelerator.end_training()
    assert (sink.columns["final/steps"], sink.columns["final/tracker_errors"]) == (13, 0)


def test_loaders_that_are_not_prepared_are_not_counted() -> None:
    sink = MemorySink()
    accelerator = _accelerator(sink, every=1)
    model = torch.nn.Linear(4, 1)
    model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1))
    accelerator.init_trackers("p")
    for _ in range(3):
        accelerator.backward(model(torch.ones(2, 4)).mean())
        optimizer.step()
    accelerator.end_training()
    assert [step for step, _ in sink.history("batch/grad_norm")] == [1, 2, 3]
    assert not {"batch/samples", "batch/epoch", "batch/data_time_s"} & {*sink.rows[-1].values}
    assert sink.columns["final/tracker_errors"] == 0


def test_wrong_calls_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"needs an accelerator that logs with TrackKit"):
        trackkit.accelerate(Accelerator(cpu=True))
    accelerator = Accelerator(cpu=True, log_with=AccelerateTracker(sinks=[]))
    with pytest.raises(ConfigError, match=r"every=0 in trackkit\.accelerate is not a whole number of steps, 1 or more"):
        trackkit.accelerate(accelerator, every=0)
    trackkit.accelerate(accelerator, total_steps=np.int64(5))
    with pytest.raises(ConfigError, match="called twice"):
        trackkit.accelerate(accelerator)
    late = Accelerator(cpu=True, log_with=AccelerateTracker(sinks=[]))
    late.init_trackers("p")
    with pytest.raises(ConfigError, match=r"call it before accelerator\.init_trackers"):
        trackkit.accelerate(late)
