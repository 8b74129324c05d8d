"""Collections have names that W&B takes."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackkit.checkpoints.naming import check_template, collection


@given(st.text(min_size=1, max_size=200), st.text(max_size=40))
def test_every_name_is_one_that_wandb_takes(name: str, series: str) -> None:
    found = collection(None, {"name": name, "series": series})
    assert re.fullmatch(r"[A-Za-z0-9_.-]{1,128}", found), found
    assert collection(None, {"name": name, "series": series}) == found


@pytest.mark.parametrize(
    ("template", "values", "expected"),
    [
        (None, {"name": "resnet-1"}, "model-resnet-1"),
        (None, {"name": "my run, 2nd"}, "model-my-run-2nd"),
        (None, {"name": "resnet", "series": "val_loss"}, "model-resnet-val_loss"),
        (None, {"name": "resnet", "series": "val/loss"}, "model-resnet-val-loss"),
        ("{group}-weights", {"name": "a", "group": "sweep"}, "sweep-weights"),
        ("{series}.{name}", {"name": "a", "series": "acc"}, "acc.a"),
    ],
)
def test_names_are_readable(template: str | None, values: dict[str, str], expected: str) -> None:
    assert collection(template, values) == expected


def test_names_that_lose_letters_still_differ() -> None:
    names = ["größe", "grüße", "模型", "模", "x" * 200, "x" * 201]
    found = [collection(None, {"name": name}) for name in names]
    assert len(set(found)) == len(names)
    assert found[0].startswith("model-gr-e-")


def test_unknown_field_is_refused() -> None:
    check_template("model-{name}-{group}")
    with pytest.raises(ValueError, match=r"unknown field \{who\}; known are \{name\}"):
        check_template("{who}")
