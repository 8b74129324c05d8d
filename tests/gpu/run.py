"""Checks on a GPU that TrackKit's numbers are right and that it never makes the host wait; prints one table.

    python -m tests.gpu.run [--device cuda] [--check memory syncs ...] [--without-overhead]

`--device cpu` is a dry run of the checks' own code: it proves nothing about a GPU. The exit status is 1 if a check
failed, or if there is no CUDA device. The table belongs into docs/performance.md.
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Before torch: cuBLAS's own results are the same from run to run only with a fixed workspace.
os.environ.update(
    CUBLAS_WORKSPACE_CONFIG=":4096:8", WANDB_MODE="offline", WANDB_SILENT="true", TOKENIZERS_PARALLELISM="false"
)

import torch  # noqa: E402

from tests.gpu.checks import CHECKS  # noqa: E402
from tests.gpu.table import Line, as_markdown  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, or cpu for a dry run")
    parser.add_argument("--check", nargs="+", choices=CHECKS, default=list(CHECKS))
    parser.add_argument("--without-overhead", action="store_true", help="leave benchmarks/overhead.py out")
    arguments = parser.parse_args()
    device = arguments.device
    if device != "cpu" and not torch.cuda.is_available():
        print(f"no CUDA device: torch {torch.__version__} sees none, and these checks need one", file=sys.stderr)
        return 1
    quiet()
    lines: list[Line] = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TRACKKIT_INDEX"] = os.path.join(folder, "index.jsonl")
        for name in arguments.check:
            lines += checked(name, device)
            print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        if not arguments.without_overhead:
            lines += overhead(device)
    print(title(device, time.monotonic() - began))
    print(as_markdown(lines))
    return 1 if any(line.verdict == "FAILED" for line in lines) else 0


def quiet() -> None:
    """Leaves only the table, and TrackKit's own warnings; the frameworks set their loggers up at import."""
    import lightning.pytorch  # noqa: F401
    import transformers  # noqa: F401

    warnings.simplefilter("ignore")
    for name in ("lightning", "lightning.pytorch", "lightning.fabric", "transformers", "accelerate"):
        logging.getLogger(name).setLevel(logging.ERROR)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cuda.matmul.allow_tf32 = False


def checked(name: str, device: str) -> Iterator[Line]:
    """Gives a check's lines; an exception is a failed line, and the other checks still run."""
    try:
        yield from CHECKS[name](device)
    except Exception as error:  # noqa: BLE001 -- one broken check must not hide the others
        traceback.print_exc()
        yield Line.of(name, "", f"{type(error).__name__}: {error}"[:120], "no exception", False)


def overhead(device: str) -> Iterator[Line]:
    """Gives the medians of `benchmarks/overhead.py` on the device; its own figures go to stderr."""
    command = [sys.executable, str(ROOT / "benchmarks" / "overhead.py"), "--device", device]
    command += ["--rounds", "3", "--steps", "400", "--every", "10"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=400)
    print(done.stdout, file=sys.stderr)
    if done.returncode:
        yield Line.of("overhead", "", done.stderr.strip().splitlines()[-1][:120], "exit status 0", False)
        return
    framework = ""
    for text in done.stdout.splitlines():
        if found := re.match(r"(\w+): \d+ steps", text):
            framework = found[1]
        elif found := re.search(r"wall +TrackKit .* median +([\d.]+) +([\d.]+) of bare", text):
            yield Line.of("overhead: wall, us a step", framework, found[1], f"bare x {found[2]}", True)
        elif found := re.search(r"hooks +TrackKit .*median +([\d.]+)", text):
            yield Line.of("overhead: hooks, us a step", framework, found[1], "measured", True)


def title(device: str, seconds: float) -> str:
    import lightning
    import transformers

    name = torch.cuda.get_device_name(device) if device != "cpu" else f"CPU, {platform.machine()} (dry run)"
    versions = f"torch {torch.__version__}, lightning {lightning.__version__}, transformers {transformers.__version__}"
    return f"{name}; {versions}, Python {platform.python_version()}; {seconds:.0f} s\n"


if __name__ == "__main__":
    sys.exit(main())
