"""The life of a plain loop: how its run opens, resumes and ends, and what is recorded of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import trackkit
from tests.support.local_log import local_run
from tests.support.loop_trainings import batches, network
from trackkit import ConfigError, TrackKitError
from trackkit.integrations.loop.loop import Loop
from trackkit.integrations.memory import MemorySink


class Training:
    """A network, its optimizer, and one step."""

    def __init__(self) -> None:
        self.net = network()
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.1)

    def loop(self, **given: Any) -> Loop:
        return trackkit.loop(self.net, self.optimizer, **{"every": 2, **given})

    def step(self, batch: Any) -> Any:
        loss: Any = nn.functional.mse_loss(self.net(batch[0]), batch[1])
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss

    def train(self, data: Any, **given: Any) -> None:
        with self.loop(**given) as track:
            for batch in track.batches(data):
                track.step(self.step(batch))


def steps(sink: MemorySink, key: str = "batch/step") -> list[int]:
    return [step for step, _ in sink.history(key)]


def test_values_are_in_the_rows_of_their_steps() -> None:
    training, sink = Training(), MemorySink()
    config = {"model": {"width": 16}, "lr": 0.1}
    with training.loop(config=config, total_steps=np.int64(8), sinks=[sink], project="mine") as track:
        for _ in range(2):
            for number, batch in enumerate(track.batches(batches(4))):
                loss = training.step(batch)
                track.step(loss)
                track.log({"number": number, "lr_mult": 0.5, "loss/late": number})
            track.evaluation("val/wiki", {"loss": 2.0, "perplexity": torch.tensor(4.0), "top": {"5": 0.9}}, samples=10)
            track.log({"val_acc": 0.5, "test/acc": 0.25})
    assert sink.history("batch/number") == [(1, 0), (2, 1), (4, 3), (6, 1), (8, 3)]
    assert sink.history("batch/loss/late") == [(2, 0), (4, 1.5), (6, 1.5), (8, 1.5)]
    assert steps(sink, "batch/lr_mult") == [1, 2, 4, 6, 8]
    assert sink.history("epoch/val/wiki/loss") == [(4, 2.0), (8, 2.0)]
    assert sink.history("epoch/val/wiki/perplexity") == [(4, 4.0), (8, 4.0)]
    assert sink.history("epoch/val/wiki/top/5") == [(4, 0.9), (8, 0.9)]
    assert sink.history("epoch/val/acc") == [(4, 0.5), (8, 0.5)]
    assert sink.history("epoch/test/acc") == [(4, 0.25), (8, 0.25)]
    assert sink.history("epoch/epoch") == [(4, 1.0), (4, 1.0), (8, 2.0), (8, 2.0)]
    assert sink.history("batch/samples") == [(1, 4), (2, 8), (4, 16), (6, 24), (8, 32)]
    assert (sink.settings["hparams/model/width"], sink.settings["data/val_samples/wiki"]) == (16, 10)
    assert (sink.columns["final/status"], sink.exit_code) == ("finished", 0)


def test_loop_without_batches_counts_what_step_is_given() -> None:
    training, sink = Training(), MemorySink()
    with training.loop(sinks=[sink]) as track:
        for batch in batches(5):
            training.step(batch)
            track.step(1.5, grad_norm=torch.tensor([2.5]), samples=4, tokens=40)
    assert sink.history("batch/loss") == [(step, 1.5) for step in (1, 2, 4, 5)]
    assert sink.history("batch/grad_norm") == [(step, 2.5) for step in (1, 2, 4)]
    assert sink.history("batch/samples") == [(1, 4), (2, 8), (4, 16), (5, 20)]
    assert sink.history("batch/tokens")[-1] == (5, 200)
    assert sink.history("batch/epoch")[-1] == (5, 0.0)
    assert not training.optimizer._optimizer_step_post_hooks  # noqa: SLF001 -- no public name


def test_data_without_a_length_and_a_pass_left_early() -> None:
    training, sink = Training(), MemorySink()

    def stream() -> Iterator[Any]:
        yield from batches(3)

    with training.loop(sinks=[sink], every=1) as track:
        for batch in track.batches(stream()):
            track.step(training.step(batch))
        track.evaluation("val", {"loss": 1.0})
        for batch in track.batches(batches(4)):
            track.step(training.step(batch))
            break
        track.evaluation("val", {"loss": 1.0})
        for batch in track.batches(batches(4)):
            track.step(training.step(batch))
    assert sink.history("batch/epoch") == [(4, 1.25), *((step, 2 + (step - 4) / 4) for step in range(5, 9))]
    assert sink.history("epoch/epoch") == [(3, 1.0), (4, 1.25)]
    assert steps(sink) == list(range(1, 9))


def test_two_loaders_at_once_are_refused() -> None:
    training = Training()
    with pytest.raises(TrackKitError, match="counts one loader at a time"), training.loop(sinks=[]) as track:
        list(zip(track.batches(batches()), track.batches(batches()), strict=True))


def test_step_without_a_loss_makes_a_row_without_one() -> None:
    training, sink = Training(), MemorySink()
    with training.loop(sinks=[sink]) as track:
        for batch in track.batches(batches(3)):
            training.step(batch)
            track.step()
    assert steps(sink, "batch/grad_norm") == [1, 2, 3]
    assert sink.history("batch/loss") == []


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda track: track.step(torch.ones(3)), r"shape \(3,\)"),
        (lambda track: track.step({"loss": 1}), "loss as one number"),
        (lambda track: track.evaluation("wiki", {}), "'val/wiki'"),
        (lambda track: track.evaluation("val", 3.0), "mapping"),
        (lambda track: track.log([1]), "mapping"),
        (lambda track: track.log({"a": 1}, step=3), "unexpected keyword argument 'step'"),
        (lambda track: track.checkpoint("x", value=1.0), "'monitor'"),
        (lambda track: track.checkpoint("x", value=1.0, monitor="mine"), "'goal'"),
        (lambda track: track.load_state_dict({"epoch": 1}), r"track.state_dict\(\)"),
        (lambda track: (track.log({"a": 1}), track.load_state_dict({"step": 1})), "before the first batch"),
        (lambda track: track.__enter__(), "entered before"),
    ],
)
def test_wrong_calls_say_what_to_do(call: Any, message: str) -> None:
    with pytest.raises((TrackKitError, TypeError), match=message), Training().loop(sinks=[]) as track:
        call(track)


def test_loop_outside_of_its_block_says_so() -> None:
    track = Training().loop(sinks=[])
    for call in (lambda: track.step(1.0), lambda: track.log({"a": 1}), lambda: list(track.batches([1]))):
        with pytest.raises(TrackKitError, match="inside of its block"):
            call()
    with track:
        pass
    with pytest.raises(TrackKitError, match="inside of its block"):
        track.step(1.0)
    assert not list(Path.cwd().iterdir())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"every": 0}, "every=0"),
        ({"every": True}, "every=True"),
        ({"total_steps": 1.5}, "total_steps=1.5"),
        ({"log_every": 5}, "'every' in"),
    ],
)
def test_wrong_arguments_are_refused_before_training(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Training().loop(**given)


@pytest.mark.parametrize(
    ("model", "optimizer", "config", "message"),
    [
        (network(), "sgd", None, "an optimizer of type str"),
        (network(), None, None, "an optimizer of type NoneType"),
        (network(), [], None, "an optimizer of type NoneType"),
        (torch.sin, None, None, "a model of type builtin_function"),
        ([network(), [network()]], None, None, "a model of type list"),
        ({"forward": network()}, None, None, "'forward'.*Rename"),
        (network(), torch.optim.SGD(network().parameters()), "config.yaml", "TRACKKIT_CONFIG"),
    ],
)
def test_what_can_not_be_followed_is_refused_before_training(
    model: Any, optimizer: Any, config: Any, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        trackkit.loop(model, optimizer, config=config)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [(ValueError("no more data"), "failed", 1), (KeyboardInterrupt(), "stopped", 255), (SystemExit(3), "failed", 3)],
)
def test_error_inside_passes_through_and_ends_the_run(error: BaseException, status: str, code: int) -> None:
    training, sink = Training(), MemorySink()

    def data() -> Iterator[Any]:
        yield from batches(3)
        raise error

    with pytest.raises(type(error)):
        training.train(data(), sinks=[sink])
    assert (sink.columns["final/status"], sink.exit_code) == (status, code)
    assert sink.columns.get("final/error", "").startswith("ValueError: no more data") == (code == 1)
    assert steps(sink) == [1, 2, 3]


def test_error_before_the_first_step_is_a_failed_run() -> None:
    sink = MemorySink()
    with pytest.raises(ZeroDivisionError), Training().loop(sinks=[sink]):
        _ = 1 / 0
    assert sink.columns["final/status"] == "failed"


def test_error_inside_is_not_replaced_by_one_of_the_settings() -> None:
    with pytest.raises(ZeroDivisionError), Training().loop(resume="must", sinks=[]):
        _ = 1 / 0
    with pytest.raises(ConfigError, match="resume='must'"), Training().loop(resume="must", sinks=[]) as track:
        track.step(1.0)


@pytest.mark.parametrize("calls", [3, 600])
def test_optimizer_that_never_steps_is_said(calls: int, caplog: pytest.LogCaptureFixture) -> None:
    with Training().loop(sinks=[]) as track:
        for _ in range(calls):
            track.step(1.0)
    assert f"took no step in {min(calls, 500)} calls" in caplog.text
    assert caplog.text.count("took no step") == 1 + (calls > 500)


def test_values_that_change_in_place_are_recorded_as_they_were() -> None:
    training, sink = Training(), MemorySink()
    total = torch.zeros(())
    with training.loop(sinks=[sink], every=4) as track:
        for number, batch in enumerate(track.batches(batches(4))):
            training.step(batch)
            total += number
            track.step(total)
            total.zero_()
    assert sink.history("batch/loss") == [(1, 0.0), (4, 2.0)]


def test_losses_of_any_type_are_averaged_over_accumulated_batches() -> None:
    training, sink = Training(), MemorySink()
    with training.loop(sinks=[sink], every=1) as track:
        for loss in (torch.tensor(1), torch.tensor(2), np.float32(3.0), torch.tensor(4.25, dtype=torch.bfloat16)):
            track.step(loss)
        training.step(batches(1)[0])
        track.step(torch.tensor([5.0]))
    assert sink.history("batch/loss") == [(1, pytest.approx(3.05))]


def test_logged_tensors_keep_no_graph() -> None:
    training, sink = Training(), MemorySink()
    with training.loop(sinks=[sink], every=100) as track:
        for batch in track.batches(batches(3)):
            loss = training.step(batch)
            track.step(loss)
            track.log({"mine": loss})
        assert not any(value.requires_grad for value in track.tracker._logged.values())  # noqa: SLF001 -- no public name
    assert steps(sink, "batch/mine") == [1, 3]


def test_values_logged_before_the_step_are_in_its_row() -> None:
    training, sink = Training(), MemorySink()
    with training.loop(sinks=[sink], every=1) as track:
        for epoch in range(3):
            for batch in track.batches(batches(1)):
                track.log({"before": epoch})
                track.step(training.step(batch))
            track.log({"after": epoch})
    assert sink.history("batch/before") == sink.history("batch/after") == [(1, 0), (2, 1), (3, 2)]


def test_losses_are_averaged_by_source_and_part() -> None:
    training, sink = Training(), MemorySink()
    with training.loop(sinks=[sink], every=100) as track:
        for number, batch in enumerate(track.batches(batches(9))):
            training.step(batch)
            if number in (3, 7):
                trackkit.source("wiki")
            track.log({"loss/part": number, "last": number})
            track.step(torch.tensor(float(number)))
    assert sink.history("batch/loss/source/wiki") == [(9, 5.0)]
    assert sink.history("batch/loss/part") == [(1, 0.0), (9, 4.5)]
    assert sink.history("batch/last") == [(1, 0), (9, 8)]
    assert sink.history("batch/loss") == [(1, 0.0), (9, 4.5)]


def test_sources_of_too_many_names_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    training, sink = Training(), MemorySink()
    with training.loop(sinks=[sink]) as track:
        track.log({"loss/part": 1.0})
        for number in range(300):
            trackkit.source(f"file-{number}")
            track.step(1.0)
        training.step(batches(1)[0])
        trackkit.source("file-0")
        track.step(2.0)
    (row,) = sink.rows
    assert sum(key.startswith("batch/loss/") for key in row.values) == 200
    assert row.values["batch/loss/source/file_0"] == 1.5
    assert caplog.text.count("have 200 names") == 1


def test_loop_left_before_its_last_step_is_stopped() -> None:
    training, sink = Training(), MemorySink()
    training.train(batches(3), sinks=[sink], total_steps=100)
    assert sink.columns["final/status"] == "stopped"


def test_resumed_loop_continues_its_run(tmp_path: Path) -> None:
    training, sink = Training(), MemorySink()
    with training.loop(dir=str(tmp_path), sinks=[]) as track:
        for batch in track.batches(batches(3)):
            track.step(training.step(batch))
        saved = track.state_dict()
        for batch in track.batches(batches(2)):
            track.step(training.step(batch))
        first = track.id
    assert (saved["step"], saved["samples"], saved["epoch"]) == (3, 12, 1.0)
    with training.loop(dir=str(tmp_path), sinks=[sink]) as track:
        track.load_state_dict(saved)
        for batch in track.batches(batches(4), done=0):
            track.step(training.step(batch))
        assert track.id == first
    assert steps(sink) == [4, 6, 7]
    assert sink.history("batch/epoch") == [(4, 1.25), (6, 1.75), (7, 2.0)]
    assert sink.history("batch/samples") == [(4, 16), (6, 24), (7, 28)]
    assert [step for step, _ in local_run(tmp_path).history("batch/loss")] == [1, 2, 4, 5, 4, 6, 7]


@pytest.mark.parametrize("length", [4, 3], ids=["whole", "rest"])
def test_loop_resumed_within_an_epoch_counts_the_whole_of_it(length: int, tmp_path: Path) -> None:
    training, sink = Training(), MemorySink()
    with training.loop(dir=str(tmp_path), sinks=[]) as track:
        for batch in track.batches(batches(4)):
            track.step(training.step(batch))
            saved = track.state_dict()
            break

    class Rest(list[Any]):
        def __len__(self) -> int:
            return length

    with training.loop(dir=str(tmp_path), sinks=[sink], every=1) as track:
        track.load_state_dict(saved)
        for data, done in ((Rest(batches(4)[1:]), 1), (batches(4), 0)):
            for batch in track.batches(data, done=done):
                track.step(training.step(batch))
    assert sink.history("batch/epoch") == [(step, step / 4) for step in range(2, 9)]


def test_checkpoints_are_recorded_with_their_metric(tmp_path: Path) -> None:
    training, sink = Training(), MemorySink()
    with training.loop(sinks=[sink]) as track:
        for batch in track.batches(batches(2)):
            track.step(training.step(batch))
            torch.save(training.net.state_dict(), tmp_path / "model.pt")
            track.checkpoint(tmp_path / "model.pt", value=0.5, monitor="val/loss")
    first, last = sink.checkpoints
    assert (first.step, first.epoch, first.monitor, first.value, first.goal) == (1, 0.5, "val/loss", 0.5, "min")
    assert (last.step, last.path, last.framework) == (2, str(tmp_path / "model.pt"), "loop")
    assert sink.columns["final/checkpoint_h"] > 0


def test_nested_loops_are_two_runs() -> None:
    outer, inner, sinks = Training(), Training(), [MemorySink() for _ in range(3)]
    with outer.loop(sinks=sinks[:1]) as track:
        for sink, batch in zip(sinks[1:], track.batches(batches(2)), strict=True):
            with inner.loop(sinks=[sink], every=1) as within:
                within.log({})
                trackkit.log({"loss/part": 1.0, "inner": 1.0})
                within.step(inner.step(batch))
            trackkit.log({"loss/part": 2.0})
            track.step(outer.step(batch))
    assert [steps(sink) for sink in sinks] == [[1, 2], [1], [1]]
    assert [dict(sink.history("batch/loss/part")) for sink in sinks] == [{1: 2.0, 2: 2.0}, {1: 1.0}, {1: 1.0}]
    assert [steps(sink, "batch/inner") for sink in sinks] == [[], [1], [1]]
    assert [sink.columns["final/status"] for sink in sinks] == ["finished"] * 3
    assert len({sink.info.run_id for sink in sinks if sink.info}) == 3


def test_errors_in_hooks_do_not_reach_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("no norm")

    monkeypatch.setattr("trackkit.integrations.loop.norms.norms_of", fails)
    training, sink = Training(), MemorySink()
    training.train(batches(3), sinks=[sink])
    assert steps(sink, "batch/loss") == [1, 2, 3]
    assert sink.history("batch/grad_norm") == []
    assert sink.columns["final/tracker_errors"] == 3


def test_disabled_loop_records_nothing(tmp_path: Path) -> None:
    training = Training()
    with training.loop(mode="disabled") as track:
        for batch in track.batches(batches(3)):
            track.step(training.step(batch))
        track.evaluation("val", {"loss": 1.0})
        assert track.state_dict()["step"] == 0
        assert track.id == ""
    assert not list(tmp_path.iterdir())
