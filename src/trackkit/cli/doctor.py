"""`trackkit doctor`: says whether this machine can record and upload, and what to do where it can't."""

from __future__ import annotations

import logging
import platform
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal

import typer
from filelock import FileLock, Timeout
from rich.console import Console
from rich.markup import escape

from trackkit.engine.processes import process_life
from trackkit.local_log import index
from trackkit.local_log.reader import read_fields
from trackkit.settings.sources import load_config

_PACKAGES = ("trackkit", "wandb", "torch", "lightning", "pytorch-lightning", "transformers", "accelerate")
_COMPAT = {"wandb": "wandb", "lightning": "lightning", "transformers": "huggingface", "torch": "loop"}
_STYLES = {"ok": "green", "note": "yellow", "broken": "red"}
_SERVER_S = 5.0
_MOST_WRITERS = 10


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        state: `ok`; `note` for what limits TrackKit but may be meant so; `broken` for what must be mended.
        topic: what was looked at.
        text: what was found, and what to do.
    """

    state: Literal["ok", "note", "broken"]
    topic: str
    text: str


def doctor() -> None:
    """Checks versions, W&B, folders, locks, unsynced runs, private names and GPUs. Ends with 1 if one is broken."""
    console, broken = Console(), False
    for check in (_versions, _server, _folders, _runs, _writers, _private_names, _gpus):
        for each in _tried(check):
            broken |= each.state == "broken"
            style = _STYLES[each.state]
            line = f"[{style}]{each.state:6}[/] {escape(each.topic)}: {escape(each.text)}"
            console.print(line, soft_wrap=True, highlight=False)
    if broken:
        raise typer.Exit(1)


def _tried(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Yields the findings of a check; its own error becomes one."""
    try:
        yield from check()
    except Exception as error:  # noqa: BLE001 -- a broken installation is what this command is for
        yield Finding("broken", check.__name__.strip("_").replace("_", " "), f"{type(error).__name__}: {error}")


def _versions() -> Iterator[Finding]:
    yield Finding("ok", "python", platform.python_version())
    for name in _PACKAGES:
        found = _installed(name)
        if found is not None:
            yield Finding("ok", name, found)
    if all(_installed(name) is None for name in ("lightning", "pytorch-lightning", "transformers")):
        yield Finding("note", "frameworks", "none is installed: pip install 'trackkit[lightning]' or [transformers]")


def _installed(name: str) -> str | None:
    # These imports take 40 ms of every command's start.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _server() -> Iterator[Finding]:
    from trackkit.integrations.wandb.server import REFUSED, credentials, explain, probe

    key, url = credentials()
    if not key:
        yield Finding("note", "W&B", f"no API key for {url}: runs are recorded offline. Run `wandb login` to upload.")
        return
    trouble = probe(url, key, _SERVER_S)
    if trouble is None:
        yield Finding("ok", "W&B", f"{url} answers and accepts the API key")
    elif trouble in REFUSED:
        yield Finding("broken", "W&B", explain(url, trouble))
    else:
        yield Finding("note", "W&B", f"{explain(url, trouble)} Runs are recorded offline until it answers.")


def _folders() -> Iterator[Finding]:
    places = {"working folder": Path.cwd(), "list of runs": index.index_path().parent}
    places["temporary files"] = Path(tempfile.gettempdir())
    if given := load_config().dir:
        places["dir"] = Path(given).expanduser()
    for topic, folder in places.items():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder, prefix=".trackkit-doctor-") as inside:
                yield Finding("ok", topic, f"'{folder}' is writable")
                with FileLock(Path(inside) / "lock", timeout=0, fallback_to_soft=False):
                    pass
        except NotImplementedError:
            text = f"'{folder}' has no file locks: two processes could write one run. Set 'dir' to a local disk."
            yield Finding("note", topic, text)
        except (OSError, Timeout) as error:
            yield Finding("broken", topic, f"can't write to '{folder}' ({error}). Make it writable, or set 'dir'.")


def _runs() -> Iterator[Finding]:
    listed = index.entries()
    waiting = [each for each in listed if not each.synced and each.mode != "disabled"]
    if waiting:
        text = f"{len(waiting)} of {len(listed)} were not verified on a server. Run `trackkit sync` to upload them."
        yield Finding("note", "runs", text)
    else:
        yield Finding("ok", "runs", f"{len(listed)} listed, none waits for `trackkit sync`")


def _writers() -> Iterator[Finding]:
    """Yields who writes each of the newest runs that no process has closed."""
    fields = {entry.run_id: read_fields(Path(entry.folder)) for entry in index.entries()}
    unclosed = {run_id: run for run_id, run in fields.items() if "pid" in run and "ended" not in run}
    for run_id, run in list(unclosed.items())[-_MOST_WRITERS:]:
        writer, life = f"process {run['pid']} on {run.get('host', 'an unknown host')}", process_life(run)
        if life == "alive":
            yield Finding("ok", f"lock of {run_id}", f"held by {writer}, which is alive")
        elif life == "gone":
            text = f"stale: {writer} ended without closing the run. Resume it, or upload it with `trackkit sync`."
            yield Finding("note", f"lock of {run_id}", text)
        else:
            yield Finding("note", f"lock of {run_id}", f"{writer} may hold it: look there whether it is alive")


def _private_names() -> Iterator[Finding]:
    # Lightning's check makes a Trainer, which says what devices there are.
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    for package, integration in _COMPAT.items():
        if _installed(package) is None:
            continue
        gone = import_module(f"trackkit.integrations.{integration}._compat").missing()
        if gone:
            text = f"{package} {_installed(package)} lacks {', '.join(gone)}: TrackKit does without, or try its newest."
            yield Finding("note", f"private names of {package}", text)
        else:
            yield Finding("ok", f"private names of {package}", "all found")


def _gpus() -> Iterator[Finding]:
    import pynvml

    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
        handles = map(pynvml.nvmlDeviceGetHandleByIndex, range(count))
        names = sorted({str(pynvml.nvmlDeviceGetName(each)) for each in handles})
        yield Finding("ok", "GPU", f"{count} ({', '.join(names)}), NVML {pynvml.nvmlSystemGetNVMLVersion()}")
    except pynvml.NVMLError as error:
        yield Finding("note", "GPU", f"none that NVML shows ({error}): no memory, energy or GPU hours are recorded")
