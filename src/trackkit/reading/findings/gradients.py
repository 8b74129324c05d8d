"""Findings in the gradient norm: exploding, vanishing, clipped, skipped, frozen."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from trackkit.reading.columns import plain
from trackkit.reading.curves import at_steps
from trackkit.reading.findings.evidence import Evidence
from trackkit.reading.findings.finding import Finding

# A smaller norm is no explosion, whatever the loss.
_HUGE = 1e3


def exploding_gradients(run: Evidence) -> Iterator[Finding]:
    """Finds gradients that are huge before the loss is.

    Rule: the norm is 100 times the median of its first rows, or over 1,000 and 100 times the loss, at a row before the
    loss is three times its start, or while that never happens. High if training broke or did not learn; medium if it is
    so in 2% of the rows.
    Source: Pascanu et al., On the difficulty of training recurrent neural networks (2013).
    """
    norm, it = run.curve("batch/grad_norm"), run.course
    finite = norm.finite
    if not len(finite) or not len(run.loss):
        return
    # A norm of 0 is that of a broken step, or of dead units.
    early = finite.y[finite.y > 0][:3]
    usual = min(float(np.median(early)), float(early[0])) if len(early) > 2 else np.inf
    huge = finite.y > max(100 * usual, 1e-6)
    huge |= (finite.y > _HUGE) & (finite.y > 100 * at_steps(run.loss, finite.x))
    if not huge.any():
        return
    first = run.since(finite, huge)
    risen = run.loss.y > it.start + 2 * it.scale
    if risen.any() and run.since(run.loss, risen) < first:
        return
    broken = not np.isfinite(norm.y).all() or not np.isfinite(run.curve("batch/loss").y).all()
    harm = broken or risen.any() or not run.learned or it.start > 100
    yield Finding(
        "exploding_gradients",
        "high" if harm else "medium" if huge.mean() > 0.02 else "low",
        f"Gradients exploded: the norm was {plain(float(finite.y[0]))} at the start and "
        f"{plain(float(finite.y.max()))} at "
        f"most, first huge at step {first:.0f}{', and then was not finite' if broken else ''}.",
        norm.key,
        (first, float(finite.x[huge][-1])),
        0.85,
        "Clip gradients (`gradient_clip_val=1.0`, `max_grad_norm=1.0`), scale down recurrent weights, shorten "
        "sequences, "
        "or lower the learning rate.",
    )


def vanishing_gradients(run: Evidence) -> Iterator[Finding]:
    """Finds gradients that are, or became, next to nothing while the loss is still high.

    Rule: half of the rows have a norm under 1e-7, or the median of the last third is under 1/1000 of the first rows',
    or a model that does not learn has a norm under 2% of the loss; and the loss is above 60% of its start.
    Source: Glorot and Bengio, Understanding the difficulty of training deep feedforward neural networks (2010).
    """
    norm, it = run.finite("batch/grad_norm"), run.course
    if len(norm) < 6 or len(run.loss) < 6 or it.end < 0.6 * it.start:
        return
    first, last = float(np.median(norm.y[:3])), float(np.median(norm.y[-max(3, len(norm) // 3) :]))
    dead = float(np.mean(norm.y < 1e-7)) > 0.5
    shrunk = last < 1e-3 * first
    small = not run.learned and not run.improves and last < 0.02 * it.scale
    if dead or shrunk or small:
        yield Finding(
            "vanishing_gradients",
            "high",
            f"Gradients vanished: the norm was {plain(first)} at the start and {plain(last)} in the last third, while "
            f"the loss is still {plain(it.end)} (start {plain(it.start)}).",
            norm.key,
            (float(norm.x[0]), float(norm.x[-1])),
            0.9 if dead or shrunk else 0.6,
            "Look for dead units (all ReLU outputs 0), saturated sigmoids, a detached loss or frozen layers; use "
            "normalization, residual connections, or another initialization. `grad_norm: {per_layer: true}` "
            "shows where.",
        )


def frozen(run: Evidence) -> Iterator[Finding]:
    """Finds a model of which next to nothing is trained, and which does not learn.

    Rule: under 1% of the parameters are trainable, there is no adapter, and the loss did not fall by 10%; or no
    gradient norm was ever above 0.
    """
    total, trainable = run.number("model/total_params_M"), run.number("model/trainable_params_M")
    adapter = any(key.startswith("model/adapter") for key in run.config)
    if total and trainable is not None and trainable < 0.01 * total and not adapter:
        it = run.course
        if len(run.loss) and it.end > 0.9 * it.start:
            yield Finding(
                "frozen",
                "high",
                f"Only {trainable / total:.2%} of the model's parameters are trainable ({plain(1e6 * trainable)} of "
                f"{plain(total)} million), and the loss went from {plain(it.start)} to {plain(it.end)}.",
                "model/trainable_params_M",
                confidence=0.9,
                advice="Is the model frozen by mistake (`requires_grad=False`)? Were all parameters given to the "
                "optimizer?",
            )


def clipping(run: Evidence) -> Iterator[Finding]:
    """Finds a clip value that is far below, or never below, the gradients.

    Rule: in 95% of the rows the norm is above the clip value, and its median is 5 times that (low), 20 times (medium;
    low under Adam, whose steps don't depend on the gradient's size) or 100 times (medium; high if the loss did not fall
    by half). Low if a clip value that the user chose was never reached in 20 rows.
    """
    clip = run.number("trainer/gradient_clip_val", "trainer/max_grad_norm")
    norm = run.finite("batch/grad_norm")
    if not clip or clip < 0 or len(norm) < 6 or run.config.get("trainer/gradient_clip_algorithm") == "value":
        return
    share, ratio = float(np.mean(norm.y > clip)), float(np.median(norm.y)) / clip
    span = (float(norm.x[0]), float(norm.x[-1]))
    if share > 0.95 and ratio > 5:
        slow = run.course.end > 0.5 * run.course.start
        far = ratio > 100 or (ratio > 20 and not run.adaptive)
        yield Finding(
            "clipping",
            "high" if far and slow else "medium" if far else "low",
            f"Gradients were clipped in {share:.0%} of the rows: the median norm is {plain(float(np.median(norm.y)))}, "
            f"{plain(ratio, 2)} times the clip value {plain(clip)}.",
            norm.key,
            span,
            0.9,
            f"Raise the clip value to about {plain(float(np.quantile(norm.y, 0.9)), 2)}, or leave it out: steps are "
            "shorter than the learning rate says.",
        )
    elif share == 0 and len(norm) >= 20 and clip != 1.0:
        text = f"Clipping at {plain(clip)} was never active: the largest norm is {plain(float(norm.y.max()))}."
        yield Finding("clipping", "low", text, norm.key, span, 0.5)


def skipped_steps(run: Evidence) -> Iterator[Finding]:
    """Finds optimizer steps that the gradient scaler skipped.

    Rule: 5% of all steps (medium) or 20% (high); a scaler skips a few at first while it finds its scale.
    Source: PyTorch, `torch.amp.GradScaler`.
    """
    skipped = run.finite("batch/skipped_steps")
    total = float(skipped.y.sum()) if len(skipped) else 0.0
    share = total / run.steps if run.steps else 0.0
    if total > 5 and share > 0.05:
        at = skipped.x[skipped.y > 0]
        yield Finding(
            "skipped_steps",
            "high" if share > 0.2 else "medium",
            f"The gradient scaler skipped {total:.0f} of {run.steps:.0f} steps ({share:.0%}).",
            skipped.key,
            (float(at[0]), float(at[-1])),
            advice="Use bfloat16, lower the learning rate, or look for overflows in the loss.",
        )
