"""Tiny trainings by TRL: models of a few thousand weights made from a config, and nothing that is downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import trl
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast, Trainer

WORDS = 32
STEPS = 5


def tokenizer() -> PreTrainedTokenizerFast:
    """Returns a tokenizer of 32 words."""
    words = ["<pad>", "<eos>", "<unk>", *(f"w{number}" for number in range(WORDS - 3))]
    inner = Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    )


def model(kind: type[Any] = LlamaForCausalLM, **given: Any) -> Any:
    """Returns a Llama of one layer, with the same weights each time."""
    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    ends: dict[str, Any] = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 1}
    with torch.random.fork_rng():
        torch.manual_seed(11)
        return kind(LlamaConfig(vocab_size=WORDS, **sizes, **ends, **given))


def distinct(completions: list[str], **_: Any) -> list[float]:
    """Rewards distinct words."""
    return [float(len(set(text.split()))) for text in completions]


def _said(first: int, words: int = 4) -> str:
    return " ".join(f"w{(first + number) % (WORDS - 3)}" for number in range(words))


def _data(kind: str) -> Dataset:
    texts = [(_said(at), _said(at + 4), _said(3 * at)) for at in range(12)]
    if kind == "SFT":
        return Dataset.from_list([{"text": f"{prompt} {good}"} for prompt, good, _ in texts])
    if kind == "KTO":
        rows = [{"prompt": prompt, "completion": f" {good}", "label": True} for prompt, good, _ in texts]
        return Dataset.from_list(
            rows
            + [{**row, "completion": f" {bad}", "label": False} for row, (_, _, bad) in zip(rows, texts, strict=True)]
        )
    if kind in ("DPO", "Reward"):
        return Dataset.from_list(
            [{"prompt": prompt, "chosen": f" {good}", "rejected": f" {bad}"} for prompt, good, bad in texts]
        )
    return Dataset.from_list([{"prompt": prompt} for prompt, _, _ in texts])


_GENERATES: dict[str, Any] = {
    "num_generations": 4, "max_completion_length": 6, "log_completions": True, "beta": 0.0, "num_generations_eval": 4
}  # fmt: skip
_OWN: dict[str, dict[str, Any]] = {"SFT": {"max_length": 16}, "GRPO": _GENERATES, "RLOO": _GENERATES}


def make(kind: str, out: Path | str, callbacks: list[Any], **given: Any) -> Trainer:
    """Returns a trainer for five steps that logs every second one and evaluates at the fourth and at the end.

    Args:
        kind: `SFT`, `DPO`, `KTO`, `Reward`, `GRPO` or `RLOO`.
        out: output folder.
        callbacks: of the trainer.
        given: further arguments of its config.
    """
    defaults: dict[str, Any] = {
        "max_steps": STEPS,
        "logging_steps": 2,
        "eval_strategy": "steps",
        "eval_steps": 4,
        "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 4,
        "learning_rate": 0.01,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "disable_tqdm": True,
    }
    arguments = getattr(trl, f"{kind}Config")(str(out), **{**defaults, **_OWN.get(kind, {}), **given})
    data = _data(kind)
    more: dict[str, Any] = {
        "processing_class": tokenizer(),
        "train_dataset": data,
        "eval_dataset": data.select(range(4)),
    }
    if kind in ("DPO", "KTO"):
        more["ref_model"] = model()
    if kind in ("GRPO", "RLOO"):
        more["reward_funcs"] = distinct
    trained = model(LlamaForSequenceClassification, num_labels=1) if kind == "Reward" else model()
    trainer: Trainer = getattr(trl, f"{kind}Trainer")(trained, args=arguments, callbacks=callbacks, **more)
    return trainer
