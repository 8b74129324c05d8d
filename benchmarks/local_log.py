"""Measures the local log: writing a row of 20 values in the training thread, and reading rows back.

    python benchmarks/local_log.py [ROWS]

Prints the time per row written (median of chunks of 1,000 rows, and the mean) and the rows read per second (the best of
three). Targets: at most 30 us per row written, 50,000 rows/s read.
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

from trackkit import read_run
from trackkit.engine.records import Row
from trackkit.engine.run_info import RunInfo, Start
from trackkit.local_log.places import run_folder
from trackkit.local_log.writer import LocalSink

CHUNK = 1000


def write(root: Path, rows: int) -> list[float]:
    """Writes rows; returns the seconds per row of each chunk."""
    sink = LocalSink()
    folder = run_folder(root, "bench")
    sink.open(RunInfo("bench", "bench", root, folder, folder, time.time(), Start("none", "none", root, "fit")))
    generator, times = random.Random(0), []
    for start in range(0, rows, CHUNK):
        made = [row(number, generator) for number in range(start, start + CHUNK)]
        begin = time.perf_counter()
        for each in made:
            sink.write(each)
        times.append((time.perf_counter() - begin) / CHUNK)
    sink.close(0)
    return times


def row(number: int, generator: random.Random) -> Row:
    """Returns a row of 20 values: its step, and 19 floats of full length."""
    values: dict[str, float | int] = {f"batch/metric_{index}": generator.random() for index in range(19)}
    return Row(number, "batch", number, 1.0e9 + number / 7, {"batch/step": number, **values})


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        times = write(root, rows)
        size = (run_folder(root, "bench") / "rows.jsonl").stat().st_size
        rates = []
        for _ in range(3):
            begin = time.perf_counter()
            assert len(read_run(root).history) == rows
            rates.append(rows / (time.perf_counter() - begin))
    print(f"write: median {statistics.median(times) * 1e6:.1f} us, mean {statistics.mean(times) * 1e6:.1f} us per row")
    print(f"read: {max(rates):,.0f} rows/s ({size / rows:.0f} bytes a row)")


if __name__ == "__main__":
    main()
