"""Sorts what Hugging Face logs: training steps, evaluations, and the totals at the end."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from trackkit.schema.keys import Split, Where, sanitize

MEAN_LOSS = "final/train/loss"

# Measured by Hugging Face itself.
_FRAMEWORK = {"loss": "batch/loss", "grad_norm": "batch/grad_norm", "learning_rate": "batch/lr"}
# Added to the logs without being metrics.
_NOT_METRICS = frozenset({"epoch", "step", "num_input_tokens_seen", "total_flos"})
_SPEED = ("_runtime", "_samples_per_second", "_steps_per_second", "_tokens_per_second", "_model_preparation_time")
_SPLITS: dict[str, Split] = {"eval": "val", "test": "test", "predict": "predict", "train": "train"}
_COLUMNS = {"train_loss": MEAN_LOSS, "total_flos": "final/total_flos"}
_SPEED_COLUMNS = {
    "runtime": "runtime_s",
    "samples_per_second": "samples_per_s",
    "steps_per_second": "steps_per_s",
    "tokens_per_second": "tokens_per_s",
}


@dataclass(frozen=True)
class StepLogs:
    """What was logged of training steps.

    Attributes:
        measured: by Hugging Face itself, key to value.
        users: by the user's code, by the names given to it.
    """

    measured: dict[str, Any]
    users: dict[str, Any]


@dataclass(frozen=True)
class EvaluationLogs:
    """What was logged of an evaluation.

    Attributes:
        parts: metrics, name to value, by their split and set: first those of the evaluated set, then those without one.
        columns: summary columns: how long the evaluation took, and its speeds.
    """

    parts: dict[Where, dict[str, Any]]
    columns: dict[str, float]


@dataclass(frozen=True)
class FinalLogs:
    """What a training logs at its end.

    Attributes:
        columns: summary columns. The mean loss in them covers only this call of `train`; 0 if it took no step.
        users: metrics of the last steps, which libraries such as TRL add, by the names given to them.
    """

    columns: dict[str, float]
    users: dict[str, Any]


Logs = StepLogs | EvaluationLogs | FinalLogs


def read(logs: dict[str, Any]) -> Logs:
    """Sorts the logs that `on_log` was called with."""
    if (prefix := _evaluation_prefix(logs)) is not None:
        return _evaluation(logs, prefix)
    if "total_flos" in logs and "train_runtime" in logs:
        columns = {key: float(logs[name]) for name, key in _COLUMNS.items() if name in logs}
        users = {name: value for name, value in _metrics(logs, "train").items() if name not in _COLUMNS}
        return FinalLogs({**columns, **_speeds(logs, "train", Where("epoch", "train"))}, users)
    measured = {key: logs[name] for name, key in _FRAMEWORK.items() if logs.get(name) is not None}
    users = {name: value for name, value in _metrics(logs, "train").items() if name not in _FRAMEWORK}
    return StepLogs(measured, users)


def read_prediction(metrics: dict[str, Any]) -> EvaluationLogs:
    """Sorts the metrics that `on_predict` was called with: a test's, unless their prefix says otherwise."""
    return _evaluation(metrics, _evaluation_prefix(metrics) or "test")


def _evaluation_prefix(logs: dict[str, Any]) -> str | None:
    """Returns the prefix of an evaluation's metrics: that of its `*_runtime` and `*_samples_per_second`.

    The user's metrics may have such names too, but after the prefix, so the shortest name gives the prefix.
    """
    if "total_flos" in logs:
        return None
    timed = [name.removesuffix("_runtime") for name in logs if name.endswith("_runtime")]
    return min((prefix for prefix in timed if f"{prefix}_samples_per_second" in logs), key=len, default=None)


def _evaluation(logs: dict[str, Any], prefix: str) -> EvaluationLogs:
    metrics = _metrics(logs, prefix)
    word, _, dataset = prefix.partition("_")
    split = _SPLITS.get(word)
    general = Where("epoch", split or "val")
    if split and not dataset:
        return EvaluationLogs({general: metrics}, _speeds(logs, prefix, general))
    where = Where("epoch", split or "val", dataset if split else prefix, (f"{prefix}_", ""))
    own = {name.removeprefix(f"{prefix}_"): value for name, value in metrics.items() if name.startswith(f"{prefix}_")}
    # Of the model as a whole, such as those of sentence-transformers' evaluators: logged with the first set's.
    rest = {name: value for name, value in metrics.items() if not name.startswith(f"{prefix}_")}
    return EvaluationLogs({where: own, general: rest} if rest else {where: own}, _speeds(logs, prefix, where))


def _speeds(logs: dict[str, Any], prefix: str, where: Where) -> dict[str, float]:
    """Returns the summary columns that say how long a training or an evaluation took, and its speeds."""
    where = replace(where, dataset=sanitize(where.dataset.replace("/", "_")) if where.dataset else "")
    base = where.prefix.replace("epoch/", "final/", 1)
    named = {f"{base}{key}": logs.get(f"{prefix}_{name}") for name, key in _SPEED_COLUMNS.items()}
    return {key: float(value) for key, value in named.items() if isinstance(value, (int, float))}


def _metrics(logs: dict[str, Any], prefix: str) -> dict[str, Any]:
    speeds = {prefix + suffix for suffix in _SPEED}
    return {name: value for name, value in logs.items() if name not in _NOT_METRICS and name not in speeds}
