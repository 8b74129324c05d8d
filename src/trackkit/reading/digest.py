"""A run in at most 1,500 words: for a colleague, or a language model, who has seen nothing else of it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from trackkit.engine.summary import best_key
from trackkit.local_log.recorded import RecordedRun
from trackkit.reading.collection import Runs
from trackkit.reading.columns import duration, facts, plain, results
from trackkit.reading.curves import Curve, log_spaced, main_keys
from trackkit.reading.differences import differences, previous, varying
from trackkit.reading.findings.end import last_words
from trackkit.reading.findings.evidence import Evidence
from trackkit.reading.findings.finding import Finding
from trackkit.reading.findings.registry import DETECTORS, findings_in
from trackkit.reading.markdown import code, inline
from trackkit.reading.statistics import is_number
from trackkit.redaction.patterns import mask

_MOST_SETTINGS, _MOST_RESULTS, _MOST_CURVES, _MOST_ROWS = 24, 16, 6, 10

# What a reader asks for first.
_MATTERS = (
    "model/class",
    "model/total_params_M",
    "model/trainable_params_M",
    "optim/class",
    "optim/lr",
    "optim/weight_decay",
    "optim/momentum",
    "optim/scheduler",
    "data/dataset",
    "data/train_samples",
    "data/val_samples",
    "data/batch_size_global",
    "data/accumulation",
    "trainer/max_epochs",
    "trainer/num_train_epochs",
    "runtime/precision",
    "runtime/device",
    "runtime/gpu_name",
    "runtime/world_size",
    "seed/torch",
)
# The frameworks' defaults of settings that change what is learned; what deviates from them is shown.
_DEFAULTS: Mapping[str, Any] = {
    "trainer/gradient_clip_val": None,
    "trainer/max_grad_norm": 1.0,
    "trainer/accumulate_grad_batches": 1,
    "trainer/gradient_accumulation_steps": 1,
    "trainer/limit_train_batches": 1.0,
    "trainer/limit_val_batches": 1.0,
    "trainer/overfit_batches": 0.0,
    "trainer/check_val_every_n_epoch": 1,
    "trainer/val_check_interval": 1.0,
    "trainer/max_steps": -1,
    "trainer/learning_rate": 5e-5,
    "trainer/weight_decay": 0.0,
    "trainer/adam_beta1": 0.9,
    "trainer/adam_beta2": 0.999,
    "trainer/adam_epsilon": 1e-8,
    "trainer/lr_scheduler_type": "linear",
    "trainer/warmup_steps": 0,
    "trainer/warmup_ratio": 0.0,
    "trainer/label_smoothing_factor": 0.0,
    "trainer/group_by_length": False,
    "trainer/gradient_checkpointing": False,
    "trainer/load_best_model_at_end": False,
    "data/shuffle": True,
}


@dataclass(frozen=True)
class Digest:
    """What a digest says.

    Attributes:
        facts: about the run, see `reading.columns.FACTS`.
        findings: most serious first.
        deviations: setting to (this run's value, what it is compared with, that one's value).
        config: the other settings that matter.
        results: metric to last value, best value and the step of the best.
        curves: metrics at some steps: the mean since the step before.
        steps: of those.
        time: seconds and shares.
        last_words: of a failed run: the traceback and the last rows.
        console: the last lines printed.
    """

    facts: dict[str, Any]
    findings: list[Finding]
    deviations: dict[str, tuple[Any, str, Any]]
    config: dict[str, Any]
    results: dict[str, tuple[Any, Any, Any]]
    steps: list[float]
    curves: dict[str, list[float]]
    time: dict[str, Any]
    last_words: list[str]
    console: list[str]

    def to_json(self) -> dict[str, Any]:
        """Returns it as plain JSON; numbers that are not finite become texts."""
        deviations = [
            {"name": name, "value": value, "compared_with": what, "other": other}
            for name, (value, what, other) in self.deviations.items()
        ]
        results = [
            {"metric": name, "last": last, "best": best, "best_step": step}
            for name, (last, best, step) in self.results.items()
        ]
        found: dict[str, Any] = _finite(
            {
                **asdict(self),
                "findings": [asdict(each) for each in self.findings],
                "deviations": deviations,
                "results": results,
                "verdict": verdict(self),
            }
        )
        return found


def digest(run: RecordedRun, others: Runs | None = None) -> Digest:
    """Returns what is to be said of a run.

    Args:
        run: the run.
        others: runs that it may be compared with.

    Raises:
        ReadError: its rows can't be read.
    """
    others = Runs(each for each in others or () if each.run_id != run.run_id)
    evidence = Evidence(run, others)
    known, found = facts(run), findings_in(evidence)
    deviations = _deviations(run, others)
    config = {key: run.config[key] for key in _MATTERS if run.config.get(key) is not None and key not in deviations}
    config |= {key: value for key, value in run.config.items() if key.startswith("hparams/") and key not in deviations}
    steps, curves = _curves(evidence, found)
    failed = run.status in ("failed", "preempted")
    printed = [] if run.folder is None else [mask(line.text) for line in run.console if line.text.strip()][-6:]
    return Digest(
        known,
        found,
        dict(list(deviations.items())[:_MOST_SETTINGS]),
        dict(list(config.items())[:_MOST_SETTINGS]),
        dict(list(results(run.summary).items())[:_MOST_RESULTS]),
        steps,
        curves,
        _time(evidence),
        last_words(evidence) if failed else [],
        printed if failed else [],
    )


def verdict(of: Digest) -> str:
    """Returns one sentence or two: how it ended, the best value, the first warning."""
    known = of.facts
    took = f" in {duration(known['duration_h'])}" if "duration_h" in known else ""
    steps = f" after {inline(plain(known['steps']))} steps" if "steps" in known else ""
    text = f"The run is **{known.get('status', 'unknown')}**{steps}{took}."
    if "best" in known:
        key = str(known["best_key"])
        name = key.removeprefix("final/best/")
        last, _, at = of.results.get(name, (None, None, None))
        best, at, last = (inline(plain(value)) for value in (known["best"], at, last))
        text += f" {inline(code(name))}: best {best} at step {at}, last {last}."
    serious = [each for each in of.findings if each.severity != "low"]
    if not serious:
        return f"{text} Nothing serious was found by {len(DETECTORS)} detectors."
    return f"{text} {len(serious)} serious finding{'s' * (len(serious) != 1)}; first: {inline(serious[0].text)}"


def _deviations(run: RecordedRun, others: Runs) -> dict[str, tuple[Any, str, Any]]:
    """Returns the settings that are not those of the group, of the run before it, or the defaults."""
    found: dict[str, tuple[Any, str, Any]] = {}
    group = run.config.get("trackkit/settings/group")
    members = [each for each in others if group is not None and each.config.get("trackkit/settings/group") == group]
    if len(members) > 1:
        for key in varying([run, *members]):
            usual, count = Counter(plain(each.config.get(key)) for each in members).most_common(1)[0]
            if plain(run.config.get(key)) != usual and count > len(members) / 2:
                found[key] = (run.config.get(key), f"most of {len(members)} others in the group", usual)
    before = previous(run, others)
    if before is not None:
        for each in differences(before, run):
            found.setdefault(each.name, (each.after, f"the run before it, {before.run_id}", each.before))
    for key, default in _DEFAULTS.items():
        value = run.config.get(key, default)
        if value != default and not (value is None or (value in (0, 0.0) and not default)):
            found.setdefault(key, (value, "the default", default))
    return found


def _curves(run: Evidence, found: Sequence[Finding]) -> tuple[list[float], dict[str, list[float]]]:
    """Returns log-spaced steps, and those where something changed, and what the curves are there."""
    curves = [run.curve(key) for key in main_keys([run.run], _MOST_CURVES)]
    if not curves:
        return [], {}
    known = np.unique(np.concatenate([each.x for each in curves]))
    changed = [step for each in found if each.severity != "low" and each.steps for step in each.steps][:8]
    best: Any = run.run.summary.get(f"{best_key(run.run.summary)}_step")
    changed += [float(best)] if is_number(best) else []
    chosen = np.unique([*log_spaced(known, _MOST_ROWS), *(step for step in changed if known[0] <= step <= known[-1])])
    return chosen.tolist(), {each.key: [_at(each, a, b) for a, b in _spans(chosen)] for each in curves}


def _spans(steps: Any) -> Iterable[tuple[float, float]]:
    return zip([-math.inf, *steps[:-1]], steps, strict=True)


def _at(of: Curve, after: float, to: float) -> float:
    """Returns the mean of a curve over steps; NaN if it has no value there, and if one of them is NaN."""
    part = of.y[(of.x > after) & (of.x <= to)]
    if of.key == "batch/lr" or of.key.startswith("epoch/"):
        part = part[-1:]
    return float(part.mean()) if len(part) else math.nan


def _time(run: Evidence) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, key in (("step time, s (median)", "batch/step_time_s"), ("samples/s (median)", "batch/samples_per_s")):
        # The first row has the warm-up.
        y = run.finite(key).y[1:]
        found |= {name: float(np.median(y))} if len(y) else {}
    step, data = (run.finite(f"batch/{name}_time_s").y[1:] for name in ("step", "data"))
    if len(step) and len(data):
        found["share of time waiting for data"] = float(data.mean() / max(float(step.mean()), 1e-12))
    summary = run.run.summary
    hours: Any = summary.get("final/duration_h")
    for name in ("eval", "checkpoint"):
        spent: Any = summary.get(f"final/{name}_h")
        if is_number(spent) and is_number(hours) and spent > 0 and hours > 0:
            found[f"share of time in {'evaluations' if name == 'eval' else 'checkpoints'}"] = spent / hours
    for key in ("device/gpu_mem_peak_reserved_GB", "device/rss_GB"):
        if len(run.finite(key)):
            found[f"{key.partition('/')[2]} (most)"] = float(run.finite(key).y.max())
    bill = ("final/gpu_hours", "final/cost_usd")
    return found | {key.partition("/")[2]: summary[key] for key in bill if key in summary}


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _finite(each) for key, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, (list, tuple)) else value
