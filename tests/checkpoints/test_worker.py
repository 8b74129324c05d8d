"""What reaches a server, and what stays there, is what the settings ask for: whatever fails, and in whatever order."""

from __future__ import annotations

import logging
import math
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.memory_uploads import MemoryUploads
from tests.support.saving import Saver, states
from trackkit.callbacks import build_callbacks
from trackkit.checkpoints import server_side, worker
from trackkit.checkpoints.aliases import wanted
from trackkit.checkpoints.entry import Entry
from trackkit.checkpoints.staging import Staging
from trackkit.checkpoints.uploads import UploadError
from trackkit.engine.sink import Sink
from trackkit.errors import ConfigError


class Server(Sink):
    """A backend that takes checkpoints."""

    def __init__(self, uploads: MemoryUploads) -> None:
        self.uploads = uploads


def saver(root: Path, uploads: MemoryUploads, **options: object) -> Saver:
    return Saver(root, sinks=[Server(uploads)], **options)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the pauses after failures short."""
    for name in ("FIRST_PAUSE_S", "LONGEST_PAUSE_S", "FIRST_LOOK_S"):
        monkeypatch.setattr(server_side, name, 0.005)
    monkeypatch.setattr(worker, "LOOK_S", 0.01)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_versions_are_the_newest_and_the_protected(tmp_path: Path) -> None:
    uploads = MemoryUploads()
    run = saver(tmp_path, uploads, keep=2)
    for step in range(20):
        run.save(step, abs(step - 7.2))
    run.close()
    assert {alias: number - 1 for alias, number in uploads.aliases.items() if "step" not in alias} == {
        "was-best": 6,
        "best": 7,
        "latest": 19,
    }
    assert sorted(each.number - 1 for each in uploads.live) == [6, 7, 18, 19]
    assert Staging(run.folder).numbers() == []
    for each in uploads.versions:
        assert each.content == {f"step={each.number - 1}.ckpt": b"weights %d" % (each.number - 1)}


def test_thousand_saves_leave_the_newest_and_the_protected(tmp_path: Path) -> None:
    uploads = MemoryUploads()
    run = saver(tmp_path, uploads, upload="all", keep=3)
    for step in range(1000):
        run.save(step, abs(step - 400.2)).unlink()
    run.close()
    assert {each.number - 1 for each in uploads.live} == {399, 400, 997, 998, 999}
    assert {each.step for each in run.entries if each.is_present} == {399, 400, 997, 998, 999}
    assert {each.state for each in run.entries} <= {"committed", "deleted", "skipped"}
    assert Staging(run.folder).numbers() == []


@pytest.mark.parametrize("seed", range(6))
def test_server_ends_as_the_ledger_says_after_any_failures(tmp_path: Path, seed: int) -> None:
    """Questions fail, uploads end in any order, and the process is replaced at any moment."""
    chance = random.Random(seed)
    uploads = MemoryUploads(chance)
    run = saver(tmp_path, uploads, keep=2)
    for step in range(30):
        run.save(step, chance.choice([math.nan, 1.0, 2.0, 3.0, 4.0]))
        time.sleep(chance.choice([0.0, 0.0, 0.004]))
        uploads.holds = chance.random() < 0.3
        if chance.random() < 0.1:
            # As if it was killed: what waits is not handed over.
            run.store.closed()
            run = saver(tmp_path, uploads, keep=2)
    uploads.holds, uploads.chance = False, None
    uploads.release()
    run.close()
    entries = run.entries
    present = [each for each in entries if each.is_present]
    assert {each.state for each in present} == {"committed"}
    assert sorted(each.number for each in uploads.live) == [each.number for each in present]
    names = wanted(entries)
    assert {each.number: sorted(each.aliases) for each in uploads.live} == {
        number: sorted(aliases) for number, aliases in names.items()
    }
    assert {each.step for each in present} >= {28, 29}
    assert "latest" in names[max(names)]


def test_superseded_checkpoints_are_skipped_with_a_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    uploads = MemoryUploads()
    uploads.holds = True
    run = saver(tmp_path, uploads, keep=1)
    run.save(0, 5.0)
    wait_for(lambda: bool(uploads.versions))
    for step in range(1, 8):
        run.save(step, 9.0 - step)
    wait_for(lambda: sum(each.state == "skipped" for each in run.store.ledger.entries) == 5)
    uploads.holds = False
    uploads.release()
    run.close()
    assert [each.number - 1 for each in uploads.versions] == [0, 6, 7]
    assert "The checkpoint of step 1 is not uploaded: newer ones were saved before its turn." in caplog.text
    assert "5 superseded checkpoints were not uploaded." in caplog.text


def test_all_uploads_every_save(tmp_path: Path) -> None:
    uploads = MemoryUploads()
    run = saver(tmp_path, uploads, upload="all", keep=1)
    for step in range(10):
        run.save(step)
    run.close()
    assert [each.number - 1 for each in uploads.versions] == list(range(10))
    assert [each.number - 1 for each in uploads.live] == [9]


def test_none_uploads_nothing(tmp_path: Path) -> None:
    uploads = MemoryUploads()
    run = saver(tmp_path, uploads, upload="none")
    run.save(1, 0.5)
    run.close()
    assert uploads.versions == []
    assert [(each.state, each.reason, each.value) for each in run.entries] == [("skipped", "'upload' is 'none'", 0.5)]
    assert Staging(run.folder).numbers() == []


def test_best_uploads_what_is_the_best_when_it_is_saved(tmp_path: Path) -> None:
    uploads = MemoryUploads()
    run = saver(tmp_path, uploads, upload="best")
    for step, value in enumerate([3.0, 4.0, 1.0, float("nan"), 2.0]):
        run.save(step, value)
    run.save(9)
    run.close()
    assert states(run.entries) == {
        0: "committed",
        1: "skipped",
        2: "committed",
        3: "skipped",
        4: "skipped",
        9: "skipped",
    }
    assert {each.reason for each in run.entries if each.state == "skipped"} == {"'upload' is 'best', and it is not"}
    assert (uploads.aliases["best"], uploads.aliases["was-best"]) == (3, 1)


def test_large_checkpoints_are_recorded_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    uploads = MemoryUploads()
    run = saver(tmp_path, uploads, max_GB=2e-6)
    for step, size in enumerate([1000, 3000, 3000]):
        run.save(step, content=b"x" * size)
    run.close()
    assert states(run.entries) == {0: "committed", 1: "skipped", 2: "skipped"}
    assert run.entries[1].reason == "larger than 'max_GB' (2e-06)"
    assert run.entries[1].files[0].size == 3000
    said = [each.message for each in caplog.records if "max_GB" in each.message]
    assert said == [
        "The checkpoint of step 1 (3e-06 GB) is recorded and not uploaded: larger than 'max_GB' (2e-06). Change it "
        "under 'callbacks: checkpoints:'."
    ]


def test_run_uploads_up_to_its_total(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    uploads = MemoryUploads()
    run = saver(tmp_path, uploads, max_total_GB=3.5e-6, keep=1)
    for step in range(6):
        run.save(step, content=b"%d" % step * 1000)
        run.wait_for("committed", "skipped", "deleted")
    run.close()
    assert states(run.entries) == {0: "deleted", 1: "deleted", 2: "committed", 3: "skipped", 4: "skipped", 5: "skipped"}
    assert len(uploads.versions) == 3
    assert len([each for each in caplog.records if "'max_total_GB' (3.5e-06) is reached" in each.message]) == 1


def test_total_that_is_reached_by_what_waits_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    uploads = MemoryUploads()
    uploads.holds = True
    run = saver(tmp_path, uploads, max_total_GB=3.5e-6, keep=9)
    for step in range(6):
        run.save(step, content=b"%d" % step * 1000)
    run.wait_for("hashed", "handed over")
    uploads.holds = False
    uploads.release()
    run.close()
    assert [each.state for each in run.entries] == ["committed"] * 3 + ["skipped"] * 3
    said = [each.message for each in caplog.records if "max_total_GB" in each.message]
    assert len(said) == 1
    assert "Change it under 'callbacks: checkpoints:'." in said[0]


def test_incomplete_checkpoints_are_recorded_only(tmp_path: Path) -> None:
    uploads = MemoryUploads()
    run = saver(tmp_path, uploads)
    run.save(1, complete=False)
    run.close()
    assert uploads.versions == []
    assert run.entries[0].reason == "the framework marks it as incomplete"


def test_optimizer_files_are_left_out_of_folders(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    uploads = MemoryUploads()
    run = saver(tmp_path, uploads, weights_only=True, keep=4)
    for name in ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state_0.pth", "config.json"):
        run.write(f"checkpoint-1/{name}", b"x")
    run.save(1, path=run.saves / "checkpoint-1")
    run.save(2, resumable=False)
    assert not caplog.records
    for step in (3, 4):
        run.save(step)
    run.close()
    assert sorted(uploads.versions[0].content) == ["config.json", "model.safetensors"]
    assert [each.resumable for each in run.entries] == [False, False, True, True]
    assert [each.message for each in caplog.records if "weights_only" in each.message] == [
        "'weights_only' can't leave the optimizer's state out of a checkpoint that is one file. Give Lightning's "
        "ModelCheckpoint `save_weights_only=True`."
    ]


def test_every_monitor_has_a_collection(tmp_path: Path) -> None:
    uploads = MemoryUploads()
    run = saver(tmp_path, uploads, keep=1)
    for step, (loss, acc) in enumerate([(3.0, 0.1), (1.0, 0.9), (2.0, 0.5)]):
        run.save(step, loss, path=run.write(f"a{step}", b"%d" % step), series="val_loss")
        run.save(step, acc, path=run.write(f"b{step}", b"%d" % step), series="acc", monitor="acc", goal="max")
    run.save(3, path=run.write("a3", b"3"), series="val_loss")
    run.close()
    found = {(each.collection, *sorted(each.aliases)) for each in uploads.live}
    assert found == {
        ("model-toy-val_loss", "step-0", "was-best"),
        ("model-toy-val_loss", "best", "step-1"),
        ("model-toy-val_loss", "latest", "step-3"),
        ("model-toy-acc", "step-0", "was-best"),
        ("model-toy-acc", "best", "step-1"),
        ("model-toy-acc", "latest", "step-2"),
    }


def test_best_is_promoted_at_the_end(tmp_path: Path) -> None:
    uploads = MemoryUploads()
    run = saver(tmp_path, uploads, promote="staging")
    for step, value in enumerate([3.0, 1.0, 2.0]):
        run.save(step, value)
    run.close()
    assert uploads.aliases["staging"] == 2
    again = saver(tmp_path, uploads, promote="staging")
    again.save(3, 0.5)
    again.close()
    assert uploads.aliases["staging"] == uploads.aliases["best"] == 4
    assert [each.promoted for each in again.entries] == [(), (), (), ("staging",)]


def test_best_is_linked_to_a_registry_at_the_end(tmp_path: Path) -> None:
    uploads = MemoryUploads()
    run = saver(tmp_path, uploads, promote={"registry": "wandb-registry-model/resnet", "alias": "staging"})
    for step, value in enumerate([3.0, 1.0, 2.0]):
        run.save(step, value)
    run.close()
    assert uploads.links == [("wandb-registry-model/resnet", "staging")]
    assert run.entries[1].linked == run.entries[1].links == ("wandb-registry-model/resnet:staging",)


@pytest.mark.parametrize("promote", ["production", {"registry": "wandb-registry-model/resnet", "alias": "staging"}])
def test_refused_promotion_stops_nothing_else(
    tmp_path: Path, promote: object, caplog: pytest.LogCaptureFixture
) -> None:
    uploads = MemoryUploads()
    uploads.denied = {"production", "wandb-registry-model/resnet"}
    run = saver(tmp_path, uploads, promote=promote, keep=1)
    for step in range(8):
        run.save(step, 9.0 - step)
    run.close()
    assert uploads.aliases == {"latest": 8, "best": 8, "step-7": 8, "was-best": 7, "step-6": 7}
    assert len([each for each in caplog.records if "W&B does not" in each.message]) == 1
    uploads.denied = set()
    again = saver(tmp_path, uploads, promote=promote, keep=1)
    again.save(8, 10.0)
    again.close()
    assert (uploads.links or uploads.aliases["production"]) in (8, [("wandb-registry-model/resnet", "staging")])


def test_latest_of_a_shared_collection_does_not_move_back(tmp_path: Path) -> None:
    """The older save of one run is uploaded after the newer one of another."""
    uploads = MemoryUploads()
    first = saver(tmp_path / "a", uploads, keep=1)
    uploads.holds = True
    first.save(0, 1.0, b"of a")
    wait_for(lambda: len(uploads.versions) == 1)
    time.sleep(0.01)
    uploads.holds = False
    second = saver(tmp_path / "b", uploads, keep=1)
    pending, uploads.versions[0].state = uploads.versions[0].state, "held"
    second.save(1, 2.0, b"of b")
    second.wait_for("committed")
    uploads.versions[0].state = pending
    uploads.release()
    assert uploads.versions[0].aliases == ["latest"]
    first.close()
    second.close()
    assert [sorted(each.aliases) for each in uploads.live] == [["best", "step-0"], ["latest", "step-1"]]


def test_used_versions_and_those_with_other_aliases_stay(tmp_path: Path) -> None:
    uploads = MemoryUploads()
    run = saver(tmp_path, uploads, keep=1)
    for step in range(3):
        run.save(step)
        run.wait_for("committed", "deleted")
        if step == 0:
            uploads.versions[0].aliases.append("production")
        if step == 1:
            uploads.used.add((uploads.versions[1].collection, uploads.versions[1].digest))
    for step in range(3, 6):
        run.save(step)
    run.close()
    assert [each.number - 1 for each in uploads.live] == [0, 1, 5]
    assert uploads.aliases["production"] == 1


def test_same_content_is_one_version(tmp_path: Path) -> None:
    uploads = MemoryUploads()
    run = saver(tmp_path, uploads, keep=1)
    for step in range(4):
        run.save(step, path=run.write("last.ckpt", b"the same"))
        run.wait_for("committed", "deleted")
    run.close()
    (version,) = uploads.versions
    assert sorted(version.aliases) == ["latest", "step-3"]
    assert states(run.entries) == {0: "deleted", 1: "deleted", 2: "deleted", 3: "committed"}


def test_version_of_a_file_that_was_rewritten_in_mid_upload_is_deleted(tmp_path: Path) -> None:
    uploads = MemoryUploads()
    run = saver(tmp_path, uploads)
    run.save(1, 5.0)
    run.wait_for("committed")
    uploads.holds = True
    path = run.save(2, 1.0)
    wait_for(lambda: len(uploads.versions) == 2)
    path.write_bytes(b"another model")
    uploads.release()
    run.wait_for("committed", "overwritten")
    run.close()
    assert run.entries[1].reason == "'step=2.ckpt' was rewritten while it was uploaded"
    assert [each.state for each in uploads.versions] == ["committed", "deleted"]
    assert uploads.aliases == {"latest": 1, "best": 1, "step-1": 1}


def test_refused_checkpoint_does_not_hold_up_the_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    uploads = MemoryUploads()
    uploads.refuses = True
    run = saver(tmp_path, uploads)
    run.save(1)
    wait_for(lambda: bool(run.store.ledger[1].reason))
    uploads.refuses = False
    run.save(2)
    wait_for(lambda: run.store.ledger[2].state == "committed")
    run.close()
    assert states(run.entries) == {1: "hashed", 2: "committed"}
    assert "W&B refused the checkpoint of step 1" in caplog.text
    assert f"W&B does not have the checkpoint of step 1 yet. Upload with `trackkit sync {run.folder}`." in caplog.text


def test_run_ends_at_once_when_the_server_is_away(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    uploads = MemoryUploads(finish_timeout=60.0)
    uploads.away = True
    run = saver(tmp_path, uploads)
    for step in range(3):
        run.save(step)
    run.wait_for("hashed")
    began = time.monotonic()
    run.close()
    assert time.monotonic() - began < 30
    assert states(run.entries) == {0: "hashed", 1: "hashed", 2: "hashed"}
    assert len([each for each in caplog.records if "can't be uploaded now: no answer" in each.message]) == 1
    uploads.away = False
    again = saver(tmp_path, uploads)
    again.wait_for("committed")
    again.close()
    assert uploads.aliases["latest"] == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"upload": "last"}, "'upload' must be one of 'best_and_latest', 'best', 'all', 'none'; got 'last'"),
        ({"keep": 0}, "'keep' must be a whole number, 1 or more; got 0"),
        ({"keep": True}, "'keep' must be a whole number, 1 or more; got True"),
        ({"max_GB": "5"}, "'max_GB' must be a number, 0 or more; got '5'"),
        ({"max_total_GB": -1}, "'max_total_GB' must be a number, 0 or more; got -1"),
        ({"keep_days": "a week"}, "'keep_days' must be a number, 0 or more; got 'a week'"),
        ({"weights_only": 1}, "'weights_only' must be true or false; got 1"),
        ({"name": "{model}"}, "'name' has the unknown field {model}; known are {name}, {run_id}, {group}, {series}"),
        (
            {"promote": "best"},
            "the alias 'best' is set by TrackKit or W&B itself; choose another, such as 'production'",
        ),
        ({"promote": {"registry": "r/m", "alias": "a:b"}}, "an alias must be a word without '/' and ':'; got 'a:b'"),
        ({"promote": {"alias": "staging"}}, "'promote' must be an alias or {registry: ..., alias: ...}; got {'alias'"),
        ({"keeps": 3}, "unknown option 'keeps' of callback 'checkpoints'; did you mean 'keep'?"),
    ],
)
def test_wrong_options_are_errors(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        build_callbacks({"checkpoints": options})
    assert message in str(error.value)


def test_version_stays_when_its_staged_files_are_deleted_in_mid_upload(tmp_path: Path) -> None:
    uploads = MemoryUploads()
    run = saver(tmp_path, uploads)
    uploads.holds = True
    run.save(1)
    wait_for(lambda: len(uploads.versions) == 1)
    shutil.rmtree(Staging(run.folder).home)
    uploads.release()
    run.wait_for("committed")
    run.close()
    assert [each.state for each in uploads.versions] == ["committed"]


def test_alias_of_the_user_that_begins_like_ours_stays_and_protects(tmp_path: Path) -> None:
    uploads = MemoryUploads()
    run = saver(tmp_path, uploads, keep=1)
    run.save(0)
    run.wait_for("committed")
    uploads.versions[0].aliases.append("step-final")
    for step in range(1, 4):
        run.save(step)
        run.wait_for("committed", "deleted")
    run.close()
    assert uploads.aliases["step-final"] == 1


def test_refused_deletion_stops_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Keeps(MemoryUploads):
        def delete(self, entry: Entry, used: bool = False) -> bool:
            raise UploadError("permission denied")

    uploads = Keeps()
    run = saver(tmp_path, uploads, keep=1, promote={"registry": "wandb-registry-model/toy", "alias": "staging"})
    for step in range(5):
        run.save(step, 5.0 - step)
        run.wait_for("committed")
    run.close()
    assert uploads.links == [("wandb-registry-model/toy", "staging")]
    assert "W&B does not delete 'model-toy:v" in caplog.text
