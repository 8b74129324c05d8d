"""What differs between two runs: configuration, code, data and environment."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from trackkit.local_log.recorded import RecordedRun
from trackkit.reading.collection import Runs

Area = Literal["config", "code", "data", "environment"]
AREAS: tuple[Area, ...] = ("config", "code", "data", "environment")

# What differs between any two runs, or says where a run is rather than what it is.
_BY_NATURE = re.compile(
    r"trackkit/(folder|renames|settings/(name|dir|notes|tags|group|resume))|git/(dirty|branch|remote)"
    r"|runtime/(command|host|output_folder|resumed_from|slurm_(job_id|job_name|array_.*|nodelist))"
    r"|trainer/(output_dir|logging_dir|default_root_dir|run_name|resume_from_checkpoint|hub_model_id)"
    r"|hparams/.*(_dir|_path|_folder|output|run_name)|model/config/(_name_or_path|transformers_version)"
)
# Settings that TrackKit records under a second name too: the first one is shown.
_TWICE = ("hparams/", "optim/", "trainer/")
_ENVIRONMENT = re.compile(r"(env|runtime|trackkit/version)(/|$)")


@dataclass(frozen=True)
class Difference:
    """One value that differs.

    Attributes:
        area: `config`, `code`, `data` or `environment`.
        name: key of the config.
        before, after: the values of the two runs; None where a run has none.
    """

    area: Area
    name: str
    before: Any
    after: Any


def differences(a: RecordedRun, b: RecordedRun) -> list[Difference]:
    """Returns what differs between two runs, by area; leaves out paths, names, hosts and other accidents."""
    found = [
        Difference(_area(key), key, a.config.get(key), b.config.get(key))
        for key in sorted(a.config.keys() | b.config.keys())
        if _differs(a.config.get(key), b.config.get(key)) and not _BY_NATURE.fullmatch(key)
    ]
    if a.config.get("git/commit") == b.config.get("git/commit"):
        dirty = [bool(run.config.get("git/dirty")) for run in (a, b)]
        if any(dirty):
            # Uncommitted changes may differ though the commit does not.
            said = ["with uncommitted changes" if each else "clean" for each in dirty]
            found.append(Difference("code", "git/dirty", *said))
    return sorted(_once(found), key=lambda each: AREAS.index(each.area))


def varying(runs: Iterable[RecordedRun]) -> list[str]:
    """Returns the keys of the configs whose values are not the same in all runs, without accidents."""
    configs = [run.config for run in runs]
    keys = sorted(set().union(*configs)) if configs else []
    return [
        key
        for key in keys
        if not _BY_NATURE.fullmatch(key)
        and any(_differs(configs[0].get(key), config.get(key)) for config in configs[1:])
    ]


def previous(run: RecordedRun, others: Runs) -> RecordedRun | None:
    """Returns the run before a run: the latest of its group that began earlier, else of its project and model."""

    def began(each: RecordedRun) -> float:
        return float(each.run.get("started", 0.0))

    earlier = [each for each in others if each.run_id != run.run_id and began(each) < began(run) and each.config]
    for keys in (("trackkit/settings/group",), ("trackkit/settings/project", "model/class")):
        wanted = [run.config.get(key) for key in keys]
        alike = [each for each in earlier if [each.config.get(key) for key in keys] == wanted]
        if alike and all(value is not None for value in wanted):
            return max(alike, key=began)
    return None


def _area(key: str) -> Area:
    if key.startswith("git/"):
        return "code"
    if key.startswith("data/"):
        return "data"
    return "environment" if _ENVIRONMENT.match(key) else "config"


def _differs(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float) and one != one and other != other:
        return False
    return bool(one != other)


def _once(found: list[Difference]) -> list[Difference]:
    """Drops a difference that repeats another under a second name: `optim/lr` beside `hparams/lr`."""
    kept: list[Difference] = []
    by_rank = sorted(found, key=lambda each: next((n for n, at in enumerate(_TWICE) if each.name.startswith(at)), 9))
    for each in by_rank:
        word = each.name.rpartition("/")[2]
        if not any(
            word == other.name.rpartition("/")[2] and (each.before, each.after) == (other.before, other.after)
            for other in kept
        ):
            kept.append(each)
    return sorted(kept, key=lambda each: each.name)
