"""Whatever bytes a run's files have, `read_run`, the list of runs and `trackkit sync` read it or report it.

`make test-damage` tries 5,000 folders with a new seed; `DAMAGE_SEED=... DAMAGE_CASES=5000 pytest ...` repeats a round.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from rich.console import Console

from tests.support.syncing import record, wandb_files
from trackkit import TrackKitError, read_run
from trackkit.cli import sync as command
from trackkit.integrations.wandb.blocks import Reader, Writer
from trackkit.local_log import index
from trackkit.local_log.places import known_runs, run_folder
from trackkit.local_log.recorded import RecordedRun
from trackkit.local_log.regular import parse_json
from trackkit.session.resume import read_earlier
from trackkit.sync import job
from trackkit.sync.ledger import Ledger
from trackkit.sync.server_run import ServerRun
from trackkit.sync.targets import find_targets

CASES = int(os.environ.get("DAMAGE_CASES", "200"))
SEED = int(os.environ.get("DAMAGE_SEED", "0"))

FILES = ["run.json", "config.json", "summary.json", "rows.jsonl", "console.jsonl", "sync.json", "index", "wandb"]
# By name, so that a failure's report is short.
SPECIAL = {
    "deep list": "[" * 100_000 + "]" * 100_000,
    "deep object": '{"a":' * 50_000 + "1" + "}" * 50_000,
    "nearly too deep": "[" * 900 + "]" * 900,
    "long": '"' + "x" * 3_000_000 + '"',
    "many digits": "9" * 5000,
}
TEXTS = [*SPECIAL, "1e999", "-1e999", "NaN", '"\\ud800"', '"\\u0000"', "", "\\", '"[/x]"']
VALUES = st.one_of(
    st.sampled_from(TEXTS),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("../../x"),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=5,
    ).map(json.dumps),
)
MUTATIONS = st.one_of(
    st.tuples(st.just("value"), st.integers(0, 10_000), VALUES),
    st.tuples(st.just("drop"), st.integers(0, 10_000), st.just("")),
    st.tuples(st.just("whole"), st.just(0), VALUES),
    st.tuples(st.just("bytes"), st.just(0), st.binary(max_size=100)),
    st.tuples(st.just("insert"), st.integers(0, 10_000), st.binary(min_size=1, max_size=10)),
    st.tuples(st.just("flip"), st.integers(0, 100_000), st.binary(min_size=1, max_size=1)),
    st.tuples(st.just("cut"), st.integers(0, 10_000), st.just("")),
    st.tuples(st.just("double"), st.integers(0, 10_000), st.just("")),
    st.tuples(st.just("gone"), st.just(0), st.just("")),
)


class NoServer:
    """A server that has no runs and takes everything."""

    url, entity, is_stopped = "http://127.0.0.1", "me", False

    def run(self, path: str) -> ServerRun:
        return ServerRun()

    def has(self, path: str) -> bool:
        return True

    def check_stopped(self) -> None:
        pass


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two attempts with a gap, a console, notes of a sync, and a W&B file."""
    root = tmp_path_factory.mktemp("whole")
    record(root, "abc", 0, 12)
    folder = run_folder(root, "abc")
    with (folder / "rows.jsonl").open("a") as rows:
        rows.write(
            '{"_gap":{"rows":2,"first":12,"last":13}}\n{"_row":20,"_time":1.5,"_pass":2,"batch/step":11,"batch/a":1}\n'
        )
    config = json.loads((folder / "config.json").read_text())
    config.update({"trackkit/renames": {"a": "batch/a", "b": ["batch/b"]}, "trackkit/settings/project": "p"})
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "console.jsonl").write_text('{"_time":1.5,"stream":"stdout","text":"hello"}\n' * 3)
    (folder / "sync.json").write_text(
        json.dumps({NoServer.url: {"path": "me/p/abc", "url": "u", "rows": 1, "size": {}}})
    )
    return root


def encoded(what: str | bytes) -> bytes:
    return what if isinstance(what, bytes) else SPECIAL.get(what, what).encode("utf-8", "surrogatepass")


def mutate(data: bytes, how: str, at: int, what: str | bytes) -> bytes:
    """Returns a file's content with one mutation; `value` and `drop` change a value or a line of JSON."""
    raw = encoded(what)
    spot = at % (len(data) + 1)
    if how in ("whole", "bytes"):
        return raw
    if how == "insert":
        return data[:spot] + raw + data[spot:]
    if how == "flip":
        return data[:spot] + raw + data[spot + 1 :]
    if how == "cut":
        return data[:spot]
    if how == "double":
        return data[:spot] + data
    lines = data.split(b"\n") if b'"_time"' in data else [data]
    number = at % len(lines)
    try:
        found = parse_json(lines[number])
    except ValueError:
        return data
    if isinstance(found, dict) and found:
        key = sorted(found)[at % len(found)]
        del found[key]
        if how == "value":
            found[key] = "@@"
        lines[number] = json.dumps(found).encode().replace(b'"@@"', raw)
    return b"\n".join(lines)


def mutate_records(path: Path, how: str, at: int, what: str | bytes) -> None:
    """Changes a record of a W&B file, with the right checksum, or the file's bytes."""
    if how in ("flip", "cut", "bytes") and at % 2:
        path.write_bytes(mutate(path.read_bytes(), how, at, what))
        return
    records = list(Reader(path).new())
    if not records:
        return
    number = at % len(records)
    raw = encoded(what)
    if how == "value":
        for old in (b"0.1", b"0.5", b'"finished"', b"1"):
            if old in records[number] and len(raw) == len(old):
                records[number] = records[number].replace(old, raw)
    else:
        records[number] = mutate(records[number], how, at, what)
    writer = Writer(path)
    for each in records:
        writer.add(each)
    writer.close()


def damage(root: Path, file: str, how: str, at: int, what: str | bytes) -> None:
    path = index.index_path() if file == "index" else run_folder(root, "abc") / file
    if file == "wandb":
        path = next(iter(wandb_files(root)), path)
    if how == "gone":
        path.unlink(missing_ok=True)
    elif not path.exists():
        return
    elif file == "wandb":
        mutate_records(path, how, at, what)
    else:
        path.write_bytes(mutate(path.read_bytes(), how, at, what))


def check(root: Path) -> None:
    """Reads, lists and syncs the run: no error but TrackKit's own, and a line for the run."""
    for asked in (root, run_folder(root, "abc"), "abc"):
        with suppress(TrackKitError):
            look_at(read_run(asked))
    assert all(isinstance(each.run_id, str) for each in known_runs())
    with suppress(TrackKitError):
        assert read_earlier(root, "abc").attempts >= 0
    server: Any = NoServer()
    with suppress(TrackKitError):
        targets = find_targets([str(root)])
        assert all(isinstance(Ledger(target, server.url).verified(), dict) for target in targets)
        screen = Console(file=io.StringIO())
        reports = command._sync_all(targets, server, False, 1, screen)  # noqa: SLF001
        command._show(reports, screen)  # noqa: SLF001
        assert len(reports) == len(targets)
        assert all(report.reason for report in reports if report.verdict == "failed")


def look_at(run: RecordedRun) -> None:
    assert len(repr(run)) > 10
    assert len(run.history) == len(run.rows)
    assert all(isinstance(line.text, str) for line in run.console)
    for key in {key for row in run.rows[:20] for key in row.values}:
        assert isinstance(run.series(key), list)


@seed(SEED)
@settings(
    max_examples=CASES,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(changes=st.lists(st.tuples(st.sampled_from(FILES), MUTATIONS), min_size=1, max_size=3))
def test_damaged_folder_is_read_or_reported(
    whole: Path, monkeypatch: pytest.MonkeyPatch, changes: list[tuple[str, tuple[str, int, Any]]]
) -> None:
    monkeypatch.setattr(job, "SHOWN_S", 0.0)
    monkeypatch.setattr(job, "upload", lambda *_: None)
    with tempfile.TemporaryDirectory() as home:
        root = Path(home) / "out"
        shutil.copytree(whole, root)
        monkeypatch.setenv("TRACKKIT_INDEX", f"{home}/index.jsonl")
        index.remember(run_folder(root, "abc"), "abc", "p", "offline")
        for file, (how, at, what) in changes:
            damage(root, file, how, at, what)
        check(root)


@pytest.fixture(autouse=True, scope="module")
def _said() -> None:
    print(f"DAMAGE_SEED={SEED} DAMAGE_CASES={CASES}")
