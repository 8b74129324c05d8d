"""The recorded surroundings of a run: config, repository, name, project, tags, data."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch.utils.data import TensorDataset

import trackkit
from tests.support.toy import BATCH, SAMPLES, TRAININGS, Recipe
from trackkit import TrackKit
from trackkit.integrations.memory import MemorySink
from trackkit.record.fingerprint import fingerprint
from trackkit.record.git import GitState, changed_files, commits_between, read_git
from trackkit.record.run_config import data_config
from trackkit.session.identity import default_project, default_tags, run_name

RECIPE = Recipe(epochs=1, every=10, accumulation=2)


def git(*arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=trunk"]
    return subprocess.run(["git", *identity, *arguments], check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize("framework", sorted(TRAININGS))
def test_both_frameworks_record_the_same_sections(framework: str) -> None:
    kit = TrackKit(sinks=[sink := MemorySink()], synonyms={"acc": "accuracy"})
    net = TRAININGS[framework](RECIPE, Path("out"), [kit])
    config = sink.settings
    sections = {"model", "data", "optim", "trainer", "runtime", "seed", "trackkit"}
    assert sections <= {key.split("/")[0] for key in config} <= sections | {"hparams"}
    parameters = sum(parameter.numel() for parameter in net.parameters())
    assert config["model/total_params_M"] == config["model/trainable_params_M"] == parameters / 1e6
    assert config["model/class"]
    assert (config["optim/class"], config["optim/lr"], config["optim/scheduler"]) == ("SGD", RECIPE.lr, "LambdaLR")
    data = ("train_samples", "batch_size_per_device", "accumulation", "batch_size_global")
    assert [config[f"data/{name}"] for name in data] == [SAMPLES, BATCH, 2, 2 * BATCH]
    assert config["runtime/framework"] == framework
    assert config["runtime/torch"] == torch.__version__
    assert (config["runtime/host"], config["runtime/world_size"]) == (socket.gethostname(), 1)
    assert (config["runtime/device"], config["runtime/precision"][:2]) == ("cpu", "32")
    assert config["seed/torch"] == torch.initial_seed()
    assert config["trackkit/version"] == trackkit.__version__
    assert config["trackkit/settings/synonyms/acc"] == "accuracy"
    assert config["trackkit/renames"]["train_acc"] == "batch/accuracy"
    assert any(key.startswith("trainer/") and "accum" in key and value == 2 for key, value in config.items())


@pytest.mark.parametrize("framework", sorted(TRAININGS))
def test_launcher_may_set_the_run_id(framework: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_RUN_ID", f"my-{framework}")
    TRAININGS[framework](RECIPE, Path("out"), [TrackKit(sinks=[sink := MemorySink()])])
    assert sink.info is not None
    assert (sink.info.run_id, sink.info.folder.name) == (f"my-{framework}", f"my-{framework}")


def test_fingerprint_is_the_same_in_both_frameworks() -> None:
    found = set()
    for training in TRAININGS.values():
        training(RECIPE, Path("out"), [TrackKit(sinks=[sink := MemorySink()])])
        found.add(sink.settings["data/fingerprint"])
    assert len(found) == 1


def test_repository_is_recorded_without_its_credentials(tmp_path: Path) -> None:
    assert read_git(tmp_path) is None
    git("init", "-q")
    git("remote", "add", "origin", "https://me:pw@example.org/o/n.git")
    assert read_git(tmp_path) == GitState(tmp_path, "", "trunk", False, "https://***@example.org/o/n.git")
    Path("a").write_text("1")
    git("add", "a")
    git("commit", "-q", "-m", "a")
    Path("sub").mkdir()
    clean = read_git(tmp_path / "sub")
    assert clean is not None
    assert clean.config() == {
        "git/commit": git("rev-parse", "HEAD"),
        "git/branch": "trunk",
        "git/dirty": False,
        "git/remote": "https://***@example.org/o/n.git",
    }
    Path("a").write_text("2")
    git("checkout", "-q", "--detach")
    dirty = read_git(tmp_path)
    assert dirty is not None
    assert (dirty.dirty, dirty.branch, dirty.short) == (True, "", git("rev-parse", "HEAD")[:7] + "+")


def test_commits_between_take_no_options_from_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    git("init", "-q")
    hashes = []
    for name in "ab":
        Path(name).touch()
        git("add", name)
        git("commit", "-q", "-m", f"Add {name}")
        hashes.append(git("rev-parse", "HEAD"))
    first, second = hashes
    assert commits_between(tmp_path, first, second) == [f"+ {second[:7]} Add b"]
    assert commits_between(tmp_path, second, first) == [f"- {second[:7]} Add b"]
    assert changed_files(tmp_path, first, second) == ["b"]
    for before, after in ((f"--output={tmp_path}/c", second), (second, f"--output={tmp_path}/c"), ("", second)):
        assert commits_between(tmp_path, before, after) == changed_files(tmp_path, before, after) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == [".git", "a", "b"]


STATE = GitState(Path("/src/my repo"), "a" * 40, "main", True, "")


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("{run_id}-{phase}", "r1-fit"),
        ("{hostname}/{git}", f"{socket.gethostname()}/aaaaaaa+"),
        ("lr={hparams.lr} {hparams.optim.name}", "lr=0.001 adam"),
        ("{hparams.lr:.0e}-{hparams.text:.0e}", "1e-03-{'a': 1}"),
        ("{hparams.none}x", "x"),
        ("{version}-{slurm_job_id}", "version_3-42"),
        ("{{literal}}", "{literal}"),
        ("x" * 200, "x" * 128),
        ("{hparams.none}", "r1"),
    ],
)
def test_name_template_is_filled_in(template: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    hparams = {"lr": 1e-3, "optim/name": "adam", "text": "{'a': 1}"}
    assert run_name(template, "r1", "fit", STATE, hparams, "version_3") == name


def test_default_name_has_the_script_the_job_or_time_and_the_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/somewhere/train_gpt.py", "--lr", "1"])
    experiment, day, clock, commit, end = run_name(None, "abcdefgh", "fit", STATE, {}).split("-")
    assert (experiment, len(day), len(clock), commit, end) == ("train_gpt", 8, 6, "aaaaaaa+", "efgh")
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    assert run_name(None, "r1", "fit", None, {}) == "train_gpt-42-r1"
    assert run_name(None, "same-2", "fit", None, {}) != run_name(None, "same-3", "fit", None, {})


@pytest.mark.parametrize(
    ("program", "experiment"),
    [
        ("-", "python"),
        ("-c", "python"),
        ("", "python"),
        ("/lib/ipykernel_launcher.py", "notebook"),
        ("/lib/colab_kernel_launcher.py", "notebook"),
        ("/lib/my_package/__main__.py", "my_package"),
        ("/usr/bin/pytest", "pytest"),
        ("train.v2.py", "train.v2"),
    ],
)
def test_default_name_without_a_script(program: str, experiment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    monkeypatch.setattr("sys.argv", [program])
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    assert run_name(None, "r1", "fit", None, {}) == f"{experiment}-42-r1"


def test_default_name_has_the_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/lib/ipykernel_launcher.py", "-f", "kernel.json"])
    monkeypatch.setattr(sys.modules["__main__"], "__vsc_ipynb_file__", "/home/me/second.ipynb", raising=False)
    assert run_name(None, "r1", "fit", None, {}).startswith("second-")
    monkeypatch.setenv("JPY_SESSION_NAME", "/home/me/first try.ipynb")
    assert run_name(None, "r1", "fit", None, {}).startswith("first try-")


def test_default_project_is_the_repository_else_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_project(STATE, Path()) == "my-repo"
    (folder := tmp_path / "a#b: c%").mkdir()
    monkeypatch.chdir(folder)
    assert default_project(None, Path()) == "a-b-c"
    monkeypatch.chdir("/")
    assert default_project(None, Path()) == "trackkit"


@pytest.mark.parametrize(("variable", "place"), [("true", "ci"), ("1", "ci"), ("", "local"), ("false", "local")])
def test_tag_tells_ci_from_local(variable: str, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", variable)
    given = ["mine"]
    assert default_tags(given) == ["mine", place]
    assert default_tags([place]) == [place]
    assert given == ["mine"]


class Untouchable:
    """Data whose samples may not be read."""

    def __init__(self, **arrays: Any) -> None:
        self.__dict__.update(arrays)

    def __len__(self) -> int:
        raise TypeError("no length")

    def __getitem__(self, index: Any) -> Any:
        raise AssertionError("indexing may draw random numbers")

    __iter__ = __getitem__  # type: ignore[assignment]


ARRAYS = [
    torch.arange(12.0).reshape(3, 4),
    torch.arange(12.0).to(torch.bfloat16),
    torch.arange(12).reshape(3, 4).t(),
    torch.tensor(1.0),
    torch.ones(3, dtype=torch.complex64).conj(),
    torch.ones(4).to(torch.float8_e4m3fn),
    torch.zeros(3_000_000, dtype=torch.uint8),
    numpy.arange(12).reshape(3, 4).T,
    numpy.array(["a", "b"]),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}-{tuple(array.shape)}")
def test_fingerprint_depends_on_the_content(array: Any) -> None:
    def of(value: Any) -> str | None:
        return fingerprint(Untouchable(x=value))

    changed = array.clone() if isinstance(array, torch.Tensor) else array.copy()
    assert of(array) == of(changed) == of(changed.clone() if hasattr(changed, "clone") else changed.copy())
    changed[(-1,) * changed.ndim] = 5
    assert of(array) != of(changed)
    assert of(array) != of(array.reshape(*array.shape, 1))
    assert len(of(array) or "") == 16


def test_data_set_without_arrays_has_only_its_own_fingerprint() -> None:
    assert fingerprint(Untouchable(files=["a", "b"])) is None
    assert fingerprint(Untouchable(_fingerprint="abc")) == "abc"
    assert fingerprint(None) is None
    assert fingerprint(TensorDataset(torch.ones(3))) != fingerprint(TensorDataset(torch.zeros(3)))
    assert set(data_config(Untouchable(), None, 1, 1)) == {"data/accumulation", "data/dataset"}
