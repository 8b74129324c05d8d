"""Filters and derived columns: what they compute, and what they refuse."""

from __future__ import annotations

import pytest

from trackkit.reading.expression import Expression, ExpressionError

FIELDS = {
    "hparams/lr": 1e-3,
    "status": "finished",
    "final/best/val/acc": 0.9,
    "final/cost_usd": 2.0,
    "tags": ["sweep", "x"],
    "env/scikit-learn": "1.2",
    "batch/损失": 3,
    "group": None,
}
KNOWN = {*FIELDS, "final/best/val/acc_step", "name"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("hparams/lr > 1e-4 and status == 'finished'", True),
        ("hparams/lr>1e-4", True),
        ("1e-4 < hparams/lr < 1", True),
        ("'sweep' in tags and not 'y' in tags", True),
        ("status in ['failed', 'stopped']", False),
        ("final/best/val/acc / final/cost_usd", 0.45),
        ("(final/best/val/acc - 0.5) * 2", 0.8),
        ("-hparams/lr", -1e-3),
        ("env/scikit-learn == '1.2'", True),
        ("batch/损失 % 2", 1),
        ("group is None", True),
        ('status == "a/b"', False),
    ],
)
def test_expression_has_the_value_that_python_gives(text: str, value: object) -> None:
    assert Expression(text, KNOWN)(FIELDS) == pytest.approx(value)


@pytest.mark.parametrize("text", ["final/best/val/acc_step > 3", "not final/best/val/acc_step > 3", "status > 3"])
def test_missing_key_and_unfit_types_match_neither_way(text: str) -> None:
    assert Expression(text, KNOWN)(FIELDS) is None


def test_other_side_of_an_or_matches_where_a_key_is_missing() -> None:
    assert Expression("final/best/val/acc_step > 3 or status == 'finished'", KNOWN)(FIELDS) is True


def test_division_by_zero_has_no_value() -> None:
    assert Expression("hparams/lr / 0", KNOWN)(FIELDS) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lr > 1", "unknown key 'lr'; did you mean 'hparams/lr'?"),
        ("hparams/lrr > 1", "did you mean 'hparams/lr'?"),
        ("final/best/val/acc/final/cost_usd", "write spaces around the '/': 'final/best/val/acc / final/cost_usd'"),
        ("qqqq > 1", "unknown key 'qqqq'"),
        ("status ==", "is no expression"),
        ("", "is no expression"),
        ("x" * 3000, "at most 2000 characters; got 3000"),
    ],
)
def test_mistake_is_named_with_its_remedy(text: str, said: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        Expression(text, KNOWN)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "status.__class__",
        "status[0]",
        "(lambda: 1)()",
        "[name for name in tags]",
        "f'{status}'",
        "hparams/lr ** 99",
        "1 if group else 2",
        "(name := 3)",
        "open('/etc/passwd')",
        "(" * 300 + "1" + ")" * 300,
        "not " * 300 + "1",
        "\x00",
        "{1: 2}",
        "b'x'",
        "1j",
        "...",
        "*tags",
    ],
)
def test_everything_that_is_not_on_the_list_is_refused(text: str) -> None:
    with pytest.raises(ExpressionError):
        Expression(text, KNOWN)


def test_texts_are_not_repeated() -> None:
    assert Expression("status * 99999999", KNOWN)(FIELDS) is None


def test_integers_do_not_grow_without_end() -> None:
    assert Expression(" * ".join(["9" * 300] * 6), KNOWN)(FIELDS) is None
