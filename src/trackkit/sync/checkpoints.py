"""Syncs the checkpoints of a run: what its ledger has and the server lacks goes into the delta, as artifact records."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trackkit.checkpoints.entry import Entry
from trackkit.checkpoints.hashing import reference_name
from trackkit.checkpoints.ledger import LEDGER, Ledger
from trackkit.checkpoints.rules import Rules
from trackkit.checkpoints.server_side import ServerSide
from trackkit.checkpoints.staging import Staging
from trackkit.checkpoints.worker import Worker
from trackkit.integrations.wandb.artifacts import TYPE, Artifacts
from trackkit.integrations.wandb.files import make


class Checkpoints:
    """The checkpoints of one run that has ended. A run without a ledger has none.

    Args:
        folder: of the run; None without a local log.
        path: of the run on the server, `entity/project/run_id`.
    """

    def __init__(self, folder: Path | None, path: str) -> None:
        self._path = path
        self._ledger: Ledger | None = None
        if folder is not None and (folder / LEDGER).exists():
            ledger, staging = Ledger(folder), Staging(folder)
            rules = Rules.recorded(ledger.options)
            self._folder, self._ledger, self._staging, self._rules = folder, ledger, staging, rules
            self._server = ServerSide(ledger, staging, rules, Artifacts(path), lambda: None)

    def prepare(self, is_known: bool) -> list[Entry]:
        """Stages and hashes what is not yet; returns the entries to send, noted as handed over.

        Args:
            is_known: whether the server knows the run, and may have some of them.
        """
        if self._ledger is None:
            return []
        if is_known:
            self._server.catch_up()
        for entry in self._ledger.entries:
            if entry.state == "handed over":
                # An earlier upload broke off.
                self._ledger.change(entry.number, state="hashed")
        self._staging.tidy(self._ledger.entries)
        for entry in self._ledger.present:
            if entry.shared and not self._is_inside(entry):
                # The folder may come from somebody else: no file of this machine is added to what was noted.
                self._ledger.change(entry.number, shared=False)
        Worker(self._folder, self._ledger, self._staging, self._rules, None).prepare()
        found = [each for each in self._ledger.entries if each.state == "hashed" and each.complete]
        # One after another: what is noted as handed over counts in the total of the next.
        change = self._ledger.change
        return [change(each.number, state="handed over", handed=True) for each in found if self._server.admits(each)]

    def records(self, entries: Sequence[Entry]) -> list[bytes]:
        """Returns entries as W&B's serialized records."""
        return [to_record(each, self._staging.folder(each.number), self._path) for each in entries]

    def finish(self) -> str:
        """Notes what has arrived; sets aliases and links, deletes what is beyond retention, frees the staging.

        Returns:
            Why the checkpoints are not as they should be; "" if they are.
        """
        if self._ledger is None:
            return ""
        answered = self._server.catch_up() and self._server.answers
        for entry in self._ledger.entries:
            if entry.state == "handed over":
                self._ledger.change(entry.number, state="hashed", reason="its upload was not completed")
        self._ledger.close()
        left = [str(each.step) for each in self._wanted() if each.state != "committed"]
        if left:
            return f"the checkpoints of steps {', '.join(left[:5])} are not committed; run the same command again"
        if not answered:
            return "the aliases of the checkpoints could not be set; run the same command again"
        refused = [what for each in self._wanted() for what in each.waiting]
        return f"W&B refused the promotion to {', '.join(map(repr, refused))}" if refused else ""

    @property
    def moves(self) -> list[str]:
        """The promotions that were carried out, as lines."""
        if self._ledger is None:
            return []
        return [
            f"{each.what}: {each.now}" + f", before {each.before}" * bool(each.before) for each in self._server.moves
        ]

    @property
    def counts(self) -> tuple[int, int]:
        """How many checkpoints are committed, and how many should be."""
        found = self._wanted()
        return sum(each.state == "committed" for each in found), len(found)

    def _is_inside(self, entry: Entry) -> bool:
        """Returns whether a checkpoint lies in the run's output folder, with no link out of it."""
        root = os.path.realpath(self._folder.parent.parent)
        folders = (Path(entry.path), self._staging.folder(entry.number))
        found = (path for folder in folders for path in (folder, *folder.rglob("*")))
        return all(Path(os.path.realpath(path)).is_relative_to(root) for path in found)

    def _wanted(self) -> list[Entry]:
        return self._ledger.present if self._ledger is not None else []


def owes_uses(folder: Path | None) -> bool:
    """Returns whether a run has used checkpoints that the server did not have when it was asked last."""
    return folder is not None and any(not each.done for each in Ledger(folder).uses)


def to_record(entry: Entry, folder: Path, path: str) -> bytes:
    """Returns an entry as the record by which W&B's uploader makes a version of it, with the alias `step-N` alone.

    Args:
        entry: hashed.
        folder: with its files.
        path: of the run, `entity/project/run_id`.
    """
    entity, project, run_id = path.split("/")
    contents: list[dict[str, Any]] = [
        {
            "path": file.name,
            "digest": file.md5,
            "size": file.size,
            "local_path": str((folder / file.name).absolute()),
            "skip_cache": True,
        }
        for file in sorted(entry.files, key=lambda file: file.name)
    ]
    if entry.is_remote:
        contents = [{"path": reference_name(entry.path), "digest": entry.path, "ref": entry.path}]
    manifest = {
        "version": 1,
        "storage_policy": "wandb-storage-policy-v1",
        "storage_policy_config": [{"key": "storageLayout", "value_json": '"V2"'}],
        "contents": contents,
    }
    return make(
        artifact={
            "run_id": run_id,
            "project": project,
            "entity": entity,
            "type": TYPE,
            "name": entry.collection,
            "digest": entry.digest,
            "metadata": json.dumps(entry.metadata),
            # Without ids of their own, all versions are the same one to the server.
            "client_id": secrets.token_hex(64),
            "sequence_client_id": secrets.token_hex(64),
            "aliases": [f"step-{entry.step}"],
            "finalize": True,
            "manifest": manifest,
        }
    )
