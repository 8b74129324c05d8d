"""Comparing runs and groups: what differs, equal steps, means with their interval, against SciPy and `statistics`."""

from __future__ import annotations

import math
import statistics
import subprocess
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

import trackkit
from tests.support.local_log import write_run
from trackkit.local_log.regular import ReadError
from trackkit.reading.compare import compare, overlay, side
from trackkit.reading.comparison import Comparison
from trackkit.reading.differences import Difference, differences, previous
from trackkit.reading.statistics import mean_difference, sample

CONFIG: dict[str, Any] = {
    "trackkit/settings/group": "g",
    "model/class": "M",
    "hparams/lr": 0.1,
    "optim/lr": 0.1,
    "git/commit": "a" * 40,
}


def rows(steps: int, value: float) -> list[dict[str, Any]]:
    numbers = range(1, steps + 1)
    batch = [{"batch/step": step, "batch/loss": value + 1 / step, "batch/step_time_s": 0.1} for step in numbers]
    return [*batch, {"epoch/step": steps, "epoch/val/acc": value}]


def compared(root: Path, *names: str, **more: Any) -> Comparison:
    return compare([side(name, trackkit.runs(root / name)) for name in names], **more)


def measure(found: Comparison, name: str) -> Any:
    return next(each for each in found.measures if each.name == name)


@pytest.mark.parametrize(("a", "b"), [([1.0, 2.0, 4.0], [3.0, 5.0]), ([1.0, 1.1], [1.05, 1.0, 0.9, 1.2])])
def test_interval_of_a_difference_is_scipys(a: list[float], b: list[float]) -> None:
    found = mean_difference(sample(a), sample(b))
    expected = stats.ttest_ind(b, a, equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.value == pytest.approx(statistics.fmean(b) - statistics.fmean(a))
    assert found.verdict == "not distinguishable"
    assert sample(a).sd == statistics.stdev(a)


def test_single_runs_and_missing_values_have_no_interval() -> None:
    assert mean_difference(sample([1.0]), sample([2.0, 3.0])).verdict == "one run tells nothing about chance"
    assert mean_difference(sample([]), sample([2.0])).verdict == "not in both"
    assert mean_difference(sample([1.0, 1.0]), sample([2.0, 2.0])).verdict == "different"
    assert mean_difference(sample([0.1, 0.1]), sample([0.1 + 1e-17, 0.1])).verdict == "equal"
    assert sample([1.0, None, math.nan, "x", True, 10**400]).n == 1


@pytest.mark.parametrize("factor", [1e-170, 1e-90, 1e90, 1e170, 5e307])
def test_very_large_and_small_numbers_have_the_same_verdict(factor: float) -> None:
    a, b = ([factor * each for each in values] for values in ([1.0, 1.1, 1.2], [2.0, 2.1, 2.3]))
    found, plain = sample(a), sample([1.0, 1.1, 1.2])
    assert (found.mean / factor, found.sd / factor) == pytest.approx((plain.mean, plain.sd))
    expected = mean_difference(plain, sample([2.0, 2.1, 2.3]))
    difference = mean_difference(found, sample(b))
    assert (difference.low / factor, difference.high / factor) == pytest.approx((expected.low, expected.high))
    assert difference.verdict == "different"


def test_difference_that_no_float_holds_has_no_interval() -> None:
    found = mean_difference(sample([-1.7e308, -1.6e308]), sample([1.7e308, 1.6e308]))
    assert found.verdict == "too large for an interval"


def test_groups_are_compared_by_their_means(tmp_path: Path) -> None:
    for group, lr, values in (("a", 0.1, (0.5, 0.52, 0.54)), ("b", 0.2, (0.7, 0.71, 0.75))):
        for seed, value in enumerate(values):
            config = {**CONFIG, "hparams/lr": lr, "optim/lr": lr, "seed/torch": seed, "data/fingerprint": group}
            write_run(tmp_path / group, f"{group}{seed}", config, {"final/duration_h": 1.0}, rows(40, value))
    found = compared(tmp_path, "a", "b")
    assert found.config == {"data/fingerprint": ("a", "b"), "hparams/lr": (0.1, 0.2)}
    last = measure(found, "epoch/val/acc last")
    assert [each.mean for each in last.samples] == pytest.approx([0.52, 0.72])
    assert (last.best, last.differences[1].verdict) == (1, "different")
    assert measure(found, "final/duration_h").best is None
    assert measure(found, "batch/step_time_s").differences[1].verdict == "equal"
    curve = overlay(found.sides[0], "batch/loss")
    assert (curve.x[-1], curve.y[-1]) == pytest.approx((40, 0.52 + 1 / 40))
    at_step = measure(found, "batch/loss at step 14")
    assert at_step.samples[0].mean == pytest.approx(0.52 + 1 / 14)
    assert measure(found, "batch/step_time_s").samples[0].mean == pytest.approx(0.1)
    assert found.notes == ()


def test_runs_of_different_length_are_compared_at_equal_steps(tmp_path: Path) -> None:
    for name, steps in (("a", 10), ("b", 40)):
        write_run(tmp_path / name, name, CONFIG, {}, rows(steps, 0.5))
    found = compared(tmp_path, "a", "b", keys=["loss"])
    names = [each.name for each in found.measures if "loss" in each.name]
    assert names == [*(f"batch/loss at step {step}" for step in (1, 4, 7, 10)), "batch/loss last"]
    assert measure(found, "batch/loss at step 10").best is None, "as good as each other there"
    assert any("reaches different steps (10, 40)" in note for note in found.notes)


def test_a_step_is_compared_only_where_a_curve_has_a_new_value(tmp_path: Path) -> None:
    for name in "ab":
        rare = [{"epoch/step": step, "epoch/val/loss": 1 / step} for step in (41, 82)]
        write_run(tmp_path / name, name, CONFIG, {}, rare)
    found = compared(tmp_path, "a", "b")
    names = [each.name for each in found.measures if "val/loss" in each.name]
    assert names == ["epoch/val/loss at step 41", "epoch/val/loss last", "epoch/val/loss best"]


def test_the_better_side_is_marked_only_beyond_chance(tmp_path: Path) -> None:
    for group, values in (("a", (0.5, 0.7)), ("b", (0.6, 0.7))):
        for seed, value in enumerate(values):
            write_run(tmp_path / group, f"{group}{seed}", CONFIG, {}, rows(4, value))
    last = measure(compared(tmp_path, "a", "b"), "epoch/val/acc last")
    assert (last.best, last.differences[1].verdict) == (None, "not distinguishable")


def test_commits_and_files_between_the_runs_are_named(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        command = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b", *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    git("init", "-q")
    commits = []
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text(name)
        git("add", f"{name}.py")
        git("commit", "-qm", f"Write {name}")
        commits.append(git("rev-parse", "HEAD"))
    for name, commit in zip("ab", commits, strict=True):
        write_run(tmp_path / name, name, {**CONFIG, "git/commit": commit}, {}, rows(5, 0.5))
    found = compared(tmp_path, "a", "b", repository=tmp_path)
    assert found.commits == ((commits[0][:7],), (commits[1][:7],))
    assert found.log == (f"+ {commits[1][:7]} Write two",)
    assert found.files == ("two.py",)
    assert compared(tmp_path, "b", "a", repository=tmp_path).log == (f"- {commits[1][:7]} Write two",)
    elsewhere = compared(tmp_path, "a", "b", repository=Path("/"))
    assert "what changed between the commits is not known: the repository is not in this folder" in elsewhere.notes


def test_commits_of_a_run_cannot_give_git_options(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    target = tmp_path / "written"
    for name, commit in (("a", f"--output={target}"), ("b", 123), ("c", "b" * 40)):
        write_run(tmp_path / name, name, {**CONFIG, "git/commit": commit}, {}, rows(5, 0.5))
    for first, second in ("ac", "ca", "ab", "bc"):
        found = compared(tmp_path, first, second, repository=tmp_path)
        assert (found.log, found.files) == ((), ())
    assert list(tmp_path.glob("written*")) == []


def test_uncommitted_changes_are_named_though_the_commit_is_the_same(tmp_path: Path) -> None:
    for name, dirty in (("a", False), ("b", True)):
        write_run(tmp_path / name, name, {**CONFIG, "git/dirty": dirty}, {}, rows(5, 0.5))
    found = compared(tmp_path, "a", "b")
    assert found.commits == (("aaaaaaa",), ("aaaaaaa*",))
    assert found.notes == ("code with uncommitted changes (*) may differ beyond its commit",)


@pytest.mark.parametrize("value", ["text", math.nan, math.inf])
def test_a_metric_without_numbers_is_not_compared(tmp_path: Path, value: Any) -> None:
    write_run(tmp_path / "a", "a", CONFIG, {}, rows(5, 0.5)[:-1])
    write_run(tmp_path / "b", "b", CONFIG, {}, [{"batch/step": 1, "batch/loss": value}], status="failed")
    found = compared(tmp_path, "a", "b")
    assert found.notes == ("failed: b; counted as far as it got", "no metric has numbers on all sides")
    assert measure(found, "batch/loss last").differences[1].verdict == "not in both"


def test_mistakes_are_named(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "a", CONFIG, {}, rows(5, 0.5))
    write_run(
        tmp_path / "b",
        "b",
        CONFIG,
        {},
        [{"batch/step": 1, "batch/other": 1.0}],
        status="running",
        host="x",
        boot_id="y",
    )
    write_run(tmp_path / "c", "c", format=99)
    assert set(compared(tmp_path, "a", "b").notes) == {"still running: b", "no metric has numbers on all sides"}
    with pytest.raises(ReadError, match=r"'c' has no run that can be read: .*format"):
        compared(tmp_path, "a", "c")
    with pytest.raises(ReadError, match="takes two runs or groups"):
        compared(tmp_path, "a")
    with pytest.raises(ReadError, match="no key 'lss' in the run's history; did you mean 'loss'"):
        compared(tmp_path, "a", "b", keys=["lss"])


def test_differences_leave_out_accidents_and_repeats(tmp_path: Path) -> None:
    first = {
        **CONFIG,
        "trainer/output_dir": "/x",
        "runtime/host": "h1",
        "runtime/slurm_job_id": "1",
        "runtime/torch": "2.1",
        "data/fingerprint": "f",
    }
    second = {**first, "hparams/lr": 0.2, "optim/lr": 0.2, "trainer/output_dir": "/y", "runtime/host": "h2"}
    second["runtime/slurm_job_id"] = "2"
    second |= {"git/commit": "b" * 40, "runtime/torch": "2.2", "data/fingerprint": "e", "hparams/new": [1]}
    write_run(tmp_path, "a", first, started=1.0)
    write_run(tmp_path, "b", second, started=2.0)
    a, b = trackkit.runs(tmp_path)
    assert differences(a, b) == [
        Difference("config", "hparams/lr", 0.1, 0.2),
        Difference("config", "hparams/new", None, [1]),
        Difference("code", "git/commit", "a" * 40, "b" * 40),
        Difference("data", "data/fingerprint", "f", "e"),
        Difference("environment", "runtime/torch", "2.1", "2.2"),
    ]
    found = previous(b, trackkit.runs(tmp_path))
    assert found is not None
    assert found.run_id == "a"
    assert previous(a, trackkit.runs(tmp_path)) is None
