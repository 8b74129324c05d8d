"""What recording the console costs a print, and a training step beside it.

    python -m benchmarks.console

Prints a line to /dev/null in a tight loop, bare and recorded in turns, and reports medians of the rounds, in CPU
time of the printing thread. Then prints as a chatty program does, and reports the CPU time of the recording thread.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

from trackkit.session.console import Console

ROUNDS, PRINTS = 15, 2000
RATE = 1000


def us_per_print() -> float:
    began = time.thread_time()
    for number in range(PRINTS):
        print(f"step {number}: loss 0.1234")
    return (time.thread_time() - began) / PRINTS * 1e6


def recorder(folder: Path) -> Console:
    def failed(what: str, error: Exception) -> None:
        raise SystemExit(f"{what}: {error}")

    return Console(0, lambda: folder, lambda lines: None, failed)


def main() -> None:
    out, sys.stdout = sys.stdout, open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 -- restored below
    bare, ours = [], []
    with tempfile.TemporaryDirectory() as home:
        for _ in range(ROUNDS):
            bare.append(us_per_print())
            console = recorder(Path(home))
            console.listen()
            ours.append(us_per_print())
            console.close()
        console = recorder(Path(home))
        console.listen()
        console.start()
        before = time.thread_time(), time.process_time()
        for number in range(3 * RATE):
            print("step", number)
            time.sleep(1 / RATE)
        others = time.process_time() - before[1] - (time.thread_time() - before[0])
        console.close()
    sys.stdout = out
    added = statistics.median(each - base for each, base in zip(ours, bare, strict=True))
    print(f"print, bare           {statistics.median(bare):6.2f} us")
    print(f"print, recorded       {statistics.median(ours):6.2f} us")
    print(f"added                 {added:6.2f} us (bound: 2)")
    print(f"recording thread at {RATE} prints/s: {others / 3:.1%} of a core ({threading.active_count()} threads left)")


if __name__ == "__main__":
    main()
