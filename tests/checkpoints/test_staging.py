"""The files of a checkpoint stay as they were saved, or the ledger says that they did not."""

from __future__ import annotations

import base64
import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from hashlib import md5
from pathlib import Path

import pytest

from tests.support.saving import Saver, states
from tests.support.small_disk import SmallDisk
from trackkit.checkpoints import worker
from trackkit.checkpoints.entry import Entry, File, to_line
from trackkit.checkpoints.hashing import hashed
from trackkit.checkpoints.ledger import LEDGER, STAGING, Ledger
from trackkit.checkpoints.staging import REWRITTEN, SMALL, Staging, note


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    """Gives a folder on another file system than `tmp_path`."""
    folder = Path(tempfile.mkdtemp(dir="/dev/shm"))
    if folder.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs two file systems")
    yield folder
    shutil.rmtree(folder)


def staged(saver: Saver, entry: Entry) -> dict[str, bytes]:
    folder = Staging(saver.folder).folder(entry.number)
    return {file.name: (folder / file.name).read_bytes() for file in entry.files}


def test_deleted_file_is_kept_without_a_copy(tmp_path: Path) -> None:
    saver = Saver(tmp_path)
    path = saver.save(1, 0.5, b"weights")
    inode = path.stat().st_ino
    path.unlink()
    (entry,) = saver.wait_for("hashed")
    saver.close()
    assert staged(saver, entry) == {"step=1.ckpt": b"weights"}
    assert (Staging(saver.folder).folder(1) / "step=1.ckpt").stat().st_ino == inode == entry.files[0].inode
    assert (entry.step, entry.value, entry.metric, entry.goal, entry.commit) == (1, 0.5, "val_loss", "min", "c0ffee")
    assert (entry.files[0].md5, entry.path) == (base64.b64encode(md5(b"weights").digest()).decode(), str(path))


def test_clone_of_a_file_is_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system with reflinks gives a new file, which shares the blocks; here it is copied."""
    monkeypatch.setattr(Staging, "_clone", lambda _, source, target: bool(shutil.copyfile(source, target)))
    saver = Saver(tmp_path)
    path = saver.save(1, 0.5, b"weights")
    path.unlink()
    (entry,) = saver.wait_for("hashed")
    saver.close()
    assert staged(saver, entry) == {"step=1.ckpt": b"weights"}


def test_digest_is_the_one_that_wandb_computes(tmp_path: Path) -> None:
    import wandb

    for name in ("b.pt", "sub/a.pt", "a b.pt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    artifact = wandb.Artifact("x", "model")
    artifact.add_dir(str(tmp_path), policy="immutable", skip_cache=True)
    assert hashed(Entry(1, str(tmp_path), files=note(tmp_path)), tmp_path).digest == artifact.digest


def test_folder_is_linked_with_all_its_files(tmp_path: Path) -> None:
    saver = Saver(tmp_path)
    folder = saver.saves / "checkpoint-3"
    for name in ("model.safetensors", "sub/deep/shard.bin", "trainer_state.json"):
        saver.write(f"checkpoint-3/{name}", name.encode())
    (folder / "link.bin").symlink_to("model.safetensors")
    (folder / "broken").symlink_to("nothing")
    saver.save(3, path=folder)
    # A link to the newest, as Lightning's `save_last="link"` makes it.
    (saver.saves / "last").symlink_to(folder)
    saver.save(4, path=saver.saves / "last")
    saver.wait_for("hashed")
    shutil.rmtree(folder)
    saver.close()
    expected = {
        "link.bin": b"model.safetensors",
        **{name: name.encode() for name in ("model.safetensors", "sub/deep/shard.bin", "trainer_state.json")},
    }
    assert [staged(saver, each) for each in saver.entries] == [expected, expected]


@pytest.mark.parametrize(("framework", "lost"), [("loop", {}), ("lightning", {1: "overwritten"})])
def test_path_that_is_written_anew_each_time_is_copied(tmp_path: Path, framework: str, lost: dict[int, str]) -> None:
    """`torch.save` writes in place, as does Lightning where the folder for temporary files is on another disk."""
    saver = Saver(tmp_path, keep=10)
    path = tmp_path / "last.pt"
    for step in range(1, 5):
        path.write_bytes(b"weights %d" % step)
        saver.save(step, abs(step - 2), path=path, framework=framework)
    entries = saver.wait_for("hashed", "overwritten")
    saver.close()
    assert states(entries) == {**dict.fromkeys(range(1, 5), "hashed"), **lost}
    for each in entries:
        if each.step not in lost:
            assert staged(saver, each) == {"last.pt": b"weights %d" % each.step}


def test_first_save_to_each_of_two_paths_of_a_loop_is_copied(tmp_path: Path) -> None:
    """`last.pt` after each epoch, and `best.pt` after each that is the best."""
    saver = Saver(tmp_path, keep=10)
    for step in (1, 2):
        for name in ("last.pt", "best.pt"):
            (tmp_path / name).write_bytes(b"%d" % step)
            saver.save(step, path=tmp_path / name, framework="loop", series=name)
    entries = saver.wait_for("hashed", "overwritten")
    saver.close()
    assert [list(staged(saver, each).values()) for each in entries] == [[b"1"], [b"1"], [b"2"], [b"2"]]


def test_folder_of_several_ranks_that_is_written_anew_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trackkit.checkpoints.staging.QUIET_S", 0.1)
    saver = Saver(tmp_path, keep=10)
    for size in (10, SMALL + 1):
        for step in (size, size + 1):
            for rank in (0, 1):
                (saver.write("last/x", b"").parent / f"{rank}.bin").write_bytes(b"%d" % (step % 10) * size)
            saver.save(step, path=saver.saves / "last", framework="accelerate", shared=True)
            entries = saver.wait_for("hashed")
    saver.close()
    for each in entries:
        assert staged(saver, each)["1.bin"][:1] == b"%d" % (each.step % 10)
    assert not list(saver.folder.rglob(".*.held"))


@pytest.mark.parametrize("clones", [False, True])
@pytest.mark.parametrize("name", ["random_states_1.pkl", "__1_0.distcp"])
def test_small_file_that_another_rank_still_writes_is_copied_whole(
    name: str, clones: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are written in place: the first in a folder of Accelerate, the second in any."""
    if clones:
        monkeypatch.setattr(Staging, "_clone", lambda _, source, target: bool(shutil.copyfile(source, target)))
    saver = Saver(tmp_path)
    folder = saver.write("last/model.bin", b"weights").parent
    with (folder / name).open("wb", buffering=0) as file:
        file.write(b"begin")
        saver.save(1, path=folder, framework="accelerate", shared=True)
        file.write(b"end")
    (entry,) = saver.wait_for("hashed")
    saver.close()
    assert staged(saver, entry) == {"model.bin": b"weights", name: b"beginend"}
    assert not list(saver.folder.rglob(".*.held"))


def test_file_that_is_to_be_copied_and_is_deleted_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trackkit.checkpoints.staging.SMALL", 0)
    saver = Saver(tmp_path, keep=10)
    with saver.store.ledger.lock:
        path = saver.save(1, content=b"one", framework="loop")
        inode = path.stat().st_ino
        path.unlink()
    saver.save(2, content=b"two", path=saver.write("a/b.distcp", b"two").parent)
    entries = saver.wait_for("hashed")
    saver.close()
    assert [staged(saver, each) for each in entries] == [{"step=1.ckpt": b"one"}, {"b.distcp": b"two"}]
    assert entries[0].files[0].inode == inode
    assert not list(saver.folder.rglob(".*.held"))


def test_folder_of_several_ranks_that_is_deleted_at_once_is_kept(tmp_path: Path) -> None:
    """Its small file that is rewritten in place too, which is copied only once the folder is quiet."""
    saver = Saver(tmp_path)
    folder = saver.write("checkpoint-1/model.bin", b"weights").parent
    saver.write("checkpoint-1/trainer_state.json", b"{}")
    saver.save(1, path=folder, framework="huggingface", shared=True)
    shutil.rmtree(folder)
    (entry,) = saver.wait_for("hashed")
    saver.close()
    assert staged(saver, entry) == {"model.bin": b"weights", "trainer_state.json": b"{}"}
    assert not list(saver.folder.rglob(".*.held"))


def test_loop_s_saves_to_differing_paths_are_linked(tmp_path: Path) -> None:
    saver = Saver(tmp_path)
    paths = [saver.save(step, framework="loop") for step in (1, 2, 3)]
    entries = saver.wait_for("hashed")
    inodes = [each.files[0].inode for each in entries]
    assert [path.stat().st_ino == inode for path, inode in zip(paths, inodes, strict=True)] == [False, True, True]
    saver.close()


def test_files_known_to_be_rewritten_are_copied(tmp_path: Path) -> None:
    """A folder that is saved again at the same path is written in place."""
    saver = Saver(tmp_path)
    names = [pattern.replace("*", "__0_0") for pattern in REWRITTEN]
    for name in names:
        saver.write(f"last.ckpt/{name}", b"one")
    saver.save(1, path=saver.saves / "last.ckpt")
    saver.wait_for("hashed")
    for name in names:
        (saver.saves / "last.ckpt" / name).write_bytes(b"two")
    saver.save(2, path=saver.saves / "last.ckpt")
    saver.wait_for("hashed")
    saver.close()
    assert [set(staged(saver, each).values()) for each in saver.entries] == [{b"one"}, {b"two"}]


def test_file_on_another_file_system_is_copied(
    tmp_path: Path, other_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    saver = Saver(tmp_path)
    saver.saves = other_disk
    paths = [saver.save(step, content=b"%d" % step * 1000) for step in (1, 2)]
    entries = saver.wait_for("hashed")
    for path in paths:
        path.unlink()
    saver.close()
    assert [staged(saver, each) for each in entries] == [{"step=1.ckpt": b"1" * 1000}, {"step=2.ckpt": b"2" * 1000}]
    assert [record.message for record in caplog.records if "another file system" in record.message] == [
        f"The checkpoints are on another file system than '{saver.folder}', where TrackKit keeps them: they are copied "
        "in the background. Set 'dir' to a folder on the same file system to save the space."
    ]


def test_file_that_is_gone_before_it_is_copied_is_lost(
    tmp_path: Path, other_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    saver = Saver(tmp_path)
    saver.saves = other_disk
    with saver.store.ledger.lock:
        saver.save(1).unlink()
        saver.save(2).write_bytes(b"rewritten")
        saver.save(3, path=tmp_path / "never-saved")
    saver.wait_for("lost", "overwritten")
    saver.close()
    assert {each.step: (each.state, each.reason) for each in saver.entries} == {
        1: ("lost", "deleted before staging: 'step=1.ckpt'"),
        2: ("overwritten", "'step=2.ckpt' was rewritten before it was staged"),
        3: ("lost", "deleted before staging"),
    }
    assert "The checkpoint of step 1 is not kept: deleted before staging" in caplog.text
    assert not (saver.folder / STAGING).exists()


def test_file_rewritten_in_place_is_no_longer_the_checkpoint(tmp_path: Path) -> None:
    saver = Saver(tmp_path)
    with saver.store.ledger.lock:
        saver.save(1, content=b"one").write_bytes(b"two")
        saver.save(2, content=b"one")
    saver.wait_for("hashed", "overwritten")
    saver.close()
    assert states(saver.entries) == {1: "overwritten", 2: "hashed"}
    assert saver.entries[0].reason == "'step=1.ckpt' was deleted or rewritten while it was staged"
    assert Staging(saver.folder).numbers() == [2]


def test_two_trainers_write_the_same_paths(tmp_path: Path) -> None:
    """Each run keeps what was its own; what the other has written over is said to be."""
    first, second = Saver(tmp_path, run_id="one"), Saver(tmp_path, run_id="two")
    first.save(1, content=b"of one")
    first.wait_for("hashed")
    # Moved to the path: the first's file keeps its content.
    second.save(1, content=b"of two")
    second.wait_for("hashed")
    assert [staged(each, each.entries[0]) for each in (first, second)] == [
        {"step=1.ckpt": b"of one"},
        {"step=1.ckpt": b"of two"},
    ]
    # Written in place.
    with first.store.ledger.lock:
        path = first.save(2, content=b"of one")
        path.write_bytes(b"of two, longer")
        second.save(2, path=path)
    first.wait_for("hashed", "overwritten")
    second.wait_for("hashed")
    for each in (first, second):
        each.close()
    assert (states(first.entries)[2], states(second.entries)[2]) == ("overwritten", "hashed")
    assert staged(second, second.entries[1]) == {"step=2.ckpt": b"of two, longer"}


def test_folder_that_other_ranks_still_write_is_waited_for(tmp_path: Path) -> None:
    saver = Saver(tmp_path)
    folder = saver.saves / "checkpoint-1"
    saver.write("checkpoint-1/shard-0.bin", b"rank 0")

    def write() -> None:
        with (folder / "shard-1.bin").open("wb", buffering=0) as file:
            for _ in range(6):
                file.write(b"rank 1")
                time.sleep(0.1)
        (folder / "rng.tmp").write_bytes(b"rng")
        (folder / "rng.tmp").rename(folder / "rng_state_1.pth")

    other = threading.Thread(target=write)
    other.start()
    while not (folder / "shard-1.bin").exists():
        time.sleep(0.01)
    saver.save(1, path=folder, shared=True, parts=("rng_state_1.pth",))
    other.join()
    (entry,) = saver.wait_for("hashed")
    shutil.rmtree(folder)
    saver.close()
    expected = {"shard-0.bin": b"rank 0", "shard-1.bin": b"rank 1" * 6, "rng_state_1.pth": b"rng"}
    assert staged(saver, entry) == expected
    assert not entry.shared
    # A line for each change, not for each look.
    assert (saver.folder / LEDGER).read_text().count("\n") < 10


def test_part_of_a_killed_rank_is_waited_for_and_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker, "PARTS_S", 1.2)
    saver = Saver(tmp_path)
    saver.write("checkpoint-1/rng_state_0.pth", b"rank 0")
    saver.save(1, path=saver.saves / "checkpoint-1", shared=True, parts=("rng_state_0.pth", "rng_state_1.pth"))
    (entry,) = saver.wait_for("hashed")
    saver.close()
    assert staged(saver, entry) == {"rng_state_0.pth": b"rank 0"}
    assert [record.message for record in caplog.records] == [
        "The checkpoint of step 1 lacks 'rng_state_1.pth', which another rank should have written within 1 s: it is "
        "kept without."
    ]


def test_full_disk_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "RETRY_S", 0.05)
    disk = SmallDisk(tmp_path / "disk")
    try:
        saver = Saver(disk.folder)
        saver.saves = tmp_path
        disk.fill()
        for step in (1, 2):
            saver.save(step, content=b"x" * 100_000)
        deadline = time.monotonic() + 10
        while not saver.store.ledger.entries[0].reason and time.monotonic() < deadline:
            time.sleep(0.02)
        assert saver.store.ledger.entries[0].reason.startswith("can't be staged: ")
        assert states(saver.store.ledger.entries) == {1: "saved", 2: "saved"}
        disk.free()
        saver.wait_for("hashed")
        saver.close()
        assert [len(staged(saver, each)["step=2.ckpt"]) for each in saver.entries[1:]] == [100_000]
    finally:
        disk.remove()


def test_staging_folder_that_cannot_be_made_stops_nothing(tmp_path: Path) -> None:
    """As for the super-user, who has every permission: a file is in its place."""
    saver = Saver(tmp_path)
    (saver.folder / STAGING).write_text("in the way")
    path = saver.save(1)
    saver.close()
    (entry,) = saver.entries
    assert (entry.state, entry.path) == ("saved", str(path))
    assert entry.reason.startswith("can't be staged: ")


def test_entries_of_a_killed_process_are_completed(tmp_path: Path) -> None:
    """It was killed between the ledger's line and the links, and between the links and the next line."""
    saver = Saver(tmp_path)
    path = saver.write("a.ckpt", b"weights")
    saver.close()
    files = note(path)
    lines = [Entry(number, str(path), step=number, collection="model-toy", files=files) for number in (1, 2)]
    lines.append(replace(lines[0], number=3, step=3, state="handed over"))
    (saver.folder / LEDGER).write_text("".join(f"{to_line(each)}\n" for each in lines))
    Staging(saver.folder).link(lines[1])
    Staging(saver.folder).link(replace(lines[0], number=9))
    again = Saver(tmp_path)
    again.wait_for("hashed", "handed over")
    again.save(4)
    again.wait_for("hashed", "handed over", "skipped")
    again.close()
    assert [each.number for each in again.entries] == [1, 2, 3, 10]
    assert not (again.folder / STAGING / "9").exists()


def test_number_of_staged_checkpoints_is_bounded(tmp_path: Path) -> None:
    saver = Saver(tmp_path, keep=2)
    for step in range(30):
        saver.save(step, abs(step - 10))
    saver.close()
    kept = {each.step for each in saver.entries if each.state != "skipped"}
    assert kept == {9, 10, 28, 29}
    assert Staging(saver.folder).numbers() == [each.number for each in saver.entries if each.step in kept]
    assert {each.reason for each in saver.entries if each.state == "skipped"} == {"superseded before its turn"}


def test_save_while_the_last_staged_one_is_freed_is_linked(tmp_path: Path) -> None:
    """The worker frees a checkpoint, and with it the empty folder, while the training thread links the next."""
    (tmp_path / "a.ckpt").write_bytes(b"weights")
    staging, stopped = Staging(tmp_path), threading.Event()

    def free() -> None:
        while not stopped.is_set():
            staging.free(0)

    worker_thread = threading.Thread(target=free)
    worker_thread.start()
    entries = [Entry(number, str(tmp_path / "a.ckpt"), files=note(tmp_path / "a.ckpt")) for number in range(1, 100)]
    linked = []
    for entry in entries:
        linked.append(staging.link(entry))
        staging.free(entry.number)
    stopped.set()
    worker_thread.join()
    assert all(linked)


def test_ledger_survives_a_full_disk(tmp_path: Path) -> None:
    disk = SmallDisk(tmp_path / "disk")
    try:
        ledger = Ledger(disk.folder)
        (disk.folder / "rows.jsonl").touch()
        ledger.put(Entry(1, "/a"))
        disk.fill()
        for number in range(2, 400):
            ledger.put(Entry(number, "/b" * 20, files=(File("a", 1),)))
        disk.free()
        ledger.put(Entry(400, "/c"))
        assert Ledger(disk.folder).entries == ledger.entries
    finally:
        disk.remove()


def test_file_without_permission_is_recorded(tmp_path: Path) -> None:
    saver = Saver(tmp_path)
    path = saver.write("a.ckpt", b"weights")
    path.chmod(0)
    saver.save(1, path=path)
    saver.close()
    expected = "hashed" if os.access(path, os.R_OK) else "skipped"
    assert saver.entries[0].state == expected


def test_staged_files_that_the_user_deletes_are_missed(tmp_path: Path) -> None:
    """The run's folder is deleted in training; the ledger and later checkpoints are kept."""
    saver = Saver(tmp_path)
    with saver.store.ledger.lock:
        saver.save(1)
        shutil.rmtree(saver.folder)
    saver.save(2)
    saver.wait_for("hashed", "overwritten")
    saver.close()
    assert states(saver.entries) == {1: "overwritten", 2: "hashed"}
    assert saver.entries[0].reason == "'step=1.ckpt' was deleted or rewritten while it was staged"
    assert staged(saver, saver.entries[1]) == {"step=2.ckpt": b"weights 2"}


def test_name_that_is_not_utf8_holds_up_no_other(tmp_path: Path) -> None:
    saver = Saver(tmp_path)
    folder = saver.saves / "checkpoint-1"
    folder.mkdir()
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff.bin")).write_bytes(b"weights")
    saver.save(1, path=folder)
    saver.save(2)
    saver.wait_for("hashed", "skipped")
    saver.close()
    assert states(saver.entries) == {1: "skipped", 2: "hashed"}


def test_folder_written_by_a_clock_that_is_ahead_is_not_waited_for_without_end(tmp_path: Path) -> None:
    saver = Saver(tmp_path)
    ahead = time.time() + 3600
    path = saver.write("checkpoint-1/model.bin", b"weights").parent
    os.utime(path / "model.bin", (ahead, ahead))
    saver.save(1, path=path, shared=True)
    saver.wait_for("hashed")
    saver.close()


def test_staged_files_outlast_a_ledger_that_cannot_be_read(tmp_path: Path) -> None:
    saver = Saver(tmp_path)
    saver.save(1).unlink()
    saver.wait_for("hashed")
    saver.close()
    (saver.folder / LEDGER).write_text("damaged")
    again = Saver(tmp_path)
    again.save(2)
    again.close()
    assert (Staging(saver.folder).folder(1) / "step=1.ckpt").read_bytes() == b"weights 1"
    assert [each.number for each in again.entries] == [2]


def test_link_to_another_place_is_no_staging_to_tidy(tmp_path: Path) -> None:
    mine = tmp_path / "mine" / "1"
    mine.mkdir(parents=True)
    run = tmp_path / "run"
    run.mkdir()
    (run / STAGING).symlink_to(mine.parent)
    Staging(run).tidy([Entry(1, "/saves/1.ckpt", state="skipped")])
    assert mine.exists()


@pytest.mark.parametrize("keeps_times", [True, False])
def test_copy_of_the_run_s_folder_has_the_same_checkpoints(tmp_path: Path, keeps_times: bool) -> None:
    saver = Saver(tmp_path / "a")
    saver.save(1).unlink()
    saver.wait_for("hashed")
    saver.close()
    copy = tmp_path / "b"
    shutil.copytree(saver.folder, copy, copy_function=shutil.copy2 if keeps_times else shutil.copy)
    entry = saver.entries[0]
    assert Staging(copy).changed(entry) == ""
    unhashed = replace(entry, files=tuple(replace(file, md5="") for file in entry.files))
    assert Staging(copy).changed(unhashed) == ("" if keeps_times else "step=1.ckpt")
    (Staging(copy).folder(1) / "step=1.ckpt").write_bytes(b"weights X")
    assert Staging(copy).changed(entry) == "step=1.ckpt"
