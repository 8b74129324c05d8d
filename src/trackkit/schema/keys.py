"""Defines the vocabulary: every key that TrackKit writes, its unit, and how a logged name becomes a key.

`docs/schema.md` is generated from this file: `python -m trackkit.schema.keys > docs/schema.md`.
"""

from __future__ import annotations

import functools
import re
import unicodedata
import zlib
from dataclasses import dataclass
from typing import Literal, NamedTuple

Tier = Literal["batch", "epoch"]
Split = Literal["", "train", "val", "test", "predict"]


@dataclass(frozen=True, slots=True)
class Where:
    """The event that logged a metric. It decides the tier and the split; the metric's name does not.

    Attributes:
        tier: `batch` for a training step, `epoch` for the end of an epoch or an evaluation.
        split: the data that the metric was computed on; "" if nothing says which (only in the tier `epoch`).
        dataset: name of the evaluation set, if there are several; else "".
        around: what the framework puts before and after a metric's name to mark the evaluation set.
    """

    tier: Tier
    split: Split = "train"
    dataset: str = ""
    around: tuple[str, str] = ("", "")

    def spelled(self, name: str) -> str:
        """Returns a metric's name with the framework's marks around it."""
        return f"{self.around[0]}{name}{self.around[1]}"

    @property
    def data(self) -> str:
        """Returns split and set: `train`, `val`, `val/<set>`; "" if nothing says the split."""
        return "/".join(filter(None, (self.split, self.dataset)))

    @property
    def prefix(self) -> str:
        """Returns what the keys of this event begin with: `batch/`, `epoch/val/`, `epoch/val/<set>/`."""
        if self.tier == "batch":
            return "batch/"
        return f"epoch/{self.data}/" if self.data else "epoch/"


BATCH = Where("batch")


class Key(NamedTuple):
    """One line of the vocabulary.

    Attributes:
        name: the key, with `<name>` in place of the user's word.
        unit: of its value; "" if it has none.
        written: when a row carries it.
        meaning: what it measures, and how.
    """

    name: str
    unit: str
    written: str
    meaning: str


EVERY = "every batch row"
KNOWN = "every batch row, if known"
CUDA = "every batch row on CUDA"
END = "at the end"

KEYS: tuple[Key, ...] = (
    Key(
        "batch/step",
        "optimizer steps",
        EVERY,
        "x-axis of `batch/*` and `device/*`: the trainer's own counter (under Lightning with raw optimizers, whose "
        "steps it does not count, its number of batches)",
    ),
    Key("batch/iter_num", "optimizer steps", KNOWN, 'total planned steps, so a chart shows "5000 of 100000"'),
    Key("batch/epoch", "epochs, fractional", EVERY, "progress through the data"),
    Key("batch/samples", "count, all ranks", KNOWN, "seen so far: comparable across batch sizes"),
    Key("batch/tokens", "count, all ranks", KNOWN, "seen so far"),
    Key(
        "batch/loss",
        "as the model's",
        EVERY,
        "training loss: mean over the optimizer steps since the last row and over ranks, undivided by accumulation",
    ),
    Key(
        "batch/loss/<name>",
        "as given",
        "if the program gives parts of its loss",
        "part of the training loss: mean over the batches since the last row that have it, and over ranks",
    ),
    Key(
        "batch/loss/source/<name>",
        "as the model's",
        "if batches say their data source",
        "training loss of the batches from one source: mean over those since the last row, and over ranks",
    ),
    Key("batch/lr", "", EVERY, "learning rate of the step just taken (its optimizer's first parameter group)"),
    Key("batch/lr/<group>", "", EVERY, "per parameter group, if groups are named or differ"),
    Key("batch/lr/<optimizer>", "", EVERY, "per optimizer, if there are several"),
    Key(
        "batch/grad_norm",
        "L2",
        EVERY,
        "global norm of that step's gradients: unscaled, before clipping; with several optimizers, of the one that "
        "stepped last",
    ),
    Key("batch/grad_norm/<optimizer>", "L2", EVERY, "per optimizer, if there are several"),
    Key(
        "batch/grad_norm/layer/<parameter>",
        "L2",
        "with `grad_norm: {per_layer: true}`",
        "norm of one parameter's gradient",
    ),
    Key("batch/step_time_s", "s", EVERY, "mean wall time per optimizer step since the last row"),
    Key("batch/data_time_s", "s", EVERY, "the part of it spent waiting for data"),
    Key(
        "batch/profiling/<part>_s",
        "s",
        "with TRL and W&B, on the rank that writes",
        "mean time of each call of a part of TRL's trainer since the last row (evaluations included)",
    ),
    Key(
        "batch/samples_per_s",
        "1/s, all ranks",
        KNOWN,
        "throughput since the last row, without evaluation and checkpointing",
    ),
    Key("batch/tokens_per_s", "1/s, all ranks", KNOWN, "the same in tokens"),
    Key(
        "batch/mfu",
        "0 to 1",
        "if FLOPs and peak are set",
        "model FLOPs utilization: flops_per_sample x samples/s over peak_flops x ranks",
    ),
    Key(
        "batch/nonfinite",
        "count",
        EVERY,
        "steps since the last row whose loss or norm was NaN or Inf (under Hugging Face 0 or 1: whether the row's own "
        "loss or norm is, unless `logging_nan_inf_filter` hides it)",
    ),
    Key("batch/skipped_steps", "count", EVERY, "steps since the last row that the gradient scaler skipped"),
    Key("batch/<name>", "as logged", "as logged", "anything else that the user's code logs per training step"),
    Key("epoch/step", "optimizer steps", "every epoch row", "x-axis of `epoch/*` (unless `epoch_axis: epoch`)"),
    Key("epoch/epoch", "epochs, fractional", "every epoch row, if known", "the other x-axis"),
    Key(
        "epoch/<split>/<name>",
        "as logged",
        "at an epoch's or an evaluation's end",
        "split is `train`, `val`, `test` or `predict`; of a metric logged only per evaluation batch, the last value",
    ),
    Key("epoch/<split>/<set>/<name>", "as logged", "the same", "the same for one of several evaluation sets"),
    Key(
        "epoch/<metric>",
        "as logged",
        "in loops and under Accelerate, as logged",
        "a metric that was logged together with `epoch`, without a word that says its split",
    ),
    Key("device/gpu_mem_reserved_GB", "1e9 bytes", CUDA, "the caching allocator's pool: the number to watch"),
    Key("device/gpu_mem_allocated_GB", "1e9 bytes", CUDA, "live tensors"),
    Key("device/gpu_mem_peak_reserved_GB", "1e9 bytes", CUDA, "the pool's peak since the process began"),
    Key("device/rss_GB", "1e9 bytes", EVERY, "memory of the training process, read at most once per second"),
    Key(
        "samples/<name>",
        "media",
        "as logged",
        "pictures, tables, texts; x-axis `batch/step`. In the run's folder: tables and texts (`samples.jsonl`)",
    ),
    Key(
        "samples/completions",
        "table",
        "as TRL logs",
        "step, split, prompt, completion, each reward and advantage; at most `callbacks: samples: max_rows` rows",
    ),
    Key("final/<split>/<name>", "as logged", END, "the last finite value of each epoch metric"),
    Key("final/<metric>", "as logged", END, "the same of a metric without a split"),
    Key(
        "final/<split>/runtime_s",
        "s",
        "at the end under Hugging Face",
        "duration of the training, or of the last evaluation, by the trainer's own clock; likewise `samples_per_s`, "
        "`steps_per_s` and, if counted, `tokens_per_s`",
    ),
    Key(
        "final/best/val/<name>",
        "as logged",
        END,
        "best value of each `val` metric whose name says whether lower or higher is better, and of the monitored one",
    ),
    Key("final/best/val/<name>_step", "optimizer steps", END, "step of that value"),
    Key("final/steps", "optimizer steps", END, "steps taken"),
    Key("final/epochs", "epochs", END, "epochs trained, fractional"),
    Key("final/duration_h", "h", END, "wall time from the start of training to its end"),
    Key("final/eval_h", "h", END, "the part of it spent in evaluations"),
    Key("final/checkpoint_h", "h", END, "the part of it spent in saving checkpoints"),
    Key("final/gpu_hours", "h", "at the end on CUDA", "duration times ranks"),
    Key("final/energy_kWh", "kWh", "at the end with NVML, one rank", "energy of this rank's GPU, by its own counter"),
    Key("final/cost_usd", "US dollars", "at the end, if a price is set", "GPU hours times price_per_gpu_hour"),
    Key("final/samples", "count, all ranks", "at the end, if known", "samples seen"),
    Key("final/tokens", "count, all ranks", "at the end, if known", "tokens seen"),
    Key("final/nonfinite", "count", END, "total of `batch/nonfinite`"),
    Key("final/skipped_steps", "count", END, "total of `batch/skipped_steps`"),
    Key("final/peak_gpu_mem_reserved_GB", "1e9 bytes", "at the end on CUDA", "the pool's peak on rank 0"),
    Key(
        "final/total_flos",
        "FLOPs",
        "at the end under Hugging Face",
        "Hugging Face's estimate of the floating-point operations",
    ),
    Key("final/tracker_errors", "count", END, "errors inside TrackKit, which did not end the training"),
    Key("final/error", "text", "at the end, if training failed", "the error in one line: type, message, file and line"),
    Key("final/status", "word", END, "`finished`, `failed`, `stopped` (by the user or early stopping), `preempted`"),
)

MEASURED_NAMES = frozenset(
    key.name.removeprefix("batch/") for key in KEYS if key.name.startswith("batch/") and "<" not in key.name
)

SPLIT_WORDS: dict[Split, tuple[str, ...]] = {
    "": (),
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "eval", "evaluation"),
    "test": ("test", "testing"),
    "predict": ("predict", "prediction"),
}
_FORK_SUFFIX = {"batch": "_step", "epoch": "_epoch"}
_OWN_WORDS = frozenset({"global_step", "time_step", "num_epoch"})

# Patterns of a `<word>` in a key. Only names and groups may have several segments.
_SEGMENT = r"(?:[A-Za-z0-9_]|[^\x00-\x7f])+"
_WORD = f"{_SEGMENT}(?:/{_SEGMENT})*"
_WORDS = {"<split>": "(?:train|val|test|predict)", "<set>": _SEGMENT, "<metric>": _SEGMENT}


def sanitize(name: str) -> str:
    """Returns `name` with only letters, digits and `_` in its segments, of any script; hashes a segment without any."""
    segments = []
    for segment in name.split("/"):
        clean = re.sub("[^A-Za-z0-9_]", _letter_or_space, unicodedata.normalize("NFC", segment))
        clean = re.sub(r"\s+", "_", clean).strip("_")
        if clean:
            segments.append(clean)
        elif segment.strip():
            segments.append(f"metric_{zlib.crc32(segment.encode()):08x}")
    return "/".join(segments) or "metric"


def _letter_or_space(found: re.Match[str]) -> str:
    """Returns a letter, digit or combining mark of any script; a space for all other characters."""
    return found[0] if found[0].isalnum() or unicodedata.category(found[0])[0] == "M" else " "


def canonical(name: str, where: Where) -> str:
    """Drops what repeats the tier or the split: `train/acc`, `acc_step`, `val_acc` and `eval_acc` become `acc`.

    Args:
        name: as the user or the framework logged it.
        where: the event that logged it.

    Returns:
        The name below `where.prefix`; never empty, segments of letters, digits and `_`.
    """
    words = "|".join(SPLIT_WORDS[where.split]) or "$."
    tier = where.tier
    before, short, forked = "", name, False
    while short != before:
        before = short
        short = re.sub(rf"^(?:{words})[\W_]+(?=\w)", "", short, flags=re.IGNORECASE)
        short = re.sub(rf"(?<=[^\W_])[\W_]+(?:{words})$", "", short, flags=re.IGNORECASE)
        short = short.removeprefix(f"{tier}/") or short
        # Only once: Lightning turns `time_per_step` into `time_per_step_step` and `time_per_step_epoch`.
        if not forked and short not in _OWN_WORDS:
            bare = short.removesuffix(_FORK_SUFFIX[tier]) or short
            short, forked = bare, bare != short
    return sanitize(short)


AXES = frozenset({"batch/step", "batch/epoch", "batch/iter_num", "epoch/step", "epoch/epoch"})
"""Keys that say where a row stands. They alone do not make a row."""


def axis_key(key: str, epoch_axis: str = "step") -> str:
    """Returns the x-axis that `key` is plotted against."""
    return f"epoch/{epoch_axis}" if key.startswith("epoch/") else "batch/step"


def describe(key: str) -> Key | None:
    """Returns the line of the vocabulary that describes `key`, the most literal if several do; None if none does."""
    fits = [line for line in KEYS if _pattern(line.name).fullmatch(key)]
    return min(fits, key=lambda line: line.name.count("<"), default=None)


@functools.cache
def _pattern(name: str) -> re.Pattern[str]:
    parts = re.split(r"(<\w+>)", name)
    text = "".join(_WORDS.get(part, _WORD) if part.startswith("<") else re.escape(part) for part in parts)
    return re.compile(text)


def markdown() -> str:
    """Returns the vocabulary as a Markdown page."""
    lines = [
        "# The schema",
        "",
        "Generated from `src/trackkit/schema/keys.py` by `make docs`. Edit that file.",
        "",
        "History has `batch/*` and `epoch/*` for what the model does, `device/*` for what the machine does and",
        "`samples/*` for pictures, tables and texts. `final/*` is the summary, one column per result in the runs",
        "table. Nothing else is written to history.",
        "",
        "| key | unit | written | meaning |",
        "|---|---|---|---|",
        *(f"| `{key.name}` | {key.unit} | {key.written} | {key.meaning} |" for key in KEYS),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(markdown(), end="")
