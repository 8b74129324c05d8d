"""Runs the frameworks' own tests without and with TrackKit in every Trainer, and prints what TrackKit adds.

    python tests/frameworks/run.py [lightning transformers] [--lightning PATH] [--transformers PATH] [--only TEST ...]

PATH is a checkout, a git directory, or an unpacked source archive of the framework. Neither framework's source
distribution contains these tests, so without a PATH the tag of the installed version is cloned from GitHub. A git
directory without that tag gives the nearest older tag of the same minor version, else its newest commit.

A test is added when it passes without TrackKit and fails with it, twice: its file is run a second time both ways, and
a test whose outcome changes is listed as unsteady. The exit status is 1 if a test that is not in the table of allowed
ones (`suites.py`) is added.
"""

from __future__ import annotations

import argparse
import fnmatch
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from packaging.version import InvalidVersion, Version
from suites import SUITES, Suite

HERE = Path(__file__).resolve().parent
WORK = HERE.parent.parent / "build" / "frameworks"
TEST_TIMEOUT_S = 180
RUN_TIMEOUT_S = 5400

Outcomes = dict[str, dict[str, str]]


class NoSuite(Exception):
    """The framework's tests could not be had."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="*", help=f"of {', '.join(SUITES)}; default: all")
    for name in SUITES:
        parser.add_argument(f"--{name}", metavar="PATH", default="", help=f"where the tests of {name} lie")
    parser.add_argument("--only", nargs="+", default=[], help="files or tests of the suite, instead of all")
    parser.add_argument("-k", dest="matching", default="", help="pytest's -k: 'not ddp' leaves out the slowest")
    arguments = parser.parse_args()
    names = arguments.suites or list(SUITES)
    if unknown := set(names) - set(SUITES):
        parser.error(f"unknown suite {', '.join(unknown)}: one of {', '.join(SUITES)}")
    try:
        return max(judge(SUITES[name], getattr(arguments, name), arguments) for name in names)
    except NoSuite as error:
        print(error, file=sys.stderr)
        return 2


def judge(suite: Suite, path: str, arguments: argparse.Namespace) -> int:
    """Runs one suite both ways and prints the comparison; returns the exit status."""
    installed = importlib.metadata.version(suite.package)
    root, of = unpack(suite, path, installed)
    print(f"\n{suite.package} {installed}: its own tests of {of}, without and with TrackKit", flush=True)
    matching = ["-k", arguments.matching] if arguments.matching else []
    tests = [*(arguments.only or suite.tests), *matching]
    plain = run(suite, root, tests, tracked=False, name="without")
    tracked = run(suite, root, tests, tracked=True, name="with")
    added = added_failures(plain, tracked)
    unsteady: list[str] = []
    if added:
        files = [*sorted({test.split("::")[0] for test in added}), *matching]
        again = run(suite, root, files, tracked=False, name="without-again")
        again_tracked = run(suite, root, files, tracked=True, name="with-again")
        steady = added_failures(again, again_tracked)
        unsteady = [test for test in added if test not in steady]
        added = [test for test in added if test in steady]
    return report(suite, plain, tracked, added, unsteady)


def added_failures(plain: Outcomes, tracked: Outcomes) -> list[str]:
    """Returns the tests that pass without TrackKit and don't with it, those that a crash left out included."""
    passed = [test for test, found in plain.items() if found["outcome"] == "passed"]
    return [test for test in passed if tracked.get(test, {"outcome": "missing"})["outcome"] != "passed"]


def report(suite: Suite, plain: Outcomes, tracked: Outcomes, added: list[str], unsteady: list[str]) -> int:
    for name, outcomes in (("without", plain), ("with", tracked)):
        counts = Counter(found["outcome"] for found in outcomes.values())
        print(f"  {name:8}", ", ".join(f"{counts[word]} {word}" for word in ("passed", "failed", "error", "skipped")))
    allowed = {test: reason for test in added if (reason := allowance(suite, test))}
    refused = [test for test in added if test not in allowed]
    for title, tests in (("ADDED", refused), ("allowed", list(allowed)), ("unsteady", unsteady)):
        print(f"  {title}: {len(tests)}")
        for test in tests:
            found = tracked.get(test, {"reason": "the process ended before this test"})
            print(f"    {test}\n      {allowed.get(test) or found['reason']}")
    fixed = [pattern for pattern in suite.allowed if not any(fnmatch.fnmatchcase(test, pattern) for test in added)]
    print("".join(f"  allowed, but not added: {pattern}\n" for pattern in fixed), end="")
    return 1 if refused else 0


def allowance(suite: Suite, test: str) -> str:
    return next((why for pattern, why in suite.allowed.items() if test == pattern or _matches(test, pattern)), "")


def _matches(test: str, pattern: str) -> bool:
    """Compares with `*` only: a test's id may contain brackets."""
    return fnmatch.fnmatchcase(test, pattern.replace("[", "[[]"))


# -- the tests' source -------------------------------------------------------------------------------------------


def unpack(suite: Suite, path: str, installed: str) -> tuple[Path, str]:
    """Puts the suite's files into a folder of their own; returns it, and the tag or commit they are of."""
    root = WORK / suite.package / "source"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    tag = suite.tag.format(version=installed)
    source = Path(path).resolve() if path else clone(suite, tag)
    if not source.is_dir():
        raise NoSuite(f"no folder {source}")
    if not is_git(source):
        return copied(suite, source, root), str(source.name)
    of = nearest_tag(suite, source, installed)
    there = set(git(source, "ls-tree", "-r", "-d", "--name-only", of).split())
    there |= set(git(source, "ls-tree", "-r", "--name-only", of).splitlines())
    kept = [name for name in suite.kept if name in there]
    archive = subprocess.Popen(
        ["git", "-C", str(source), "archive", of, *kept], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    unpacked = subprocess.run(["tar", "-x", "-C", str(root)], stdin=archive.stdout, check=False)
    if archive.wait() or unpacked.returncode or not (root / suite.tests[0]).exists():
        raise NoSuite(f"{source} at {of} lacks {suite.tests[0]}")
    return root, of


def is_git(source: Path) -> bool:
    found = subprocess.run(["git", "-C", str(source), "rev-parse", "--git-dir"], capture_output=True, text=True)
    if found.returncode:
        return False
    # A plain folder inside some other checkout is no repository of its own.
    return (source / found.stdout.strip()).resolve() in (source, source / ".git")


def git(source: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(source), *arguments], capture_output=True, text=True, check=True
    ).stdout.strip()


def nearest_tag(suite: Suite, source: Path, installed: str) -> str:
    wanted, best = Version(installed), None
    for tag in git(source, "tag").split():
        try:
            version = Version(tag)
        except InvalidVersion:
            continue
        if suite.tag.format(version=tag.lstrip("v")) != tag or version > wanted or version.is_prerelease:
            continue
        if version.release[:2] == wanted.release[:2] and (best is None or version > best[0]):
            best = (version, tag)
    return best[1] if best else git(source, "rev-parse", "--short", "HEAD")


def clone(suite: Suite, tag: str) -> Path:
    into = WORK / suite.package / "clone"
    shutil.rmtree(into, ignore_errors=True)
    print(f"cloning {suite.repository} at {tag}", flush=True)
    command = ["git", "clone", "--quiet", "--depth", "1", "--branch", tag, suite.repository, str(into)]
    if subprocess.run(command, check=False).returncode:
        raise NoSuite(
            f"the tests of {suite.package} could not be cloned; its source distribution has none. Give a checkout or "
            f"a git directory: make test-frameworks {suite.package.upper()}=PATH"
        )
    return into


def copied(suite: Suite, source: Path, root: Path) -> Path:
    for name in suite.kept:
        if (source / name).is_dir():
            shutil.copytree(source / name, root / name)
        elif (source / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, root / name)
    if not (root / suite.tests[0]).exists():
        raise NoSuite(f"{source} lacks {suite.tests[0]}: give a checkout of {suite.repository}")
    return root


# -- the runs ----------------------------------------------------------------------------------------------------


def run(suite: Suite, root: Path, tests: list[str], *, tracked: bool, name: str) -> Outcomes:
    """Runs the tests once, in one process; returns each test's outcome and the reason of a failure."""
    place = WORK / suite.package / name
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    outcomes = place / "outcomes.jsonl"
    command = [sys.executable, "-m", "pytest", "-p", "trackkit_everywhere", "-q", "--tb=short", "--color=no"]
    command += [
        "--continue-on-collection-errors",
        "-p",
        "no:cacheprovider",
        f"--timeout={TEST_TIMEOUT_S}",
        f"--basetemp={place / 'tmp'}",
        *suite.options,
    ]
    command += [*(f"--ignore={path}" for path in suite.left_out), *tests]
    began = time.monotonic()
    with open(place / "output.txt", "wb") as output:
        process = subprocess.Popen(
            command,
            cwd=root,
            env=environment(suite, place, outcomes, tracked),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            process.wait(RUN_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    found = read(outcomes)
    ended = "" if process.returncode in (0, 1) else f", the process ended with {process.returncode}"
    print(f"  {name}: {len(found)} tests, {time.monotonic() - began:.0f} s{ended}; {place / 'output.txt'}", flush=True)
    return found


def environment(suite: Suite, place: Path, outcomes: Path, tracked: bool) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "TRACKKIT_"))}
    apart = {"TRACKKIT_DIR": str(place / "trackkit")} if suite.apart else {}
    return {
        **kept,
        **apart,
        "PYTHONPATH": str(HERE),
        "JUDGE_OUTCOMES": str(outcomes),
        "JUDGE_TRACKS": suite.package if tracked else "",
        "TRACKKIT_INDEX": str(place / "index.jsonl"),
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "CUDA_VISIBLE_DEVICES": "",
    }


def read(outcomes: Path) -> Outcomes:
    if not outcomes.exists():
        return {}
    lines = map(json.loads, outcomes.read_text(encoding="utf-8").splitlines())
    return {line.pop("test"): line for line in lines}


if __name__ == "__main__":
    sys.exit(main())
