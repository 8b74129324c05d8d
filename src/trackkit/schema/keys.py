"""The vocabulary: every key that TrackKit writes, its unit, and how a logged name becomes a key.

`docs/schema.md` is generated from this file: `python -m trackkit.schema.keys > docs/schema.md`.
"""

from __future__ import annotations

import functools
import re
import zlib
from dataclasses import dataclass
from typing import Literal, NamedTuple

Tier = Literal["batch", "epoch"]
Split = Literal["train", "val", "test", "predict"]


@dataclass(frozen=True, slots=True)
class Where:
    """The event that logged a metric: it alone decides the tier and the split, never the metric's name.

    Attributes:
        tier: `batch` for a training step, `epoch` for an epoch's or an evaluation's end.
        split: the data it was computed on.
        dataset: which of several evaluation sets, by the name that it was given; "" for the only one.
        around: what the framework itself puts before and after a metric's name in this event, to tell the set.
    """

    tier: Tier
    split: Split = "train"
    dataset: str = ""
    around: tuple[str, str] = ("", "")

    def spelled(self, name: str) -> str:
        """A metric's name as the framework has it."""
        return f"{self.around[0]}{name}{self.around[1]}"

    @property
    def prefix(self) -> str:
        """What the keys of this event begin with: `batch/`, `epoch/val/`, `epoch/val/<set>/`."""
        if self.tier == "batch":
            return "batch/"
        return f"epoch/{self.split}/{self.dataset}/" if self.dataset else f"epoch/{self.split}/"


BATCH = Where("batch")


class Key(NamedTuple):
    """One line of the vocabulary.

    Attributes:
        name: the key, with `<name>` where the user's own word stands.
        unit: of its value; "" where it has none of its own.
        written: when a row carries it.
        meaning: what it measures, and how.
    """

    name: str
    unit: str
    written: str
    meaning: str


EVERY = "every batch row"
KNOWN = "every batch row, where known"
CUDA = "every batch row on CUDA"
END = "at the end"

KEYS: tuple[Key, ...] = (
    Key(
        "batch/step",
        "optimizer steps",
        EVERY,
        "x-axis of `batch/*` and `device/*`: the trainer's own counter (with raw optimizers under Lightning, which "
        "that counter does not see, its count of batches)",
    ),
    Key("batch/iter_num", "optimizer steps", KNOWN, "total planned steps, so that a chart shows 5000 of 100000"),
    Key("batch/epoch", "epochs, fractional", EVERY, "progress through the data"),
    Key("batch/samples", "count, all ranks", KNOWN, "seen so far: comparable across batch sizes"),
    Key("batch/tokens", "count, all ranks", KNOWN, "seen so far"),
    Key(
        "batch/loss",
        "as the model's",
        EVERY,
        "training loss: mean over the optimizer steps since the last row and over ranks, undivided by accumulation",
    ),
    Key("batch/lr", "", EVERY, "learning rate of the step just taken (its optimizer's first parameter group)"),
    Key("batch/lr/<group>", "", EVERY, "per parameter group, where groups are named or differ"),
    Key("batch/lr/<optimizer>", "", EVERY, "per optimizer, where there are several"),
    Key(
        "batch/grad_norm",
        "L2",
        EVERY,
        "global norm of that step's gradients: unscaled, before clipping; with several optimizers, of the last that "
        "stepped",
    ),
    Key("batch/grad_norm/<optimizer>", "L2", EVERY, "per optimizer, where there are several"),
    Key(
        "batch/grad_norm/layer/<parameter>",
        "L2",
        "with `grad_norm: {per_layer: true}`",
        "norm of one parameter's gradient",
    ),
    Key("batch/step_time_s", "s", EVERY, "mean wall time per optimizer step since the last row"),
    Key("batch/data_time_s", "s", EVERY, "the part of it spent waiting for data"),
    Key(
        "batch/samples_per_s",
        "1/s, all ranks",
        KNOWN,
        "throughput since the last row, evaluation and checkpoint time left out",
    ),
    Key("batch/tokens_per_s", "1/s, all ranks", KNOWN, "the same in tokens"),
    Key(
        "batch/mfu",
        "0 to 1",
        "where FLOPs and peak are set",
        "model FLOPs utilisation: flops_per_sample x samples/s over peak_flops x ranks",
    ),
    Key(
        "batch/nonfinite",
        "count",
        EVERY,
        "steps since the last row whose loss or norm was NaN or Inf (under Hugging Face 0 or 1: whether the row's own "
        "loss or norm is, which is blind to what `logging_nan_inf_filter` hides)",
    ),
    Key("batch/skipped_steps", "count", EVERY, "steps since the last row that the gradient scaler skipped"),
    Key("batch/<name>", "as logged", "as logged", "whatever else the user's code logs per training step"),
    Key("epoch/step", "optimizer steps", "every epoch row", "x-axis of `epoch/*` (unless `epoch_axis: epoch`)"),
    Key("epoch/epoch", "epochs, fractional", "every epoch row, where known", "the other x-axis"),
    Key(
        "epoch/<split>/<name>",
        "as logged",
        "at an epoch's or an evaluation's end",
        "split is `train`, `val`, `test` or `predict`; of a value that was only logged per evaluation batch, the last",
    ),
    Key("epoch/<split>/<set>/<name>", "as logged", "the same", "one of several evaluation sets"),
    Key("device/gpu_mem_reserved_GB", "1e9 bytes", CUDA, "the caching allocator's pool: the number to watch"),
    Key("device/gpu_mem_allocated_GB", "1e9 bytes", CUDA, "live tensors"),
    Key("device/gpu_mem_peak_reserved_GB", "1e9 bytes", CUDA, "the pool's peak since the process began"),
    Key("final/<split>/<name>", "as logged", END, "the last finite value of each epoch metric"),
    Key("final/best/<split>/<name>", "as logged", END, "the monitored metric at its best"),
    Key("final/best/<split>/<name>_step", "optimizer steps", END, "where that was"),
    Key("final/steps", "optimizer steps", END, "taken"),
    Key("final/epochs", "epochs", END, "taken, fractional"),
    Key("final/duration_h", "h", END, "wall time from the start of training to its end"),
    Key("final/gpu_hours", "h", "at the end on CUDA", "duration times ranks"),
    Key("final/energy_kWh", "kWh", "at the end with NVML, one rank", "this rank's GPU, by its own counter"),
    Key("final/cost_usd", "US dollars", "at the end, where a price is set", "GPU hours times price_per_gpu_hour"),
    Key("final/samples", "count, all ranks", "at the end, where known", "seen"),
    Key("final/tokens", "count, all ranks", "at the end, where known", "seen"),
    Key("final/nonfinite", "count", END, "total of `batch/nonfinite`"),
    Key("final/skipped_steps", "count", END, "total of `batch/skipped_steps`"),
    Key("final/peak_gpu_mem_reserved_GB", "1e9 bytes", "at the end on CUDA", "the pool's peak on rank 0"),
    Key("final/total_flos", "FLOPs", "at the end under Hugging Face", "its own estimate of all that was computed"),
    Key("final/tracker_errors", "count", END, "errors inside TrackKit, each logged and survived"),
    Key("final/status", "word", END, "`finished`, `failed`, `stopped` (by the user or early stopping), `preempted`"),
)

MEASURED_NAMES = frozenset(
    key.name.removeprefix("batch/") for key in KEYS if key.name.startswith("batch/") and "<" not in key.name
)

_SPLIT_WORDS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "eval", "evaluation"),
    "test": ("test", "testing"),
    "predict": ("predict", "prediction"),
}
_FORK_SUFFIX = {"batch": "_step", "epoch": "_epoch"}
_OWN_WORDS = frozenset({"global_step", "time_step", "num_epoch"})

# What stands for a `<word>` of a key: only names and groups may have several segments.
_WORDS = {"<split>": "(?:train|val|test|predict)", "<set>": r"\w+"}
_WORD = r"\w+(?:/\w+)*"


def sanitize(name: str) -> str:
    """`name` with every segment made of `[A-Za-z0-9_]`; a segment with nothing of that gets a stable stand-in."""
    segments = []
    for segment in name.split("/"):
        clean = re.sub(r"[^A-Za-z0-9_]+", "_", segment).strip("_")
        if clean:
            segments.append(clean)
        elif segment.strip():
            segments.append(f"metric_{zlib.crc32(segment.encode()):08x}")
    return "/".join(segments) or "metric"


def canonical(name: str, where: Where) -> str:
    """`name` without what repeats its tier or split: `train/acc`, `acc_step`, `val_acc` and `eval_acc` are `acc`.

    Args:
        name: as the user or the framework logged it.
        where: the event that logged it.

    Returns:
        The name below `where.prefix`; never empty, segments of `[A-Za-z0-9_]`.
    """
    words = "|".join(_SPLIT_WORDS[where.split])
    tier = where.tier
    before, short, forked = "", name, False
    while short != before:
        before = short
        short = re.sub(rf"^(?:{words})[\W_]+(?=\w)", "", short, flags=re.IGNORECASE)
        short = re.sub(rf"(?<=[^\W_])[\W_]+(?:{words})$", "", short, flags=re.IGNORECASE)
        short = short.removeprefix(f"{tier}/") or short
        # Once: of `time_per_step`, Lightning makes `time_per_step_step` and `time_per_step_epoch`.
        if not forked and short not in _OWN_WORDS:
            bare = short.removesuffix(_FORK_SUFFIX[tier]) or short
            short, forked = bare, bare != short
    return sanitize(short)


AXES = frozenset({"batch/step", "batch/epoch", "batch/iter_num", "epoch/step", "epoch/epoch"})
"""Keys that say where a row stands: of their own they are no row."""


def axis_key(key: str, epoch_axis: str = "step") -> str:
    """The x-axis that `key` is plotted against."""
    return f"epoch/{epoch_axis}" if key.startswith("epoch/") else "batch/step"


def describe(key: str) -> Key | None:
    """The line of the vocabulary that `key` belongs to: the most literal one that fits; None where there is none."""
    fits = [line for line in KEYS if _pattern(line.name).fullmatch(key)]
    return min(fits, key=lambda line: line.name.count("<"), default=None)


@functools.cache
def _pattern(name: str) -> re.Pattern[str]:
    parts = re.split(r"(<\w+>)", name)
    text = "".join(_WORDS.get(part, _WORD) if part.startswith("<") else re.escape(part) for part in parts)
    return re.compile(text, re.ASCII)


def markdown() -> str:
    """The vocabulary as a Markdown page."""
    lines = [
        "# The schema",
        "",
        "Generated by `make docs` from `src/trackkit/schema/keys.py`; edit that.",
        "",
        "History has `batch/*` and `epoch/*` for what the model does and `device/*` for what the machine does;",
        "`final/*` is the summary, one column per result in the runs table. Nothing else is written to history.",
        "",
        "| key | unit | written | meaning |",
        "|---|---|---|---|",
        *(f"| `{key.name}` | {key.unit} | {key.written} | {key.meaning} |" for key in KEYS),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(markdown(), end="")
