"""The start of the command `trackkit`: `run` must not wait for the other commands to be imported."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the command that the arguments name."""
    if sys.argv[1:2] == ["run"]:
        from trackkit.launch.command import run

        sys.exit(run(sys.argv[2:]))
    from trackkit.cli.main import app

    app(prog_name="trackkit")
