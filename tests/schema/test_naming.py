"""Logged names become keys."""

from __future__ import annotations

import itertools
import re

import pytest

from trackkit import SchemaError
from trackkit.schema.keys import BATCH, Where, canonical, sanitize
from trackkit.schema.names import Names

TRAIN, VAL, TEST = Where("epoch"), Where("epoch", "val"), Where("epoch", "test")
NAMES = [
    (BATCH, "acc", "acc"),
    (BATCH, "train/acc", "acc"),
    (BATCH, "train_acc", "acc"),
    (BATCH, "train.acc", "acc"),
    (BATCH, "Train Acc", "Acc"),
    (BATCH, "training/acc", "acc"),
    (BATCH, "acc_step", "acc"),
    (BATCH, "train/acc_step", "acc"),
    (BATCH, "loss/train", "loss"),
    (BATCH, "batch/train/acc", "acc"),
    (BATCH, "acc_epoch", "acc_epoch"),
    (BATCH, "val_acc", "val_acc"),
    (BATCH, "test_f1", "test_f1"),
    (BATCH, "step", "step"),
    (BATCH, "epoch", "epoch"),
    (BATCH, "val", "val"),
    (BATCH, "train", "train"),
    (BATCH, "global_step", "global_step"),
    (BATCH, "train/global_step", "global_step"),
    (BATCH, "trainable_params", "trainable_params"),
    (BATCH, "trainers", "trainers"),
    (BATCH, "rewards/format", "rewards/format"),
    (BATCH, "top 5 %", "top_5"),
    (BATCH, "f1.micro", "f1_micro"),
    (BATCH, "acc@1", "acc_1"),
    (BATCH, "//a//b//", "a/b"),
    (BATCH, "_private_", "private"),
    (BATCH, "größe", "größe"),
    (BATCH, "损失", "损失"),
    (BATCH, "हिन्दी हानि", "हिन्दी_हानि"),
    (BATCH, "→", "metric_26ff1079"),
    (BATCH, "%", "metric_99063bca"),
    (BATCH, "точность", "точность"),
    (BATCH, "", "metric"),
    (TRAIN, "train_acc_epoch", "acc"),
    (TRAIN, "acc_epoch", "acc"),
    (TRAIN, "epoch/train/acc", "acc"),
    (TRAIN, "acc_step", "acc_step"),
    (TRAIN, "epoch", "epoch"),
    (VAL, "val_acc", "acc"),
    (VAL, "eval_acc", "acc"),
    (VAL, "eval/acc", "acc"),
    (VAL, "valid-acc", "acc"),
    (VAL, "validation/acc", "acc"),
    (VAL, "val_acc_epoch", "acc"),
    (VAL, "acc/val", "acc"),
    (VAL, "val", "val"),
    (VAL, "value", "value"),
    (VAL, "valeur", "valeur"),
    (VAL, "evaluator_acc", "evaluator_acc"),
    (VAL, "train_acc", "train_acc"),
    (VAL, "test_acc", "test_acc"),
    (TEST, "test_acc", "acc"),
    (TEST, "val_acc", "val_acc"),
    (Where("epoch", "predict"), "predict/entropy", "entropy"),
]


@pytest.mark.parametrize(("where", "name", "short"), NAMES)
def test_canonical_name_drops_tier_and_split(where: Where, name: str, short: str) -> None:
    assert canonical(name, where) == short
    assert canonical(short, where) == short, "a canonical name stays as it is"
    assert sanitize(short) == short
    assert re.fullmatch(r"([A-Za-z0-9_]|[^\x00-\x7f])+(/([A-Za-z0-9_]|[^\x00-\x7f])+)*", short)


@pytest.mark.parametrize("name", ["time_per_step", "steps_per_epoch", "train/time_per_step", "global_step"])
def test_names_that_lightning_forks_become_one(name: str) -> None:
    assert canonical(f"{name}_step", BATCH) == canonical(f"{name}_epoch", TRAIN) == name.removeprefix("train/")


def test_non_ascii_letter_does_not_end_a_word() -> None:
    assert canonical("valéur", VAL) == "valéur"


def test_key_is_the_canonical_name_below_its_event() -> None:
    names = Names()
    assert names.resolve(["train_acc"], BATCH) == {"train_acc": "batch/acc"}
    assert names.resolve(["val_acc"], VAL) == {"val_acc": "epoch/val/acc"}
    assert names.resolve(["val_acc"], Where("epoch", "val", "hard")) == {"val_acc": "epoch/val/hard/acc"}
    assert names.renames == {"train_acc": "batch/acc", "val_acc": ["epoch/val/acc", "epoch/val/hard/acc"]}
    assert names.notices() == []


def test_name_kept_below_its_tier_is_no_rename() -> None:
    names = Names()
    names.resolve(["acc", "rewards/format"], BATCH)
    assert names.renames == {}


def test_measured_key_wins_and_the_logged_name_keeps_its_own() -> None:
    names = Names()
    names.claim(["batch/step", "batch/loss"])
    found = names.resolve(["train_loss", "Loss", "step", "acc"], BATCH)
    assert found == {
        "train_loss": "batch/train_loss",
        "Loss": "batch/Loss_logged",
        "step": "batch/step_logged",
        "acc": "batch/acc",
    }
    notices = names.notices()
    assert [sum(key in line for line in notices) for key in ("'train_loss'", "'Loss'", "'step'")] == [1, 1, 1]
    assert "batch/train_loss" in " ".join(notices)
    names.resolve(["train_loss", "step"], BATCH)
    assert names.notices() == []


def test_logged_name_gives_up_a_key_that_is_measured_later() -> None:
    names = Names()
    assert names.resolve(["train_loss"], BATCH) == {"train_loss": "batch/loss"}
    names.claim(["batch/loss"])
    names.claim(["batch/loss"])
    assert names.resolve(["train_loss"], BATCH) == {"train_loss": "batch/train_loss"}
    assert len(names.notices()) == 1


CLASHES = [
    ({"acc": "batch/acc", "train/acc": "batch/train/acc"}),
    ({"train_acc": "batch/train_acc", "train/acc": "batch/train/acc", "acc_step": "batch/acc_step"}),
    ({"acc": "batch/acc", "train_acc": "batch/train_acc", "train/train/acc": "batch/train/train/acc"}),
    ({"acc": "batch/acc", "Acc": "batch/Acc_14723663", "ACC": "batch/ACC_ba983209"}),
    ({"a b": "batch/a_b_806c5cd3", "a-b": "batch/a_b_35c2229e", "a_b": "batch/a_b"}),
    ({"loss": "batch/loss_logged_de211109", "loss_logged": "batch/loss_logged", "train_loss": "batch/train_loss"}),
]


@pytest.mark.parametrize("clash", CLASHES, ids=lambda clash: ", ".join(clash))
def test_colliding_names_get_the_same_keys_in_any_order(clash: dict[str, str]) -> None:
    for order in itertools.permutations(clash):
        names, notices = Names(), []
        for name in order:
            names.resolve([name], BATCH)
            notices += names.notices()
        names.claim(["batch/loss"])
        notices += names.notices()
        assert names.resolve(clash, BATCH) == clash
        assert len({key.lower() for key in clash.values()}) == len(clash)
        assert len(notices) == len(set(notices)), "one notice each"
        assert "acc" not in clash or "Several logged names map to 'batch/" in notices[0]


def test_names_of_two_events_that_collide_are_kept_apart() -> None:
    names = Names()
    names.resolve(["acc"], Where("epoch", "val", "hard"))
    keys = names.resolve(["hard/acc"], VAL) | names.resolve(["acc"], Where("epoch", "val", "hard"))
    assert len({key.lower() for key in keys.values()}) == 2


def test_keep_leaves_names_unchanged_below_the_tier() -> None:
    names = Names("keep")
    names.claim(["batch/loss"])
    found = names.resolve(["train/acc", "acc_step", "top 5 %", "loss"], BATCH)
    assert list(found.values()) == ["batch/train/acc", "batch/acc_step", "batch/top 5 %", "batch/loss_logged"]


@pytest.mark.parametrize("synonyms", [{"acc": "accuracy"}, {"train_acc": "accuracy"}])
def test_synonym_replaces_the_canonical_or_the_logged_name(synonyms: dict[str, str]) -> None:
    names = Names(synonyms=synonyms)
    assert names.resolve(["train_acc"], BATCH) == {"train_acc": "batch/accuracy"}
    assert names.renames == {"train_acc": "batch/accuracy"}


def test_synonym_is_made_a_valid_key() -> None:
    assert Names(synonyms={"acc": "top 1 %"}).resolve(["acc"], BATCH) == {"acc": "batch/top_1"}


def test_strict_accepts_names_of_the_schema_and_the_settings() -> None:
    names = Names("strict", {"acc": "accuracy"})
    names.claim(["batch/loss"])
    keys = names.resolve(["train_acc", "loss"], BATCH) | names.resolve(["val_loss", "accuracy"], VAL)
    assert list(keys.values()) == ["batch/accuracy", "batch/loss_logged", "epoch/val/loss", "epoch/val/accuracy"]


def test_strict_rejects_an_unknown_name_every_time() -> None:
    names = Names("strict", {"acc": "accuracy"})
    for _ in range(2):
        with pytest.raises(SchemaError, match=r"'train_accu'.*synonyms.*did you mean '(acc|accuracy)'"):
            names.resolve(["train_accu"], BATCH)


@pytest.mark.parametrize("order", [("acc", "train_acc"), ("train_acc", "acc")])
def test_strict_rejects_two_names_for_one_key(order: tuple[str, str]) -> None:
    names = Names("strict", {"acc": "acc"})
    names.resolve(order[:1], BATCH)
    with pytest.raises(SchemaError, match="'acc' and 'train_acc' must not have the same key, 'batch/acc'"):
        names.resolve(order[1:], BATCH)
    assert names.resolve(order[:1], BATCH) == {order[0]: "batch/acc"}
