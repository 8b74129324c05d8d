"""`trackkit promote` moves an alias to a run's best: at once, or by the next sync; what had it before says so."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.support.processes import ROOT
from tests.support.saving import Saver
from tests.support.syncing import sync, wait_for
from tests.wandb_server import WandbServer
from tests.wandb_server.client import finish, run, start
from trackkit.checkpoints.entry import Entry
from trackkit.checkpoints.ledger import read_ledger
from trackkit.checkpoints.promotion import PromotionError, chosen
from trackkit.cli.main import app
from trackkit.reading.find_checkpoint import find_checkpoint
from trackkit.sync.promote import Promotion

pytestmark = pytest.mark.timeout(180)

SAVE = """
from pathlib import Path
from tests.support.saving import Saver
saver = Saver(Path({out!r}).absolute(), {mode!r}, run_id={out!r}, finish_timeout=10.0, **{more!r})
for step, value in enumerate({values!r}):
    saver.save(step, value, {out!r}.encode() + b"%d" % step)
    if {mode!r} == "online":
        saver.wait_for("committed", "deleted")
saver.close()
"""


def env(home: Path) -> dict[str, str]:
    return {"PYTHONPATH": str(ROOT), "TRACKKIT_INDEX": str(home / "index.jsonl")}


def save(server: WandbServer, home: Path, out: str, values: list[float], mode: str = "online", **more: object) -> None:
    run(server, home, SAVE.format(out=out, values=values, mode=mode, more=more), env(home))


def promote(server: WandbServer, home: Path, *words: str | Path, code: int = 0) -> list[str]:
    """Runs `trackkit promote`; returns the lines that it printed, or of the error."""
    process = start(server, home, ["-m", "trackkit.cli.main", "promote", *map(str, words)], env(home))
    assert process.wait() == code, process.stdout + process.stderr
    assert "Traceback" not in process.stderr, process.stderr
    return (process.stderr if code else process.stdout).splitlines()


def aliases(server: WandbServer) -> dict[str, str]:
    return server.state.collection("model-toy").aliases


def entries(home: Path, out: str) -> list[Entry]:
    return read_ledger(home / out / "_trackkit" / out)


def was(server: WandbServer, version: str) -> list[str]:
    found = server.state.collection("model-toy").find(version)
    assert found is not None
    notes: list[str] = found.metadata.get("was", [])
    return notes


def test_alias_moves_at_once_between_the_runs_of_a_collection(wandb_server: WandbServer, tmp_path: Path) -> None:
    today = time.strftime("%Y-%m-%d")
    save(wandb_server, tmp_path, "a", [3.0, 1.0, 2.0], keep=1)
    assert promote(wandb_server, tmp_path, "a", "production") == ["production: model-toy:v1 (step 1, val_loss 1)"]
    assert aliases(wandb_server)["production"] == "v1"
    assert promote(wandb_server, tmp_path, "a", "production", "--checkpoint", "latest") == [
        "production: model-toy:v2 (step 2, val_loss 2)",
        "before: model-toy:v1",
    ]
    assert was(wandb_server, "v1") == [f"production until {today}, then model-toy:v2"]
    assert [each.promoted for each in entries(tmp_path, "a")] == [(), (), ("production",)]
    save(wandb_server, tmp_path, "b", [0.5])
    assert promote(wandb_server, tmp_path, tmp_path / "b", "production") == [
        "production: model-toy:v3 (step 0, val_loss 0.5)",
        "before: model-toy:v2",
    ]
    assert [each.promoted for each in entries(tmp_path, "a")] == [(), (), ()]
    assert entries(tmp_path, "a")[2].was == (f"production until {today}, then model-toy:v3",)
    assert was(wandb_server, "v2") == [f"production until {today}, then model-toy:v3"]
    # Back and forth.
    assert promote(wandb_server, tmp_path, "a", "production")[1] == "before: model-toy:v3"
    assert aliases(wandb_server)["production"] == "v1"
    assert promote(wandb_server, tmp_path, "b", "production")[1] == "before: model-toy:v1"
    # Neither run's sync moves it back; what is promoted stays beyond retention.
    sync(wandb_server, tmp_path, tmp_path / "a", tmp_path / "b", TRACKKIT_INDEX=str(tmp_path / "index.jsonl"))
    assert aliases(wandb_server)["production"] == "v3"
    save(wandb_server, tmp_path, "b", [0.4, 0.3, 0.2, 0.1], keep=1)
    assert aliases(wandb_server)["production"] == "v3"
    assert wandb_server.state.unserved == []
    shown = CliRunner().invoke(app, ["checkpoints", str(tmp_path / "a")]).stdout
    assert f"production until {today}, then model-toy:v3" in shown
    # Offline; the syncs of both runs note it, in any order.
    wandb_server.faults.set("http_500")
    promote(wandb_server, tmp_path, "b", "production", "--checkpoint", "latest")
    promote(wandb_server, tmp_path, "a", "production")
    wandb_server.faults.clear()
    sync(wandb_server, tmp_path, tmp_path / "b", TRACKKIT_INDEX=str(tmp_path / "index.jsonl"))
    sync(wandb_server, tmp_path, tmp_path / "a", TRACKKIT_INDEX=str(tmp_path / "index.jsonl"))
    assert aliases(wandb_server)["production"] == "v1"
    assert was(wandb_server, "v3").count(f"production until {today}, then model-toy:v1") == 1


def test_promotion_of_an_offline_run_waits_for_the_sync(wandb_server: WandbServer, tmp_path: Path) -> None:
    save(wandb_server, tmp_path, "a", [3.0, 1.0, 2.0], "offline", keep=1)
    waits = f"This waits for `trackkit sync {tmp_path}/a/_trackkit/a`: the checkpoint is not uploaded yet."
    assert promote(wandb_server, tmp_path, "a", "staging") == [
        "staging: model-toy step-1 (val_loss 1)",
        waits,
    ]
    link = "wandb-registry-model/resnet"
    assert promote(wandb_server, tmp_path, "a", "production", "--registry", link)[-1] == waits
    assert wandb_server.state.requests == []
    shown = CliRunner().invoke(app, ["checkpoints", str(tmp_path / "a")]).stdout.splitlines()
    assert "staging waits for `trackkit sync`: step 1" in shown
    assert f"{link}:production waits for `trackkit sync`: step 1" in shown
    wandb_server.faults.deny("LinkArtifact")
    printed = sync(wandb_server, tmp_path, tmp_path / "a", code=1)
    assert f"W&B refused the promotion to '{link}:production'" in printed
    assert "a: staging: model-toy:v1" in printed
    wandb_server.faults.clear()
    printed = sync(wandb_server, tmp_path, tmp_path / "a")
    assert f"a: {link}:production: model-toy:v1" in printed
    best = wandb_server.state.collection("model-toy").find("best")
    assert best is not None
    assert {"staging", "best"} <= set(best.aliases)
    linked = wandb_server.state.portfolios["test-team-org", "wandb-registry-model", "resnet"]
    assert linked.aliases["production"] == best.id
    # The next one while the server does not answer.
    wandb_server.faults.set("http_500")
    lines = promote(wandb_server, tmp_path, "a", "staging", "--checkpoint", "step-2")
    assert lines[1] == f"before: model-toy:{best.name}"
    assert "This waits for `trackkit sync" in lines[2]
    assert "does not answer" in lines[2]
    wandb_server.faults.clear()
    assert "staging" in best.aliases
    sync(wandb_server, tmp_path, tmp_path / "a")
    assert aliases(wandb_server)["staging"] == aliases(wandb_server)["latest"] != best.name
    assert was(wandb_server, "best")[0].startswith("staging until 20")


def test_link_moves_in_the_registry(wandb_server: WandbServer, tmp_path: Path) -> None:
    """First by the setting `promote`, through the live run, then by the command."""
    registry = "wandb-registry-model/resnet"
    save(wandb_server, tmp_path, "a", [3.0, 1.0], promote={"registry": registry, "alias": "staging"})
    linked = wandb_server.state.portfolios["test-team-org", "wandb-registry-model", "resnet"]
    collection = wandb_server.state.collection("model-toy")
    assert linked.aliases["staging"] == collection.versions[1].id
    save(wandb_server, tmp_path, "b", [4.0])
    assert promote(wandb_server, tmp_path, "b", "staging", "--registry", registry) == [
        f"{registry}:staging: model-toy:v2 (step 0, val_loss 4)",
        "before: model-toy:v1",
    ]
    assert linked.aliases["staging"] == collection.versions[2].id
    assert was(wandb_server, "v1") == [f"{registry}:staging until {time.strftime('%Y-%m-%d')}, then model-toy:v2"]
    assert [each.links for each in entries(tmp_path, "a")] == [(), ()]
    # And back.
    promote(wandb_server, tmp_path, "a", "staging", "--registry", registry)
    assert linked.aliases["staging"] == collection.versions[1].id
    assert wandb_server.state.unserved == []


def test_run_on_the_server_alone(wandb_server: WandbServer, tmp_path: Path) -> None:
    save(wandb_server, tmp_path, "a", [3.0, 1.0, 2.0])
    metadata = dict(wandb_server.state.collection("model-toy").versions[1].metadata)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert promote(wandb_server, elsewhere, "test-team/p/a", "production") == [
        "production: model-toy:v1 (step 1, val_loss 1)"
    ]
    assert wandb_server.state.collection("model-toy").versions[1].metadata == metadata
    assert promote(wandb_server, elsewhere, "test-team/p/a", "production", "--checkpoint", "step-0") == [
        "production: model-toy:v0 (step 0, val_loss 3)",
        "before: model-toy:v1",
    ]
    assert aliases(wandb_server)["production"] == "v0"
    assert was(wandb_server, "v1")[0].endswith(", then model-toy:v0")
    (line,) = promote(wandb_server, elsewhere, "test-team/p/nothing", "production", code=1)
    assert "'test-team/p/nothing' is neither a folder nor a run on http" in line


def test_run_that_is_still_being_written(wandb_server: WandbServer, tmp_path: Path) -> None:
    """Its own process writes its ledger: the alias is set on the server, and protects the version."""
    code = SAVE.format(out="a", values=[3.0, 1.0], mode="online", more={"keep": 1}).replace(
        "saver.close()",
        """
import time
Path("saved").touch()
while not Path("go").exists():
    time.sleep(0.05)
for step, value in enumerate([0.5, 0.4, 0.3], 2):
    saver.save(step, value)
    saver.wait_for("committed", "deleted")
saver.close()
""",
    )
    process = start(wandb_server, tmp_path, code, env(tmp_path))
    wait_for((tmp_path / "saved").exists)
    assert promote(wandb_server, tmp_path, "a", "production") == ["production: model-toy:v1 (step 1, val_loss 1)"]
    (tmp_path / "go").touch()
    finish(process)
    assert aliases(wandb_server)["production"] == "v1"
    assert [each.name for each in wandb_server.state.collection("model-toy").live] == ["v1", "v3", "v4"]
    assert entries(tmp_path, "a")[1].aliases == ("step-1", "production")
    promoted = find_checkpoint(f"{tmp_path}/a/_trackkit/a:production").entry
    assert promoted is not None
    assert promoted.step == 1


@pytest.mark.parametrize("alias", ["best", "latest", "was-best", "step-3", "v7", "a/b", " "])
def test_aliases_of_trackkit_and_wandb_are_refused(wandb_server: WandbServer, tmp_path: Path, alias: str) -> None:
    (line,) = promote(wandb_server, tmp_path, "a", alias, code=1)
    assert ("is set by TrackKit or W&B itself" in line) == (alias not in ("a/b", " "))


def test_runs_without_a_best_are_errors(wandb_server: WandbServer, tmp_path: Path) -> None:
    assert "no run 'a'" in promote(wandb_server, tmp_path, "a", "production", code=1)[0]
    run = Saver(tmp_path / "a", run_id="a", sinks=[])
    run.save(1)
    run.close()
    (line,) = promote(wandb_server, tmp_path, tmp_path / "a", "production", code=1)
    assert line == "error: the run has no best checkpoint: none has a monitored value. Name one: --checkpoint latest"
    empty = Saver(tmp_path / "b", run_id="b", upload="none")
    empty.save(1, 0.5)
    empty.close()
    assert (
        "no checkpoint that was or can be uploaded" in promote(wandb_server, tmp_path, tmp_path / "b", "x", code=1)[0]
    )


def test_unknown_checkpoint_is_an_error() -> None:
    entries = [Entry(n, "/a", step=n, state="committed", collection="model") for n in (1, 2)]
    assert [each.number for each in chosen(entries, "latest")] == [2]
    with pytest.raises(PromotionError, match=r"no checkpoint 'step-9'"):
        chosen(entries, "step-9")
    entries += [Entry(n, "/a", step=n, state="committed", collection="other") for n in (3, 4)]
    assert [each.number for each in chosen(entries, "latest")] == [2, 4]
    assert [each.number for each in chosen(entries, "other:latest")] == [4]
    with pytest.raises(PromotionError, match="no collection 'othre'; did you mean 'other'"):
        chosen(entries, "othre:latest")
    with pytest.raises(PromotionError, match="give --checkpoint model:latest or --checkpoint other:latest"):
        Promotion("production", "wandb-registry-model/resnet", "latest").chosen(entries)
