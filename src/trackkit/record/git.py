"""Reads the state of the git repository that a training is started in."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from trackkit.redaction.redact import redact

_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class GitState:
    """A repository at one moment.

    Attributes:
        root: top folder.
        commit: full hash of HEAD; "" before the first commit.
        branch: "" on a detached HEAD.
        dirty: whether tracked files differ from HEAD, or there are untracked files.
        remote: URL of `origin`, credentials masked.
    """

    root: Path
    commit: str
    branch: str
    dirty: bool
    remote: str

    @property
    def short(self) -> str:
        """The commit's first seven digits, followed by `+` if the repository is dirty."""
        return self.commit[:7] + ("+" if self.dirty and self.commit else "")

    def config(self) -> dict[str, str | bool]:
        """Returns the columns of the run config."""
        return {
            "git/commit": self.commit,
            "git/branch": self.branch,
            "git/dirty": self.dirty,
            "git/remote": self.remote,
        }


def read_git(folder: Path) -> GitState | None:
    """Returns the repository around `folder`; None outside of one, or without git."""
    root = _git(folder, "rev-parse", "--show-toplevel")
    if not root:
        return None
    return GitState(
        root=Path(root),
        commit=_git(folder, "rev-parse", "--verify", "--quiet", "HEAD"),
        branch=_git(folder, "branch", "--show-current"),
        dirty=bool(_git(folder, "status", "--porcelain")),
        remote=str(redact("", _git(folder, "config", "--get", "remote.origin.url"))),
    )


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def commits_between(folder: Path, before: str, after: str, most: int = 20) -> list[str]:
    """Returns the commits that only one of two commits has, newest first, one line each; empty if that is not known.

    A line begins with `+` for a commit that only `after` has, with `-` for one that only `before` has.
    """
    if not (_is_hash(before) and _is_hash(after)):
        return []
    lines = _git(folder, "log", "--oneline", "--left-right", f"-{most}", f"{before}...{after}", "--").splitlines()
    return [("+ " if line[:1] == ">" else "- ") + line[1:].strip() for line in lines]


def changed_files(folder: Path, before: str, after: str) -> list[str]:
    """Returns the files that differ between two commits; empty if that is not known."""
    if not (_is_hash(before) and _is_hash(after)):
        return []
    return _git(folder, "diff", "--name-only", before, after, "--").splitlines()


def _is_hash(text: str) -> bool:
    """Returns whether git can only take a text for a commit: a run's config may have been written by anyone."""
    return re.fullmatch("[0-9a-f]{7,64}", text) is not None
