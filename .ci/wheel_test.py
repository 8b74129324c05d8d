"""Builds the wheel, installs it without the repository, and runs the demo's two trainings with it.

    python .ci/wheel_test.py        # or: make wheel-test

The new environment shares this one's third-party packages, so nothing is downloaded.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TRAININGS = {"digits_lightning.py": ["--epochs", "1"], "gpt_transformers.py": ["--steps", "10"]}
CHECK = """
import sys
from pathlib import Path
import trackkit
assert Path(trackkit.__file__).is_relative_to(sys.prefix), trackkit.__file__
assert (Path(trackkit.__file__).parent / "py.typed").exists()
assert (Path(trackkit.__file__).parent / "reading" / "page" / "page.html").exists()
for folder in sys.argv[1:]:
    run = trackkit.read_run(folder)
    assert run.run["status"] == "finished", run.run
    assert run.summary["final/tracker_errors"] == 0, run.summary
    assert run.series("batch/loss"), run.history
"""


def main() -> None:
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        python = install(build(home), home / "venv")
        work = home / "work"
        work.mkdir()
        for script, arguments in TRAININGS.items():
            shutil.copy(ROOT / "examples" / script, work)
            call(python, script, "--out", Path(script).stem, *arguments, cwd=work)
        call(python, "-c", CHECK, *(Path(script).stem for script in TRAININGS), cwd=work)
        call(python.with_name("trackkit"), "--help", cwd=work)
    print(f"the wheel runs both trainings ({time.monotonic() - began:.0f} s)")


def build(home: Path) -> Path:
    """Builds the wheel from a copy of what it is made of, so that no build folder is left in the checkout."""
    source = home / "source"
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(home), str(source))
    (wheel,) = home.glob("trackkit-*.whl")
    return wheel


def install(wheel: Path, folder: Path) -> Path:
    """Installs the wheel into a new environment; returns its interpreter."""
    venv.create(folder)
    python = folder / "bin" / "python"
    (packages,) = folder.glob("lib/python*/site-packages")
    shared = [path for path in sys.path if Path(path).name == "site-packages"]
    (packages / "shared.pth").write_text("\n".join(shared))
    pip("--python", str(python), "install", "--no-deps", "--no-index", "--ignore-installed", str(wheel))
    return python


def pip(*arguments: str) -> None:
    call(sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments, cwd=ROOT)


def call(*command: str | Path, cwd: Path) -> None:
    """Runs a command in an environment that does not name the repository."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "WANDB_", "TRACKKIT_"))}
    more = {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "TRACKKIT_INDEX": os.devnull, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, cwd=cwd, env={**env, **more}, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} ended with exit code {done.returncode}\n{done.stdout}\n{done.stderr}")


if __name__ == "__main__":
    main()
