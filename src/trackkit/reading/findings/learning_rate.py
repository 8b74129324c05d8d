"""Findings in the learning rate."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from trackkit.reading.columns import plain
from trackkit.reading.findings.evidence import Evidence
from trackkit.reading.findings.finding import Finding

# Above these, a rate is beyond what is usual.
_ADAPTIVE_MOST, _SGD_MOST = 0.05, 3.0


def learning_rate_zero(run: Evidence) -> Iterator[Finding]:
    """Finds a learning rate that was 0 all the time. Rule: no row has a rate above 1e-12."""
    lr = run.finite("batch/lr")
    if len(lr) > 1 and float(lr.y.max()) <= 1e-12:
        yield Finding(
            "learning_rate_zero",
            "high",
            f"The learning rate was 0 in all {len(lr)} rows: nothing was learned.",
            lr.key,
            (float(lr.x[0]), float(lr.x[-1])),
            advice="Look at the optimizer's `lr` and at what the schedule multiplies it with.",
        )


def learning_rate_high(run: Evidence) -> Iterator[Finding]:
    """Finds a learning rate that is far above what is usual, where training went wrong.

    Rule: above 0.05 for Adam and its kin, above 3 for others; and the loss is not finite, was three times
    its start, or is not 30% below it at the end.
    Source: Bengio, Practical recommendations for gradient-based training (2012), section 3.1.1: rates under 1 for
    standardized inputs; Adam's default is 0.001.
    """
    lr, it = run.finite("batch/lr"), run.course
    highest = float(lr.y.max()) if len(lr) else 0.0
    if highest <= (_ADAPTIVE_MOST if run.adaptive else _SGD_MOST):
        return
    broken = not len(run.loss) or not np.isfinite(run.curve("batch/loss").y).all()
    if broken or it.most > it.start + 2 * it.scale or it.end > 0.7 * it.start:
        yield Finding(
            "learning_rate_high",
            "high",
            f"The learning rate {plain(highest)} is far above what is usual for "
            f"{run.config.get('optim/class', 'this optimizer')}, and the training loss was {plain(it.most)} at most "
            f"(start {plain(it.start)}, end {plain(it.end)}).",
            lr.key,
            (float(lr.x[0]), float(lr.x[-1])),
            0.9,
            "Divide it by 10 until the loss falls from the first steps on.",
        )


def learning_rate_low(run: Evidence) -> Iterator[Finding]:
    """Finds a learning rate that can't have moved the loss.

    Rule: the loss did not fall by 5%, and the fall that is possible to first order is under 2% of it, summed over all
    steps: rate times squared norm for SGD, rate times norm times the root of the number of parameters for Adam and its
    kin, whose steps have that length at most; with the norm after clipping.
    Source: Taylor's theorem, and Kingma and Ba, Adam (2015), section 2.1.
    """
    lr, norm, it = run.finite("batch/lr"), run.finite("batch/grad_norm"), run.course
    if len(lr) < 3 or len(norm) < 3 or len(run.loss) < 3 or float(lr.y.max()) <= 1e-12:
        return
    if it.start - it.end > 0.05 * it.scale or run.improves:
        return
    rate = np.interp(norm.x, lr.x, lr.y)
    parameters = 1e6 * (run.number("model/trainable_params_M") or 1.0)
    momentum = run.number("optim/momentum") or 0.0
    step = np.sqrt(parameters) if run.adaptive else norm.y / max(1e-3, 1 - momentum)
    possible = float(np.mean(rate * norm.y * step)) * run.steps
    if possible < 0.02 * it.scale:
        yield Finding(
            "learning_rate_low",
            "high",
            f"The learning rate ({plain(float(lr.y.max()))} at most) is too low: over {run.steps:.0f} steps it "
            f"can have "
            f"lowered the loss of {plain(it.start)} by {plain(possible, 2)} at most.",
            lr.key,
            (float(lr.x[0]), float(lr.x[-1])),
            0.9,
            "Multiply it by 10 until the loss falls, or look at what the schedule makes of it.",
        )


def schedule(run: Evidence) -> Iterator[Finding]:
    """Finds a learning rate that does not follow its schedule, or a schedule that does not fit the training.

    Rules, for a training that has come to its end: the rate is under 1% of its peak for the last 15% of the steps or
    more (medium, high from 40%: the schedule ends early); the rate rose to the very end (medium); a scheduler's horizon
    (`T_max`, `total_steps`, `total_iters`) is over twice or under half of the times it was stepped (medium).
    """
    lr = run.finite("batch/lr")
    if len(lr) < 4 or float(lr.y.max()) <= 1e-12:
        return
    peak, last = float(lr.y.max()), float(lr.x[-1])
    tiny = lr.y < 0.01 * peak
    tail = len(lr) - int(np.argmin(tiny[::-1])) if tiny[-1] else len(lr)
    span = max(last, run.planned if run.run.status == "running" else 0.0)
    idle = (last - float(lr.x[tail])) / span if tail < len(lr) else 0.0
    if idle > 0.15:
        yield Finding(
            "schedule",
            "high" if idle > 0.4 else "medium",
            f"The learning rate's schedule ended early: from step {lr.x[tail]:.0f} of {last:.0f} on it was under 1% of "
            f"its peak {plain(peak)}, {idle:.0%} of the training.",
            lr.key,
            (float(lr.x[tail]), last),
            0.9,
            "Plan the schedule over all optimizer steps (`trainer.estimated_stepping_batches`, "
            "`state.max_steps`), and mind accumulation and the number of epochs.",
        )
        return
    rising = bool((np.diff(lr.y) >= 0).all()) and float(lr.y[len(lr) // 2]) < 0.6 * peak
    if run.ended and rising and len(lr) >= 6:
        yield Finding(
            "schedule",
            "medium",
            f"The learning rate was still rising when training ended, from {plain(float(lr.y[0]))} to "
            f"{plain(peak)}: its "
            f"warm-up is longer than the {last:.0f} steps.",
            lr.key,
            (float(lr.x[0]), last),
            0.9,
            "Shorten the warm-up, or count it in the unit that the scheduler is called in.",
        )
        return
    name = str(run.config.get("optim/scheduler", ""))
    horizon = run.number("optim/scheduler/T_max", "optim/scheduler/total_steps", "optim/scheduler/num_training_steps")
    per_epoch = run.config.get("optim/scheduler/interval") == "epoch"
    epochs = run.finite("batch/epoch")
    stepped = float(epochs.y[-1]) if per_epoch and len(epochs) else last
    if run.ended and horizon and stepped >= 1 and not 0.5 <= horizon / stepped <= 2:
        unit = "epochs" if per_epoch else "steps"
        yield Finding(
            "schedule",
            "medium",
            f"The scheduler {name} is planned over {horizon:.0f} calls, but was called once for each of {stepped:.0f} "
            f"{unit}: the rate went from {plain(peak)} to {plain(float(lr.y[-1]))}.",
            lr.key,
            (float(lr.x[0]), last),
            0.8,
            "Set `interval` to `step` where the horizon counts steps, or the horizon to the number of epochs.",
        )
