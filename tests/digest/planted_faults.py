"""Does the first finding name the planted fault, and is no healthy training accused? `make test-digest`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.digest.cases import HEALTHY, SICK, Case
from tests.support.processes import ROOT
from trackkit import read_run
from trackkit.reading.findings.finding import Finding
from trackkit.reading.findings.registry import findings

DEMOS = {"digits_lightning": [], "gpt_transformers": ["--steps", "60"]}


def found(case: Case, out: Path) -> list[Finding]:
    case.train(out)
    return findings(read_run(out))


@pytest.mark.parametrize("case", SICK, ids=lambda case: case.name)
def test_first_finding_names_the_fault(case: Case, tmp_path: Path) -> None:
    listed = found(case, tmp_path)
    print(f"{case.name:40} {', '.join(f'{each.rule} ({each.severity})' for each in listed)}")
    assert listed
    assert listed[0].rule in case.rules, [each.text for each in listed]
    assert any(character.isdigit() for character in listed[0].text)


@pytest.mark.parametrize("case", HEALTHY, ids=lambda case: case.name)
def test_healthy_training_is_not_accused(case: Case, tmp_path: Path) -> None:
    listed = found(case, tmp_path)
    print(f"{case.name:40} {', '.join(f'{each.rule} ({each.severity})' for each in listed)}")
    assert [each.text for each in listed if each.severity != "low"] == []


@pytest.mark.parametrize("name", DEMOS)
def test_demo_is_not_accused(name: str, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "examples" / f"{name}.py"), "--out", str(tmp_path), *DEMOS[name]]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [each.text for each in findings(read_run(tmp_path)) if each.severity != "low"] == []
    assert json.loads(next(tmp_path.glob("_trackkit/*/run.json")).read_text())["status"] == "finished"
