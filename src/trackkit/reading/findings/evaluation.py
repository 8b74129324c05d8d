"""Findings in the evaluation: overfitting, no generalization, leaks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from trackkit.reading.columns import plain
from trackkit.reading.curves import Curve, Floats
from trackkit.reading.findings.evidence import Evidence
from trackkit.reading.findings.finding import Finding, Severity
from trackkit.schema.goals import direction

_REGULARIZE = (
    "Stop early or keep the best checkpoint; more data, augmentation, weight decay, dropout, or a smaller model."
)


def overfitting(run: Evidence) -> Iterator[Finding]:
    """Finds a validation loss that rises while the training loss falls.

    Rule: the end is 10% above the best, which was better than the training's first loss by 15% and lies before the last
    fifth of the evaluations, by 15% of the training loss's fall since then and three times the noise. Medium; high if
    half of what validation had gained is lost; low if less than a quarter is and an accuracy is within 1% of its best.
    Or: validation is at the end above training by a fifth of the first loss and five times as high, and got no better
    by 10% in the second half, in which training halved its loss. Medium.
    Source: Prechelt, Early stopping, but when? (1998).
    """
    val, it = run.val_loss, run.course
    if len(val) < 3 or not len(run.loss):
        return
    at = int(np.argmin(val.y))
    best, end = float(val.y[at]), float(np.median(val.y[-max(1, len(val) // 10) :]))
    train = run.train_at_val
    rise = end - best
    fell = float(train[at] - train[-1])
    gained = it.start - best
    if gained <= 0.15 * it.scale:
        # It never was any good: `no_generalization`.
        return
    late = at >= len(val) - max(1, len(val) // 5) or fell <= 0
    if late or rise < max(0.1 * abs(best), 0.15 * fell, 3 * _noise(val)):
        yield from _gap(run, val, train)
        return
    severity: Severity = "high" if rise > 0.5 * gained else "medium"
    if severity == "medium" and rise < 0.25 * gained and _still_best(run, val.key):
        severity = "low"
        if gap := list(_gap(run, val, train)):
            yield from gap
            return
    yield Finding(
        "overfitting",
        severity,
        f"Overfitting since step {val.x[at]:.0f}: `{val.key}` rose from {plain(best)} to {plain(end)} while the "
        f"training "
        f"loss fell from {plain(float(train[at]))} to {plain(float(train[-1]))}.",
        val.key,
        (float(val.x[at]), float(val.x[-1])),
        0.9,
        _REGULARIZE,
    )


def _gap(run: Evidence, val: Curve, train: Floats) -> Iterator[Finding]:
    """Finds a wide gap between validation, which stands still, and training, which does not."""
    scale, half = run.course.scale, len(val) // 2
    gaps = val.y - train
    still = val.y[-1] > 0.9 * val.y[half] and train[-1] < 0.5 * train[half]
    if len(val) >= 4 and still and gaps[-1] > 0.2 * scale and val.y[-1] > 5 * train[-1]:
        since = float(val.x[int(np.argmax(gaps > 0.1 * scale))])
        yield Finding(
            "overfitting",
            "medium",
            f"Overfitting: `{val.key}` stands at {plain(float(val.y[-1]))} while the training loss fell to "
            f"{plain(float(train[-1]))}; the gap opened at step {since:.0f}.",
            val.key,
            (since, float(val.x[-1])),
            0.8,
            _REGULARIZE,
        )


def no_generalization(run: Evidence) -> Iterator[Finding]:
    """Finds training that is learned, and validation that never is.

    Rule: the training loss fell by 5% and twice its noise, but at its best the validation loss had not fallen below the
    training's first loss by a quarter of that; or at no evaluation was a third of the fall in training seen in
    validation. A validation loss that falls by 10% follows, on
    a scale of its own. It is `evaluation_disagrees` if the first validation
    loss is 15% above the training's first one: labels that were shuffled do no such thing.
    """
    val, it = run.val_loss, run.course
    if len(val) < 2 or len(run.loss) < 6:
        return
    train = run.train_at_val
    at = int(np.argmin(val.y))
    best = float(val.y[at])
    fell = it.start - float(train.min())
    if float(val.y[-1]) < 0.9 * float(val.y[0]):
        # Such as a loss summed over larger batches.
        return
    if fell < max(0.05 * it.scale, 2 * it.noise):
        return
    shares = (it.start - val.y) / np.maximum(it.start - train, 0.03 * it.scale)
    never = best > it.start - 0.25 * fell
    little = float(shares.max()) < 0.33
    if not (never or little):
        return
    odd = float(val.y[0]) > 1.15 * it.start and float(train[0]) < it.start
    yield Finding(
        "evaluation_disagrees" if odd else "no_generalization",
        "high",
        f"Validation does not follow training: `{val.key}` was {plain(best)} at best and "
        f"{plain(float(val.y[-1]))} at the "
        f"end, while the training loss fell from {plain(it.start)} to {plain(float(train[-1]))}{_chance(run)}.",
        val.key,
        (float(val.x[0]), float(val.x[-1])),
        0.9 if never else 0.7,
        "Evaluation and training disagree from the start: is validation of another distribution, normalized or "
        "numbered "
        "differently, or evaluated in training mode? Otherwise labels may be shuffled: the model can only "
        "memorize them.",
    )


def leak(run: Evidence) -> Iterator[Finding]:
    """Finds validation that is far better than training, or a test that is far worse than validation.

    Rule: over the second half of the evaluations, the validation loss is under half of the training loss, by a tenth of
    the start at least, and training's own noise does not explain it. Low; medium under a fifth. Where accuracies
    of both are logged: 0.15 better. A test loss of over twice the validation's, or an accuracy 0.15 below it: medium.
    Dropout, augmentation and label smoothing also raise the training loss: with one of these in the config it is low.
    Source: Kaufman et al., Leakage in data mining (2012).
    """
    val, it = run.val_loss, run.course
    if len(val) >= 2 and len(run.loss) >= 6:
        train = run.train_at_val
        half = slice(len(val) // 2, None)
        a, b = float(np.median(train[half])), float(np.median(val.y[half]))
        if 0 <= b < 0.5 * a and a - b > 0.1 * it.scale:
            regular = any(
                word in key for key, value in run.config.items() if value for word in ("dropout", "smoothing", "mixup")
            )
            far = b < 0.34 * a and a > 0.2 * it.scale and not regular
            yield Finding(
                "leak",
                "medium" if far else "low",
                f"Validation is far better than training, a suspected leak: `{val.key}` is {plain(b)} where the "
                f"training loss is {plain(a)} "
                "(medians of the second half).",
                val.key,
                (float(val.x[half][0]), float(val.x[-1])),
                0.6 if far else 0.4,
                "Are validation samples in the training set, or the label among their features? Dropout, augmentation "
                "and label smoothing raise the training loss too.",
            )
            return
    for name, test in (
        (key.removeprefix("final/test/"), value)
        for key, value in run.run.summary.items()
        if key.startswith("final/test/")
    ):
        seen, goal = run.run.summary.get(f"final/val/{name}"), direction(name)
        if not isinstance(seen, (int, float)) or not isinstance(test, (int, float)) or goal is None:
            continue
        if (goal == "max" and 0 <= seen <= 1 and seen - test > 0.15) or (
            goal == "min" and seen > 0 and test > 2 * seen and test - seen > 0.1 * it.scale
        ):
            yield Finding(
                "leak",
                "medium",
                f"The test is far worse than validation: {name} {plain(test)} against {plain(seen)}, a suspected leak.",
                f"final/test/{name}",
                confidence=0.6,
                advice="Are validation samples in the training set? Is the test set of another distribution?",
            )
            return


def _noise(of: Curve) -> float:
    return float(np.median(np.abs(np.diff(of.y)))) if len(of) > 4 else 0.0


def _still_best(run: Evidence, but: str) -> bool:
    """Returns whether another validation metric ended within 1% of its best."""
    for key, each in run.validation.items():
        best = float(each.y.max() if direction(key) == "max" else each.y.min())
        if key != but and direction(key) == "max" and abs(float(each.y[-1]) - best) <= 0.01 * max(abs(best), 1e-12):
            return True
    return False


def _chance(run: Evidence) -> str:
    accuracy = next(
        (each for key, each in run.validation.items() if key.rpartition("/")[2] in ("acc", "accuracy")), None
    )
    chance = float(np.exp(-run.course.start))
    if accuracy is None or not 0.001 < chance < 0.7:
        return ""
    return f"; `{accuracy.key}` ended at {plain(float(accuracy.y[-1]))}, chance is about {plain(chance, 2)}"
