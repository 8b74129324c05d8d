"""Every trainer of TRL, trained by W&B's own callback and by TrackKit: the same values under their keys."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.trl_side_by_side import compare


@pytest.mark.parametrize("kind", ["SFT", "DPO", "KTO", "Reward", "GRPO", "RLOO"])
def test_trainer_has_every_value_and_completion_that_wandb_has(kind: str, tmp_path: Path) -> None:
    expected, run = compare(kind, tmp_path)
    assert [[[*row[:1], *row[2:]] for row in sample.rows] for sample in run.samples] == [
        table["data"] for table in expected
    ]
    assert len(expected) == (4 if kind in ("GRPO", "RLOO") else 0)
    assert run.summary["final/tracker_errors"] == 0
