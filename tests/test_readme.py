"""The settings and keys in the README exist."""

from __future__ import annotations

import re
from pathlib import Path

from typer.testing import CliRunner

from tests.support.processes import ROOT
from trackkit import TrackKit
from trackkit.callbacks import CALLBACKS
from trackkit.cli.main import app
from trackkit.schema.keys import describe
from trackkit.settings.config import TrackKitConfig
from trackkit.settings.sources import load_config

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_settings_file_has_every_setting_and_callback() -> None:
    found = re.findall(r"```yaml\n(project:.*?)```", README, re.DOTALL)
    assert len(found) == 1
    Path("trackkit.yaml").write_text(found[0], encoding="utf-8")
    settings = load_config()
    assert settings.project == "my-project"
    assert set(settings.callbacks) == set(CALLBACKS)
    assert set(re.findall(r"^(\w+):", found[0], re.MULTILINE)) == set(TrackKitConfig().to_dict())
    TrackKit()


def test_named_keys_are_in_the_vocabulary() -> None:
    """The names of other tools in its table begin with other words."""
    named = set(re.findall(r"`((?:batch|epoch|device|final)/[\w/]+)`", README))
    assert len(named) > 10
    assert {key for key in named if describe(key) is None} == set()


def test_named_commands_exist() -> None:
    named = set()
    for page in (ROOT / "README.md", ROOT / "docs" / "reading.md"):
        named |= set(re.findall(r"^(?:\$ )?trackkit (\w+)", page.read_text(encoding="utf-8"), re.MULTILINE))
    assert {"ls", "show", "compare", "digest", "report", "journal", "sync", "doctor"} <= named
    help_text = CliRunner().invoke(app, ["--help"]).stdout
    assert {name for name in named if not re.search(rf"^  {name} ", help_text, re.MULTILINE)} == set()
