"""Findings in the training loss."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from trackkit.reading.columns import plain
from trackkit.reading.findings.evidence import Evidence, falls, smooth
from trackkit.reading.findings.finding import Finding, Severity

_LOWER_LR = "Lower the learning rate, warm it up, or clip gradients; look at the batches of these steps."


def nan(run: Evidence) -> Iterator[Finding]:
    """Finds NaN or infinity in the loss, the gradient norm or a validation metric.

    Rule: a value that is not finite, in a step that the gradient scaler did not skip. High if the last loss is one, or
    if a tenth of the rows has one; medium if training recovered, or if `divergence` explains it.
    Source: mixed precision skips steps with infinite gradients by design (PyTorch, automatic mixed precision).
    """
    skipped = {float(x) for x, y in zip(*_xy(run, "batch/skipped_steps"), strict=True) if y > 0}
    bad: dict[str, list[float]] = {}
    keys = ["batch/loss", "batch/grad_norm", *(key for key in run.run.keys if key.startswith("epoch/"))]
    for key in keys:
        x, y = _xy(run, key)
        found = [float(step) for step in x[~np.isfinite(y)] if float(step) not in skipped]
        bad |= {key: found} if found else {}
    x, y = _xy(run, "batch/nonfinite")
    counted = [float(step) for step in x[y > 0] if float(step) not in skipped]
    bad |= {"batch/nonfinite": counted} if counted else {}
    if not bad:
        return
    first = min(steps[0] for steps in bad.values())
    key = min(bad, key=lambda name: (bad[name][0], name != "batch/loss"))
    loss = run.curve("batch/loss")
    rows = max(len(run.curve("batch/nonfinite")), len(loss), 1)
    share = max(len(steps) for steps in bad.values()) / rows
    lasting = (len(loss) and not np.isfinite(loss.y[-1])) or share > 0.1
    explained = rises(run, first, 5.0) or grows(run, first, 100.0)
    what = ", ".join(f"`{name}` in {len(steps)} rows" for name, steps in sorted(bad.items()))
    ends = "and it stayed" if lasting else "and training recovered"
    yield Finding(
        "nan",
        "high" if lasting and not explained else "medium",
        f"NaN or infinity first at step {first:.0f}, {ends}: {what}.",
        key,
        (first, max(steps[-1] for steps in bad.values())),
        advice="Look at the batch of that step for NaN or huge inputs, and at divisions, logarithms and half "
        "precision; "
        "in the first steps, lower the learning rate. `torch.autograd.set_detect_anomaly(True)` names the operation.",
    )


def divergence(run: Evidence) -> Iterator[Finding]:
    """Finds a loss that ended high after it had been low, or that never came below its start again.

    Rule, with the size of the first value as scale: the end is 20% above the start; or a peak of three times the start
    and an end that is no 10% below it; or half of what had been gained is lost at the end. Changes under 4 times the
    noise don't count. Low if the end is under three times the start and another metric got better meanwhile, as in
    reinforcement learning, or several optimizers train, as in a GAN.
    """
    loss, it = run.loss, run.course
    if len(loss) < 4:
        return
    means = smooth(loss)
    best = float(min(means.y.min(), it.start))
    gained = it.start - best
    above = it.end - it.start > max(0.2 * it.scale, 4 * it.noise)
    peaked = it.most > it.start + 2 * it.scale and it.end > it.start - 0.1 * it.scale
    lost = gained > max(0.1 * it.scale, 4 * it.noise) and it.end - best > max(0.5 * gained, 4 * it.noise)
    after = run.curve("batch/loss").y
    broke = len(after) and not np.isfinite(after[-1]) and rises(run, float("inf"), 5.0)
    if not (above or peaked or lost or broke):
        return
    since = float(means.x[int(np.argmin(means.y))]) if gained > 0 else float(loss.x[0])
    harmless = (run.improves or run.adversarial) and not broke and it.end < it.start + 2 * it.scale
    ending = "then was not finite" if broke else f"was {plain(it.end)} at the end"
    yield Finding(
        "divergence",
        "low" if harmless else "high",
        f"The training loss diverged: it began at {plain(it.start)}, was {plain(best)} at best, rose to "
        f"{plain(it.most)} "
        f"and {ending}.",
        loss.key,
        (since, float(loss.x[-1])),
        0.5 if harmless else 0.9 if above or broke else 0.8,
        f"The learning rate ({_lr(run)}) is probably too high. {_LOWER_LR}",
    )


def loss_spike(run: Evidence) -> Iterator[Finding]:
    """Finds short rises of the loss, and whether it recovered.

    Rule: a value above the median of the 20 rows before it by 10 times their noise, by half of that median and by a
    quarter of all that was gained; recovered if the median of the next ten rows is back within a fifth of the rise.
    Medium if a spike is twice the first loss or did not recover.
    Source: loss spikes of large models, Chowdhery et al., PaLM (2022), section 5.1, who skip the batches.
    """
    loss, it = run.loss, run.course
    y = loss.y
    if len(y) < 12:
        return
    spikes: list[int] = []
    open_until = -1
    gained = 0.25 * abs(it.start - it.least)
    for at in np.flatnonzero(y > np.concatenate([[np.inf], y[:-1]]) + max(gained, 5 * it.noise)):
        before = y[max(0, at - 20) : at]
        if at <= open_until or len(before) < 5:
            continue
        middle = float(np.median(before))
        spread = float(np.median(np.abs(before - middle)))
        if y[at] - middle > max(10 * spread, 0.5 * abs(middle), gained):
            spikes.append(int(at))
            open_until = at + 5
    if not spikes:
        return
    worst = max(spikes, key=lambda at: y[at])
    middle = float(np.median(y[max(0, worst - 20) : worst]))
    after = y[worst + 1 : worst + 11]
    back = len(after) > 0 and float(np.median(after)) < middle + 0.2 * (y[worst] - middle)
    severity: Severity = "medium" if y[worst] > 2 * abs(it.start) or not back else "low"
    number = f"{len(spikes)} times, most" if len(spikes) > 1 else "once,"
    yield Finding(
        "loss_spike",
        severity,
        f"The training loss spiked {number} from {plain(middle)} to {plain(float(y[worst]))} at step "
        f"{loss.x[worst]:.0f}; it {'recovered' if back else 'did not recover within ten rows'}.",
        loss.key,
        (float(loss.x[spikes[0]]), float(loss.x[spikes[-1]])),
        0.7,
        _LOWER_LR,
    )


def no_learning(run: Evidence) -> Iterator[Finding]:
    """Finds a loss that did not fall.

    Rule: over six rows or more, the mean of the last third is not 3 standard errors, or not 3%, below that of the first
    third, the end is no 5% below the start, no other metric got better, and no accuracy was over 0.8 all the time. Low
    if the model was pretrained, which may have little to learn, or if several optimizers train.
    """
    loss, it = run.loss, run.course
    if len(loss) < 6 or run.learned or run.improves or it.start - it.end > 0.05 * it.scale or run.good_already:
        return
    yield Finding(
        "no_learning",
        "low" if run.adversarial or run.config.get("model/config/_name_or_path") else "high",
        f"The model did not learn: the training loss was {plain(it.start)} at the start and {plain(it.end)} at "
        f"the end, "
        f"with a noise of {plain(it.noise)}{_accuracy(run)}.",
        loss.key,
        (float(loss.x[0]), float(loss.x[-1])),
        0.9 if len(loss) >= 20 else 0.6,
        "Try to overfit one batch. If that fails: learning rate, frozen or dead layers (gradients per layer), "
        "initialization. If it works: do labels belong to their inputs?",
    )


def plateau(run: Evidence) -> Iterator[Finding]:
    """Finds a loss that stopped falling in the first half of training, well above zero.

    Rule: the means of 20 parts fell by less than 2% of the whole gain, or 2 standard errors, after some part of the
    first half, and the end is above 10% of the start; the gain is 5 times that tolerance.
    """
    loss, it = run.loss, run.course
    if len(loss) < 20 or not run.learned or it.end < 0.1 * it.start:
        return
    means = smooth(loss)
    gain = float(means.y[0] - means.y.min())
    unsure = max(0.02 * gain, 2 * it.noise / np.sqrt(len(loss) / len(means)))
    flat = np.array([value <= means.y[at:].min() + unsure for at, value in enumerate(means.y)])
    at = int(np.argmax(flat))
    if gain > 5 * unsure and at <= len(means) // 2:
        yield Finding(
            "plateau",
            "low",
            f"The training loss has been flat since step {means.x[at]:.0f} of {loss.x[-1]:.0f}, at {plain(it.end)}.",
            loss.key,
            (float(means.x[at]), float(loss.x[-1])),
            0.6,
            "Lower the learning rate from there on, make the model larger, or stop earlier.",
        )


def too_few_steps(run: Evidence) -> Iterator[Finding]:
    """Finds a training that ended while the loss still fell fast.

    Rule: under 20 steps; or the last quarter of the steps brought 18% or more of the whole fall of the loss (25% is a
    straight line), and more than 3 standard errors. Medium.
    """
    loss, it = run.loss, run.course
    if not run.ended or not len(loss):
        return
    last = float(loss.x[-1])
    if run.steps < 20:
        text = f"Training ended after {run.steps:.0f} optimizer steps: too few to learn or to judge."
        yield Finding("too_few_steps", "medium", text, loss.key, (float(loss.x[0]), last), 0.8, "Train longer.")
        return
    if len(loss) < 8 or not run.learned:
        return
    middle, quarter = loss.y[(loss.x > 0.5 * last) & (loss.x <= 0.75 * last)], loss.y[loss.x > 0.75 * last]
    if len(middle) < 2 or len(quarter) < 2:
        return
    whole = it.start - float(quarter.mean())
    fell = float(middle.mean() - quarter.mean())
    error = float(np.sqrt(middle.var() / len(middle) + quarter.var() / len(quarter)))
    if whole > 0 and fell / whole > 0.18 and fell > 2 * error and falls(loss.y):
        yield Finding(
            "too_few_steps",
            "medium",
            f"Training ended while the loss still fell fast: the last quarter of {last:.0f} steps brought "
            f"{fell / whole:.0%} of the whole fall, to {plain(it.end)}.",
            loss.key,
            (0.75 * last, last),
            0.7,
            "Train longer, or with a higher learning rate.",
        )


def rises(run: Evidence, before: float, factor: float) -> bool:
    """Returns whether the loss rose to some times its start before a step."""
    y = run.loss.y[run.loss.x < before]
    return len(y) > 1 and float(y.max()) > factor * abs(run.course.start)


def grows(run: Evidence, before: float, factor: float) -> bool:
    """Returns whether the gradient norm rose to some times its start before a step."""
    norm = run.finite("batch/grad_norm")
    y = norm.y[norm.x < before]
    return len(y) > 1 and float(y.max()) > factor * float(np.median(y[:3]))


def _xy(run: Evidence, key: str) -> tuple[np.ndarray, np.ndarray]:
    found = run.curve(key)
    return found.x, found.y


def _lr(run: Evidence) -> str:
    lr = run.finite("batch/lr")
    return plain(float(lr.y.max())) if len(lr) else "not recorded"


def _accuracy(run: Evidence) -> str:
    accuracy = next((each for key, each in run.validation.items() if key.endswith("acc")), None)
    chance = float(np.exp(-run.course.start))
    known = accuracy is not None and 0.001 < chance < 0.7
    return f"; `{accuracy.key}` is {plain(float(accuracy.y[-1]))} (chance about {plain(chance, 2)})" if known else ""  # type: ignore[union-attr]
