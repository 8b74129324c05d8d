"""What a sync costs: an offline run of many rows, sent whole to a server on this machine, and verified.

    python -m benchmarks.sync [ROWS]

Records the run first (1 ms per row): batch rows of 5 keys, an epoch row every 10 steps, a printed line per step. Prints
the seconds of each part of the sync. Reading back includes the loopback server's own work. Target: at most 20 s for
60,000 rows.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.processes import ROOT
from tests.wandb_server import WandbServer
from trackkit.sync.delta import Delta
from trackkit.sync.gather import gather
from trackkit.sync.lacking import lacking
from trackkit.sync.report import report
from trackkit.sync.server_run import Server
from trackkit.sync.targets import find_targets
from trackkit.sync.upload import upload


def cpu() -> float:
    """Returns the seconds of processor time of this process, the loopback server in it, and ended children."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


@contextmanager
def timed(name: str) -> Iterator[None]:
    """Prints how long a part takes, and its processor time: a busy machine stretches only the first."""
    begun, used = time.perf_counter(), cpu()
    yield
    print(f"{name:<18}{time.perf_counter() - begun:>7.1f} s{cpu() - used:>7.1f} s of processor", flush=True)


def record(root: Path, rows: int) -> None:
    """Records a run offline, in a process of its own."""
    command = [sys.executable, "-m", "tests.support.recorder", str(root), "bench", "0", str(rows)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    with open(os.devnull, "w") as nowhere:
        subprocess.run(command, env=env, cwd=root, stdout=nowhere, check=True)


def main(rows: int) -> None:
    """Records and syncs a run of `rows` rows."""
    os.environ["TRACKKIT_INDEX"] = os.devnull
    with tempfile.TemporaryDirectory() as home, WandbServer() as loopback:
        root = Path(home) / "out"
        root.mkdir()
        with timed("(recording)"):
            record(root, rows)
        os.environ.update(loopback.env(Path(home)))
        (target,) = find_targets([str(root)])
        server = Server()
        with timed("whole sync"):
            path = target.path(server.entity)
            with timed("  reading"):
                source, before = gather(target), server.run(path)
            with timed("  comparing"):
                plan = lacking(source, before)
            with timed("  writing the log"):
                delta = Delta(Path(home), source, before, plan)
                delta.end(source)
            with timed("  uploading"):
                upload(delta.path, server)
            with timed("  reading back"):
                after = server.run(path)
            with timed("  comparing again"):
                result = report(source, after, lacking(source, after))
        print(f"{result.rows} rows: {result.verdict}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 60_000)
