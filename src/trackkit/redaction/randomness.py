"""Distinguishes values that were drawn at random from words, names and numbers that people chose."""

from __future__ import annotations

import re

# A password of eight random characters has more; two words of prose have less.
ENOUGH_BITS = 28.0
# Shorter values may be any word.
MIN_LENGTH = 8
# Characters in a row of one kind, on average, of a value drawn character by character: 1.3 to 2.5.
MOST_IN_PIECE = 4

# Words of default passwords, and of models, data, runs and machines: they add no entropy.
_WORDS = (
    "access account admin airflow api auth base baseline batch bert best change changeme chat checkpoint "
    "checkpoints client clip cluster company config cpu cuda data database dataset datasets deep default demo dev "
    "develop development distributed docker epoch eval evaluation example experiment experiments face final "
    "finetune finetuning gemma gpt gpu guest hello host hugging huggingface image imagenet images instruct internal "
    "jupyter keras key keys kubernetes language large last latest learning letmein lightning llama local localhost "
    "login loss machine main mariadb master medium minio mistral mlflow model models mongo mongodb mysql network "
    "networks neural node notebook pass passphrase passwd password passwords postgres postgresql pretrain "
    "pretraining private prod production project public pytorch qwen qwerty rabbitmq redis research resnet roberta "
    "root run runs sample secret secrets server service services small stage staging step team tensorflow test "
    "testing tests text tiny token tokens torch train trainer training transformer transformers user users valid "
    "validation version vision vit wandb welcome worker world "
)
_KNOWN = frozenset(_WORDS.split())
_PIECES = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[A-Z]|\d+|[^\sA-Za-z0-9_\-./]")


def looks_random(value: str) -> bool:
    """Returns whether a value is a key or a good password, not a word, name or number that texts may have by chance."""
    return len(value) >= MIN_LENGTH and _bits(_PIECES.findall(value)) >= ENOUGH_BITS


def is_jumbled(value: str) -> bool:
    """Returns whether a value was drawn character by character, and is not made of words as a model's name is."""
    pieces = _PIECES.findall(value)
    if len(value) < MIN_LENGTH or any(len(each) > 4 and each.lower() in _KNOWN for each in pieces):
        return False
    return len(value) <= MOST_IN_PIECE * len(pieces) and _bits(pieces) >= ENOUGH_BITS


def _bits(pieces: list[str]) -> float:
    """Returns a low estimate of a value's entropy in bits, for words known and unknown, numbers and signs.

    A letter within a word has about 1.4 bits (after Shannon, "Prediction and Entropy of Printed English", 1951), the
    first letter of a word 3 more, a digit of a long number 3.3, a punctuation mark 2.
    """
    bits = 0.0
    for piece in pieces:
        if piece[0].isdigit():
            bits += 3.0 if 1 < len(piece) <= 4 else 3.3 * len(piece)
        elif piece[0].isalpha() and piece[0].isascii():
            bits += 0.0 if piece.lower() in _KNOWN else 3.0 + 1.4 * len(piece)
        else:
            bits += 2.0
    return bits
