"""Measures what `trackkit run` adds to a command: medians of interleaved rounds, in ms.

python benchmarks/launch.py
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time

from trackkit.launch.command import FOLDER

ROUNDS = 21
# Installed packages are compiled; a checkout's need this to be unset.
CHANGED = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
PASS = [sys.executable, "-c", "pass"]
COMMANDS = {
    "python -c pass": (PASS, {}),
    "the same, in a process that `trackkit run` started": (PASS, {"PYTHONPATH": FOLDER}),
    "trackkit run python -c pass": ([os.path.join(os.path.dirname(sys.executable), "trackkit"), "run", *PASS], {}),
    "trackkit run --project x python -c pass": (
        [os.path.join(os.path.dirname(sys.executable), "trackkit"), "run", "--project", "x", *PASS],
        {},
    ),
}


def measure(command: list[str], more: dict[str, str]) -> float:
    """Returns how long a command takes, in ms."""
    env = {key: value for key, value in os.environ.items() if key not in CHANGED} | more
    began = time.perf_counter()
    subprocess.run(command, env=env, check=True)
    return (time.perf_counter() - began) * 1e3


def main() -> None:
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(ROUNDS):
        for name, (command, more) in COMMANDS.items():
            times[name].append(measure(command, more))
    plain = statistics.median(times["python -c pass"])
    for name, found in times.items():
        median = statistics.median(found)
        print(f"{median:7.1f} ms  {median - plain:+6.1f}  best {min(found):6.1f}  {name}")


if __name__ == "__main__":
    main()
