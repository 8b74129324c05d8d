"""The command `trackkit` itself."""

from __future__ import annotations

from typer.testing import CliRunner

import trackkit
from trackkit.cli.main import app


def test_version_is_printed() -> None:
    done = CliRunner().invoke(app, ["--version"])
    assert (done.exit_code, done.stdout) == (0, f"trackkit {trackkit.__version__}\n")
