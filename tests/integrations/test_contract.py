"""The adapter contract: the same toy training by each framework gives the same rows, and all are right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.toy import CONTRACT, Recipe, Truth, plain_training, total_steps
from tests.support.versions import LOGS_UNCLIPPED_NORM
from trackkit import TrackKit
from trackkit.integrations.memory import MemorySink

RECIPES = [Recipe(accumulation, clip) for accumulation in (1, 4) for clip in (0.0, 0.05)]
TIMED = ("batch/step_time_s", "batch/data_time_s", "batch/samples_per_s", "device/rss_GB")


def _train(framework: str, recipe: Recipe, out: Path) -> tuple[MemorySink, dict[str, torch.Tensor]]:
    sink = MemorySink()
    net = CONTRACT[framework](recipe, out / framework, [TrackKit(sinks=[sink])])
    return sink, net.state_dict()


def _history(sink: MemorySink) -> dict[str, list[tuple[int, float | int]]]:
    keys = sorted({key for row in sink.rows for key in row.values})
    return {key: sink.history(key) for key in keys}


def _row_steps(recipe: Recipe) -> list[int]:
    total = total_steps(recipe)
    return sorted({1, total, *range(recipe.every, total + 1, recipe.every)})


@pytest.mark.parametrize("framework", [each for each in CONTRACT if each != "lightning"])
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: f"accumulation{recipe.accumulation}-clip{recipe.clip}")
def test_every_framework_writes_the_same_run(framework: str, recipe: Recipe, tmp_path: Path) -> None:
    """Same keys, same values, same steps."""
    ours, theirs = (_history(_train(each, recipe, tmp_path)[0]) for each in ("lightning", framework))
    assert ours.keys() - _unlogged(framework, recipe) == theirs.keys()
    for key in theirs:
        assert [step for step, _ in ours[key]] == [step for step, _ in theirs[key]], key
        if key not in TIMED:
            assert [value for _, value in ours[key]] == pytest.approx([value for _, value in theirs[key]], rel=1e-4), (
                key
            )


@pytest.mark.parametrize("framework", CONTRACT)
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: f"accumulation{recipe.accumulation}-clip{recipe.clip}")
def test_every_value_is_the_training_s_own(framework: str, recipe: Recipe, tmp_path: Path) -> None:
    """Window mean of the loss, norm before clipping, rate of the step taken, what was logged: as computed by hand."""
    sink, weights = _train(framework, recipe, tmp_path)
    truth = plain_training(recipe)
    for name, value in truth.weights.items():
        assert torch.allclose(weights[f"{name}"], value, atol=1e-6)
    for key, expected in _expected(recipe, truth).items():
        if key in _unlogged(framework, recipe):
            continue
        assert [step for step, _ in sink.history(key)] == [step for step, _ in expected], key
        found = [value for _, value in sink.history(key)]
        assert found == pytest.approx([value for _, value in expected], rel=2e-4, abs=1e-6), key


def _unlogged(framework: str, recipe: Recipe) -> set[str]:
    """Returns the keys that the installed version of the framework has no value for."""
    lacks_norm = framework == "huggingface" and not recipe.clip and not LOGS_UNCLIPPED_NORM
    return {"batch/grad_norm"} if lacks_norm else set()


def _expected(recipe: Recipe, truth: Truth) -> dict[str, list[tuple[int, Any]]]:
    steps, total = _row_steps(recipe), total_steps(recipe)
    since = [0, *steps]
    per_step = recipe.accumulation * 4
    return {
        "batch/step": [(step, step) for step in steps],
        "batch/iter_num": [(step, total) for step in steps],
        "batch/epoch": [(step, recipe.epochs * step / total) for step in steps],
        "batch/samples": [(step, step * per_step) for step in steps],
        "batch/loss": [
            (step, sum(truth.losses[before:step]) / (step - before)) for before, step in zip(since, steps, strict=False)
        ],
        "batch/grad_norm": [(step, truth.norms[step - 1]) for step in steps],
        "batch/lr": [(step, truth.rates[step - 1]) for step in steps],
        "batch/train_loss": [(step, truth.losses[step - 1]) for step in steps],
        "batch/acc": [(step, truth.accs[step - 1]) for step in steps],
        "batch/nonfinite": [(step, 0) for step in steps],
        "batch/skipped_steps": [(step, 0) for step in steps],
        "epoch/step": [(step, step) for step, _, _ in truth.val],
        "epoch/epoch": [(step, number + 1) for number, (step, _, _) in enumerate(truth.val)],
        "epoch/val/loss": [(step, loss) for step, loss, _ in truth.val],
        "epoch/val/acc": [(step, acc) for step, _, acc in truth.val],
    }


@pytest.mark.parametrize("framework", CONTRACT)
def test_the_summary_has_the_last_and_the_best(framework: str, tmp_path: Path) -> None:
    """`final/*` of both frameworks: the last validation, the best one and its step, the bill."""
    recipe = Recipe(epochs=3)
    sink, _ = _train(framework, recipe, tmp_path)
    truth = plain_training(recipe)
    best = min(truth.val, key=lambda each: each[1])
    assert sink.columns["final/val/loss"] == pytest.approx(truth.val[-1][1], rel=2e-4)
    assert sink.columns["final/val/acc"] == pytest.approx(truth.val[-1][2], rel=2e-4)
    assert sink.columns["final/best/val/loss"] == pytest.approx(best[1], rel=2e-4)
    assert sink.columns["final/best/val/loss_step"] == best[0]
    assert sink.columns["final/steps"] == total_steps(recipe)
    assert sink.columns["final/epochs"] == pytest.approx(3)
    assert sink.columns["final/samples"] == 3 * 96
    assert sink.columns["final/nonfinite"] == 0
    assert sink.columns["final/tracker_errors"] == 0
    assert sink.columns["final/status"] == "finished"


def test_every_framework_describes_the_same_run(tmp_path: Path) -> None:
    """The same names for what explains a run; the schedule's arguments are those of its own function."""
    sinks = {framework: _train(framework, Recipe(), tmp_path)[0] for framework in CONTRACT}
    shared = {
        "data/sampler": "SequentialSampler",
        "data/shuffle": False,
        "data/train_samples": 96,
        "data/val_samples": 24,
        "data/batch_size_per_device": 4,
        "model/total_params_M": 83e-6,
        "optim/class": "SGD",
        "optim/lr": 0.2,
    }
    # Loops do not say when a scheduler steps.
    schedule = {"optim/scheduler": "LambdaLR", "optim/scheduler/interval": "step", "optim/scheduler/frequency": 1}
    hours = ("final/eval_h", "final/checkpoint_h", "final/duration_h")
    for framework, sink in sinks.items():
        says_schedule = framework != "loop"
        expected = {**shared, **(schedule if says_schedule else {})}
        assert {key: sink.settings.get(key) for key in expected} == expected, framework
        assert ("optim/scheduler/lr_lambda" in sink.settings) == says_schedule
        evaluated, saved, lasted = (sink.columns[key] for key in hours)
        assert 0 < evaluated < lasted
        assert saved == 0
        assert sink.columns.keys() ^ sinks["lightning"].columns.keys() <= {"final/total_flos", "final/train/loss"} | {
            key for key in sink.columns if key.endswith(("runtime_s", "_per_s"))
        }
    theirs = sinks["huggingface"].settings
    assert (theirs["optim/scheduler/num_training_steps"], theirs["optim/scheduler/num_warmup_steps"]) == (48, 0)


@pytest.mark.parametrize("framework", CONTRACT)
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: f"accumulation{recipe.accumulation}-clip{recipe.clip}")
def test_weights_are_bit_identical_with_and_without(framework: str, recipe: Recipe, tmp_path: Path) -> None:
    """Tracking changes no bit of the result."""
    bare = CONTRACT[framework](recipe, tmp_path / "bare", []).state_dict()
    _, tracked = _train(framework, recipe, tmp_path)
    assert all(torch.equal(bare[name], tracked[name]) for name in bare)
