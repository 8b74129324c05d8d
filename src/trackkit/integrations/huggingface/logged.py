"""What Hugging Face logs, sorted by what it tells."""

from __future__ import annotations

from typing import Any

from trackkit.schema.keys import Split, Where

# What Hugging Face measures itself, and what it adds to its logs without being a metric.
_FRAMEWORK = {"loss": "batch/loss", "grad_norm": "batch/grad_norm", "learning_rate": "batch/lr"}
_NOT_METRICS = frozenset({"epoch", "step", "num_input_tokens_seen", "total_flos"})
_SPEED = ("_runtime", "_samples_per_second", "_steps_per_second", "_tokens_per_second", "_model_preparation_time")
_SPLITS: dict[str, Split] = {"eval": "val", "test": "test", "predict": "predict", "train": "train"}
MEAN_LOSS = "final/train/loss"
_COLUMNS = {"train_loss": MEAN_LOSS, "total_flos": "final/total_flos"}


def evaluation_prefix(logs: dict[str, Any]) -> str | None:
    """The prefix of an evaluation's metrics: that of its `*_runtime` and `*_samples_per_second`.

    Metrics of the user's own may have such names too; they stand under the prefix, and so the shortest is it.
    """
    if "total_flos" in logs:
        return None
    timed = [name.removesuffix("_runtime") for name in logs if name.endswith("_runtime")]
    return min((prefix for prefix in timed if f"{prefix}_samples_per_second" in logs), key=len, default=None)


def is_last_word(logs: dict[str, Any]) -> bool:
    """Whether a training says what it has come to."""
    return "total_flos" in logs and "train_runtime" in logs


def last_word(logs: dict[str, Any]) -> dict[str, float]:
    """What a training has come to, as columns."""
    return {key: float(logs[name]) for name, key in _COLUMNS.items() if name in logs}


def measured(logs: dict[str, Any]) -> dict[str, Any]:
    """What Hugging Face itself has measured of training steps, by key."""
    return {key: logs[name] for name, key in _FRAMEWORK.items() if logs.get(name) is not None}


def users(logs: dict[str, Any]) -> dict[str, Any]:
    """What the user's code has logged of training steps, by the names given to it."""
    return {name: value for name, value in _metrics(logs, "train").items() if name not in _FRAMEWORK}


def evaluated(logs: dict[str, Any], prefix: str) -> tuple[Where, dict[str, Any]]:
    """Of which split and set an evaluation with this prefix is, and its metrics by name."""
    metrics = _metrics(logs, prefix)
    word, _, dataset = prefix.partition("_")
    split = _SPLITS.get(word)
    if dataset or not split:
        metrics = {name.removeprefix(f"{prefix}_"): value for name, value in metrics.items()}
        around = (f"{prefix}_", "")
        return Where("epoch", split or "val", dataset if split else prefix, around), metrics
    return Where("epoch", split), metrics


def _metrics(logs: dict[str, Any], prefix: str) -> dict[str, Any]:
    speeds = {prefix + suffix for suffix in _SPEED}
    return {name: value for name, value in logs.items() if name not in _NOT_METRICS and name not in speeds}
