"""Aliases and retention are functions of the ledger: the same whatever was uploaded when."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackkit.checkpoints.aliases import best, wanted
from trackkit.checkpoints.entry import Entry, State
from trackkit.checkpoints.naming import is_ours
from trackkit.checkpoints.retention import DAY_S, expendable

VALUES = st.one_of(st.none(), st.sampled_from([math.nan, math.inf, -math.inf, 0.0, 1.0, 2.0, 3.0]))


def entry(number: int, value: float | None = None, **fields: object) -> Entry:
    given = {"metric": "val_loss", "goal": "min", "state": "committed", "collection": "model", **fields}
    return Entry(number, f"/saves/{number}.ckpt", step=number, value=value, **given)  # type: ignore[arg-type]


@st.composite
def ledgers(draw: st.DrawFn) -> list[Entry]:
    """Draws the entries of a run: of one or two collections, in any states."""
    goal = draw(st.sampled_from(["min", "max"]))
    return [
        entry(
            number,
            draw(VALUES),
            goal=goal,
            state=draw(st.sampled_from(get_args(State))),
            collection=draw(st.sampled_from(["model", "model-acc"])),
            complete=draw(st.booleans()),
            promoted=draw(st.sampled_from([(), (), ("staging",)])),
            time=float(number),
        )
        for number in range(1, draw(st.integers(0, 12)) + 1)
    ]


@given(ledgers(), st.randoms())
def test_aliases_depend_on_the_ledger_alone(entries: list[Entry], chance: random.Random) -> None:
    found = wanted(entries)
    shuffled = chance.sample(entries, len(entries))
    assert wanted(shuffled) == found
    present = {each.number: each for each in entries if each.is_present}
    assert found.keys() == present.keys()
    for collection in {each.collection for each in present.values()}:
        own = {number: each for number, each in present.items() if each.collection == collection}
        held = [alias for number in own for alias in found[number]]
        assert len(held) == len(set(held)), "an alias is on one version of a collection"
        assert "latest" in found[max(own)]
        values = [each.value for each in own.values() if each.value is not None and not math.isnan(each.value)]
        holders = [number for number in own if "best" in found[number]]
        extreme = min if next(iter(own.values())).goal == "min" else max
        assert [own[number].value for number in holders] == ([extreme(values)] if values else [])
        before = [number for number in own if "was-best" in found[number]]
        assert all(number < holders[0] and own[number].value != own[holders[0]].value for number in before)


@given(ledgers(), st.integers(1, 4), st.sampled_from([None, 2 / DAY_S]))
def test_retention_leaves_the_newest_and_what_has_a_name(
    entries: list[Entry], keep: int, keep_days: float | None
) -> None:
    now = float(len(entries))
    gone = {each.number for each in expendable(entries, keep, keep_days, now)}
    left = [each for each in entries if each.number not in gone]
    names = wanted(entries)
    for collection in {each.collection for each in entries}:
        own = [each for each in entries if each.is_present and each.collection == collection]
        assert not gone & {each.number for each in own[-keep:]}
        for each in own[:-keep]:
            named = any(not alias.startswith("step-") for alias in names[each.number]) or each.promoted
            recent = keep_days is not None and now - each.time < 2
            assert (each.number in gone) == (not named and not recent)
    assert not gone & {each.number for each in entries if not each.is_present}
    # Deleting changes no name, and is done at once.
    kept = {number: alias for number, alias in names.items() if number not in gone}
    assert wanted(left) == kept
    assert expendable(left, keep, keep_days, now) == []


def test_thousand_saves_leave_the_kept_and_the_protected() -> None:
    entries = [entry(number, abs(number - 300.5)) for number in range(1, 1001)]
    gone = expendable(entries, 3)
    left = [each.number for each in entries if each not in gone]
    assert left == [299, 300, 998, 999, 1000]
    names = wanted(entries)
    assert (names[300], names[299], names[1000]) == (
        ("best", "step-300"),
        ("was-best", "step-299"),
        ("latest", "step-1000"),
    )


def test_nan_is_never_best_and_of_equal_ones_the_first_is() -> None:
    values = [math.nan, 2.0, 2.0, None, math.nan]
    names = wanted([entry(number, value) for number, value in enumerate(values, 1)])
    assert [number for number, aliases in names.items() if "best" in aliases] == [2]
    assert wanted([entry(1, math.nan)]) == {1: ("latest", "step-1")}


def test_values_of_another_metric_are_not_compared() -> None:
    entries = [entry(1, 0.1), entry(2, 0.9, metric="val_acc", goal="max"), entry(3, 0.8, metric="val_acc", goal="max")]
    assert "best" in wanted(entries)[2]
    assert [each.number for each in best(entries)] == [2]


def test_lost_best_gives_way_to_the_best_that_is_left() -> None:
    entries = [entry(1, 3.0), entry(2, 2.0), entry(3, 1.0), entry(4, 5.0)]
    assert wanted(entries)[2] == ("was-best", "step-2")
    entries[2] = replace(entries[2], state="lost")
    names = wanted(entries)
    assert (names[2], names[1], names.get(3)) == (("best", "step-2"), ("was-best", "step-1"), None)


@pytest.mark.parametrize("field", [{"used": True}, {"promoted": ("production",)}, {"links": ("registry/resnet",)}])
def test_used_promoted_and_linked_are_protected(field: dict[str, object]) -> None:
    entries = [entry(1, 9.0, **field), *(entry(number, 9.0 - number) for number in range(2, 8))]
    assert [each.number for each in expendable(entries, 1, held=[3])] == [2, 4, 5]


def test_step_aliases_protect_nothing() -> None:
    assert [is_ours(alias) for alias in ("step-7", "best", "latest", "was-best")] == [True] * 4
    assert [is_ours(alias) for alias in ("production", "v3", "mine")] == [False] * 3


def test_saves_of_one_step_share_its_alias() -> None:
    first, second = entry(1), replace(entry(2), step=1)
    assert wanted([first, second]) == {1: (), 2: ("latest", "step-1")}
