"""Two gloo processes under torchrun: rank 0 records one run with the mean over both ranks, and no rank waits."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.support.local_log import local_run
from tests.support.toy import Recipe, plain_training
from tests.support.wandb_offline import find_runs, read_offline
from tests.support.warm import run_torchrun

SCRIPT = Path(__file__).parents[1] / "support" / "two_ranks.py"
FRAMEWORKS = ("lightning", "huggingface", "accelerate")


Trained = Callable[[str, str], Path]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Trains once for each framework and variant; returns the folder."""

    @functools.cache
    def train(framework: str, variant: str) -> Path:
        out = tmp_path_factory.mktemp(variant)
        done = run_torchrun(SCRIPT, framework, str(out), variant, cwd=out)
        assert done.returncode == 0, done.stderr[-4000:]
        (out / "stderr.txt").write_text(done.stderr)
        return out

    return train


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_one_run_has_the_mean_over_ranks(framework: str, trained: Trained) -> None:
    """Two ranks with one batch each make the same steps as one rank that accumulates two, so all values agree."""
    out = trained(framework, "tracked")
    truth = plain_training(Recipe(accumulation=2, clip=0.05))
    run = local_run(out)
    assert len(find_runs(out)) == 1
    for source in (run.history, read_offline(out).history):
        steps = [step for step, _ in source("batch/loss")]
        assert steps == [1, *range(2, 25, 2)]
        windows = [truth.losses[before:step] for before, step in zip([0, *steps], steps, strict=False)]
        assert [v for _, v in source("batch/loss")] == pytest.approx([sum(w) / len(w) for w in windows], rel=2e-4)
        assert [v for _, v in source("batch/grad_norm")] == pytest.approx(
            [truth.norms[step - 1] for step in steps], rel=2e-4
        )
        assert [v for _, v in source("batch/lr")] == pytest.approx([truth.rates[step - 1] for step in steps])
        assert [v for _, v in source("batch/samples")] == [8 * step for step in steps]
        assert [v for _, v in source("epoch/val/loss")] == pytest.approx([loss for _, loss, _ in truth.val], rel=2e-4)
    assert run.summary["final/status"] == "finished"
    assert run.summary["final/tracker_errors"] == 0
    assert run.config["runtime/world_size"] == 2
    assert run.config["data/batch_size_global"] == 8


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_log_does_nothing_on_a_rank_that_does_not_write(framework: str, trained: Trained) -> None:
    """Both ranks log in every batch: rank 0 records the value, rank 1 says once that it does not."""
    out = trained(framework, "tracked")
    run = local_run(out)
    assert run.history("batch/mine") == [(step, 3) for step, _ in run.history("batch/loss")]
    notice = "trackkit.log recorded nothing: no training is in progress here, or another rank writes its run."
    assert (out / "stderr.txt").read_text().count(notice) == 1


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_parts_of_the_loss_are_averaged_over_the_ranks_that_have_them(framework: str, trained: Trained) -> None:
    """Each rank has a source of its own: the losses of both are recorded, and their mean is the loss."""
    run = local_run(trained(framework, "tracked"))
    losses = run.history("batch/loss")
    assert run.history("batch/loss/rank") == [(step, 0.5) for step, _ in losses]
    pairs = zip(run.history("batch/loss/source/rank0"), run.history("batch/loss/source/rank1"), strict=True)
    means = [(step, (one + other) / 2) for (step, one), (_, other) in pairs]
    assert means == [(step, pytest.approx(loss, rel=1e-3)) for step, loss in losses]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_weights_are_bit_identical_with_and_without_trackkit(framework: str, trained: Trained) -> None:
    """The exchange between ranks changes no weight."""
    for rank in (0, 1):
        bare, tracked = (
            torch.load(trained(framework, variant) / f"{framework}-{variant}-{rank}.pt")
            for variant in ("bare", "tracked")
        )
        assert all(torch.equal(bare[name], tracked[name]) for name in bare)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_rank_without_trackkit_holds_nothing_up(framework: str, trained: Trained) -> None:
    """Rank 1 sends nothing: every row is recorded, with the loss of rank 0 instead of the mean."""
    run = local_run(trained(framework, "one-disabled"))
    assert [step for step, _ in run.history("batch/loss")] == [1, *range(2, 25, 2)]
    assert run.summary["final/status"] == "finished"


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_rank_that_fails_ends_the_job(framework: str, tmp_path: Path) -> None:
    """Torchrun does not have to kill the other rank, and the rows until then are recorded."""
    done = run_torchrun(SCRIPT, framework, str(tmp_path), "one-fails", cwd=tmp_path)
    assert done.returncode != 0
    assert "rank 1 gives up" in done.stderr
    assert "forcefully exiting" not in done.stderr
    assert {1, 2} <= {step for step, _ in local_run(tmp_path).history("batch/loss")}


def test_late_records_of_a_slow_rank_are_combined(trained: Trained) -> None:
    """Rows wait for late records, and the training does not."""
    truth, run = plain_training(Recipe(accumulation=2, clip=0.05)), local_run(trained("lightning", "one-slow"))
    assert [v for _, v in run.history("batch/loss")][-1] == pytest.approx(sum(truth.losses[-2:]) / 2, rel=2e-4)
