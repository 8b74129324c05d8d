"""Trains a small GPT on the sources of Python's standard library, with Hugging Face and TrackKit.

python examples/gpt_transformers.py --out demo-runs/gpt --steps 150
"""

from __future__ import annotations

import argparse
import sysconfig
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments, set_seed

import trackkit  # noqa: F401  (makes report_to="trackkit" known)

BLOCK = 96


class Bytes(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """Blocks of bytes of source files, as token ids 0 to 255."""

    def __init__(self, files: list[Path]) -> None:
        text = b"\n".join(path.read_bytes() for path in files)
        count = len(text) // BLOCK
        self.blocks = torch.frombuffer(bytearray(text[: count * BLOCK]), dtype=torch.uint8).view(count, BLOCK)

    def __len__(self) -> int:
        return len(self.blocks)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        ids = self.blocks[index].long()
        return {"input_ids": ids, "labels": ids}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("demo-runs/gpt"))
    parser.add_argument("--steps", type=int, default=150)
    arguments = parser.parse_args()

    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    train, val = Bytes(files[:-20]), Bytes(files[-20:-14])
    # The Trainer's own seed comes after the model is made.
    set_seed(7)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=256, n_positions=BLOCK, n_embd=96, n_layer=3, n_head=4, bos_token_id=None, eos_token_id=None
        )
    )
    trainer = Trainer(
        model,
        TrainingArguments(
            output_dir=str(arguments.out),
            max_steps=arguments.steps,
            per_device_train_batch_size=8,
            per_device_eval_batch_size=32,
            gradient_accumulation_steps=2,
            learning_rate=3e-3,
            lr_scheduler_type="cosine",
            warmup_steps=10,
            logging_steps=5,
            eval_strategy="steps",
            eval_steps=50,
            save_strategy="no",
            include_num_input_tokens_seen="all",
            seed=7,
            use_cpu=True,
            report_to="trackkit",
        ),
        train_dataset=train,
        eval_dataset=torch.utils.data.Subset(val, range(min(256, len(val)))),
    )
    trainer.train()


if __name__ == "__main__":
    main()
