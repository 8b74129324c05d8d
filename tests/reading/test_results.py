"""The results of a run: the last and the best value of each metric."""

from __future__ import annotations

from trackkit.reading.columns import results


def test_metrics_without_a_split_are_results_and_totals_are_not() -> None:
    summary = {
        "final/val/loss": 1.0,
        "final/best/val/loss": 0.5,
        "final/best/val/loss_step": 7,
        "final/accuracy": 0.9,
        "final/note": "good",
        "final/samples": 96,
        "final/steps": 12,
        "final/status": "finished",
        "final/val/runtime_s": 3.0,
    }
    assert results(summary) == {"val/loss": (1.0, 0.5, 7), "accuracy": (0.9, None, None)}
