"""`trackkit ls`: the table, its columns, groups, the bill, and wrong words."""

from __future__ import annotations

import csv
import io
import json
import statistics
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.support.local_log import write_run
from trackkit.cli.main import app
from trackkit.local_log import index

ACCURACIES = {("a", 0.1): 0.5, ("b", 0.1): 0.75, ("c", 0.2): 0.875}


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Two seeds of one learning rate, one of another, and a damaged run."""
    for number, ((name, lr), acc) in enumerate(ACCURACIES.items()):
        config = {"hparams/lr": lr, "trackkit/settings/project": "p", "git/commit": "abcdef012345", "git/dirty": True}
        best = {"final/best/val/acc": acc, "final/best/val/acc_step": 3, "final/steps": 10}
        bill = {"final/cost_usd": 10.0 ** (number + 1), "final/gpu_hours": number + 1.0, "final/duration_h": 2.0}
        write_run(tmp_path / name, name, config, best | bill, started=100.0 - number)
    write_run(tmp_path / "d", "d", format=99)
    return tmp_path


def ls(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["ls", *map(str, words)])


def cells(done: Result) -> list[list[str]]:
    assert done.exit_code == 0, done.output
    return [line.split() for line in done.stdout.splitlines()]


def test_table_shows_every_run_and_damaged_ones_as_such(sweep: Path) -> None:
    heading, *rows = cells(ls(sweep))
    assert heading == ["name", "id", "status", "age", "duration", "steps", "best", "commit"]
    assert rows[0][:3] == ["name-a", "a", "finished"]
    assert rows[0][-4:] == ["10", "val/acc", "0.5", "abcdef0*"]
    assert [row[1] for row in rows[:3]] == ["a", "b", "c"]
    assert rows[3] == ["-", "d", "damaged", "-", "-", "7", "-", "-"]
    assert " ".join(rows[4][:6]) == "d is damaged: the run in"


def test_runs_are_filtered_sorted_and_limited(sweep: Path) -> None:
    done = ls(sweep, "--where", "status == 'finished'", "--sort", "-best", "--columns", "id", "--limit", "2")
    assert cells(done) == [["id"], ["c"], ["b"], ["2", "of", "3", "runs."]]


def test_columns_are_derived(sweep: Path) -> None:
    columns = "id, acc_per_usd = final/best/val/acc / final/cost_usd, odd = id in ['a', 'b']"
    done = ls(sweep, "--where", "best > 0.6", "--columns", columns)
    assert cells(done) == [["id", "acc_per_usd", "odd"], ["b", "0.0075", "yes"], ["c", "0.000875", "no"]]


def test_json_and_csv_have_whole_values(sweep: Path) -> None:
    lines = json.loads(ls(sweep, "--json").stdout)
    assert [line["id"] for line in lines] == ["a", "b", "c", "d"]
    assert (lines[0]["hparams/lr"], lines[0]["final/cost_usd"], lines[3]["status"]) == (0.1, 10.0, "damaged")
    rows = list(csv.DictReader(io.StringIO(ls(sweep, "--csv", "--columns", "id,hparams/lr,tags").stdout)))
    assert rows[2] == {"id": "c", "hparams/lr": "0.2", "tags": "[]"}
    rows = list(csv.DictReader(io.StringIO(ls(sweep, "--csv").stdout)))
    assert (rows[0]["best"], rows[0]["best_key"], rows[0]["duration_h"]) == ("0.5", "final/best/val/acc", "2.0")
    assert (rows[3]["status"], rows[3]["best"]) == ("damaged", "")


def test_columns_of_a_prefix_are_shown_and_keys_that_no_expression_can_name(tmp_path: Path) -> None:
    write_run(tmp_path, "a", {"hparams/lr": 0.5, "hparams/batch size": 8, "model/x": 1})
    assert cells(ls(tmp_path, "--columns", "hparams/*, hparams/lr * 2")) == [
        ["hparams/batch", "size", "hparams/lr", "hparams/lr", "*", "2"],
        ["8", "0.5", "1"],
    ]


def test_hostile_names_stay_on_their_line(tmp_path: Path) -> None:
    write_run(tmp_path, "a", name="[red]a\x1b]0;x\x07\nb\ud800", started=2.0)
    assert ls(tmp_path).stdout.splitlines()[1].startswith("[red]a ]0;x  b   a   finished")
    assert ls(tmp_path, "--csv").exit_code == ls(tmp_path, "--json").exit_code == 0


def test_groups_have_number_mean_deviation_and_best(sweep: Path) -> None:
    words = (sweep, "--where", "best > 0", "--group-by", "hparams/lr")
    first, second = json.loads(ls(*words, "--json").stdout)
    key = "final/best/val/acc"
    assert (first["hparams/lr"], first["n"], first[key], first[f"{key} best"]) == (0.1, 2, 0.625, 0.75)
    assert first[f"{key} sd"] == pytest.approx(statistics.stdev([0.5, 0.75]))
    assert (second["n"], second[key], second[f"{key} n"], second[f"{key} sd"]) == (1, 0.875, 1, None)
    shown = ls(*words, "--sort", f"-{key} best").stdout.splitlines()
    assert shown[0] == "hparams/lr  n  val/acc mean ± sd  best val/acc"
    assert [line.split() for line in shown[1:]] == [
        ["0.2", "1", "0.875", "0.875"],
        ["0.1", "2", "0.625", "±", "0.18", "0.75"],
    ]


def test_group_says_how_many_of_its_runs_have_a_value(sweep: Path) -> None:
    everything = ls(sweep, "--group-by", "tags", "--columns", "best,steps").stdout.splitlines()
    assert [text.strip() for text in everything[0].split("  ")][-3:] == [
        "val/acc mean ± sd",
        "best val/acc",
        "steps mean ± sd",
    ]
    assert "0.7083 ± 0.19 (of 3)" in everything[1]


def test_bill_names_the_runs_that_took_most_of_the_budget(sweep: Path) -> None:
    done = ls(sweep, "--group-by", "project", "--columns", "cost")
    heading, first, *_ = done.stdout.splitlines()
    assert heading.split() == ["project", "n", "hours", "GPU", "h", "USD", "best", "metric", "USD", "per", "point"]
    assert first.split() == ["p", "3", "6", "6", "1110", "0.875", "val/acc", "1269"]
    assert "1 of 4 runs took 80% of the budget, 1110 USD:\n   90.1%  c  name-c\n" in done.stdout
    row = json.loads(ls(sweep, "--group-by", "project", "--columns", "cost", "--json").stdout)[0]
    assert (row["n"], row["duration_h"], row["gpu_hours"], row["energy_kWh"], row["cost"]) == (
        3,
        6.0,
        6.0,
        None,
        1110.0,
    )
    assert row["cost_per_point"] == pytest.approx(1110 / 0.875)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--where", "lr > 1"], 2, "unknown key 'lr'; did you mean 'hparams/lr'?"),
        (["--where", "id =="], 2, "is no expression"),
        (["--where", "status = 'x'"], 2, "'=' does not compare, '==' does"),
        (["--where", "steps/2 > 1"], 2, "To divide, write spaces around the '/': 'steps / 2'"),
        (["--columns", "x = nothing"], 2, "unknown key 'nothing'"),
        (["--sort", "bset"], 2, "did you mean 'best'?"),
        (["--group-by", "tgas"], 2, "did you mean 'tags'?"),
        (["--group-by", "tag", "--sort", "m"], 2, "groups can't be sorted by 'm'; known: "),
        (["--limit", "-1"], 2, "--limit"),
        (["nothing"], 1, "no run 'nothing': it is neither a folder, nor an id or a group in your list of runs"),
        (["--json", "--csv"], 2, "not both"),
    ],
)
def test_wrong_words_are_answered_clearly(sweep: Path, words: list[str], code: int, said: str) -> None:
    done = ls(sweep, *words)
    assert (done.exit_code, said in done.stderr, "Traceback" in done.stderr) == (code, True, False), done.stderr


def test_filter_that_matches_no_run_is_said(sweep: Path) -> None:
    done = ls(sweep, "--where", "best > 5", "--json")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "[]\n", "None of 4 runs matches 'best > 5'.\n")
    assert (ls(sweep, "--where", "best > 5").stdout, ls(sweep, "--where", "best > 5", "--csv").stdout[:8]) == (
        "",
        "name,id,",
    )


def test_no_runs_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKKIT_INDEX", str(tmp_path / "index.jsonl"))
    assert "No runs yet" in ls().stderr
    assert ls().exit_code == 1


def test_group_of_the_user_is_listed_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKKIT_INDEX", str(tmp_path / "index.jsonl"))
    for run_id, group in (("a", "baseline"), ("b", "baseline"), ("c", "other")):
        index.remember(write_run(tmp_path / run_id, run_id, {"trackkit/settings/group": group}), run_id, "p", "offline")
    assert [line[0] for line in cells(ls("baseline", "--columns", "id"))] == ["id", "a", "b"]
    assert "did you mean 'baseline'?" in ls("baselin").stderr


def test_numbers_that_no_float_holds_cost_only_themselves(tmp_path: Path) -> None:
    for number, value in enumerate([1e308, 1.2e308, 10**400, 10**308]):
        best = {"final/best/val/loss": value, "final/best/val/loss_step": 1, "final/duration_h": value}
        config = {"hparams/lr": value, "trackkit/settings/group": "g", "hparams/nan": float("nan")}
        write_run(tmp_path / str(number), f"r{number}", config, {**best, "final/cost_usd": value, "final/steps": value})
    for words in ([], ["--group-by", "group"], ["--group-by", "group", "--columns", "cost"], ["--json"], ["--csv"]):
        assert ls(tmp_path, *words).exit_code == 0, words
    assert (
        "3 of 4 runs took 80% of the budget, inf USD" in ls(tmp_path, "--group-by", "group", "--columns", "cost").stdout
    )
    assert max(map(len, ls(tmp_path).stdout.splitlines())) < 200
    (grouped,) = json.loads(ls(tmp_path, "--group-by", "group", "--columns", "best", "--json").stdout)
    assert grouped["n"] == 4
    assert grouped["final/best/val/loss n"] == 3
    assert grouped["final/best/val/loss"] == pytest.approx(3.2 / 3 * 1e308)
    assert len(json.loads(ls(tmp_path, "--group-by", "hparams/nan", "--json").stdout)) == 1


def test_damaged_run_is_named_on_one_line(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a\nb\x1b[2J", "a")
    (folder / "summary.json").write_text("{")
    said = ls(tmp_path).stdout.splitlines()
    assert len(said) == 3
    assert said[-1].startswith("a is damaged: summary.json of ")
    assert "\x1b" not in said[-1]
