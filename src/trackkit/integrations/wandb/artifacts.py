"""Keeps checkpoints as versions of W&B artifacts: through the live run, and W&B's public API."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from trackkit.checkpoints.alignment import entry_of_version, moved
from trackkit.checkpoints.entry import Entry
from trackkit.checkpoints.hashing import reference_name
from trackkit.checkpoints.uploads import UploadError, Version
from trackkit.integrations.wandb import _compat
from trackkit.integrations.wandb.server import credentials, put

if TYPE_CHECKING:
    import wandb

T = TypeVar("T")

TYPE = "model"
# A question that takes longer counts as failed; wandb's own bound for the first artifact of a run is 19 s.
ASK_S = 20.0
# wandb-core is gone, and does not come back for this run.
_FINAL = ("MailboxClosedError", "HandleAbandonedError", "UsageError")
_PAGE = 100


class Artifacts:
    """The artifacts of one run. Implements `checkpoints.uploads.Uploads`.

    Args:
        run: the live run, or the path `entity/project/run_id` of one: then nothing can be handed over or used.
        finish_timeout: seconds that the end of the run may wait.

    Attributes:
        path: of the run, `entity/project/run_id`.
        finish_timeout: see above.
        notify: called when an upload has ended.
    """

    def __init__(self, run: wandb.Run | str, finish_timeout: float = 0.0) -> None:
        self.finish_timeout = finish_timeout
        self.notify: Callable[[], None] = lambda: None
        self._run = None if isinstance(run, str) else run
        self.path = run if isinstance(run, str) else f"{run.entity}/{run.project}/{run.id}"
        self._cached: wandb.Api | None = None
        self._found: dict[tuple[str, str], Any] = {}
        self._pending: list[Any] = []
        self._refused: dict[int, str] = {}

    def hand_over(self, entry: Entry, folder: Path) -> None:
        """Logs an artifact with the alias `step-N`; wandb-core uploads it."""
        import wandb

        run = self._live()
        self._refused.pop(entry.number, None)
        try:
            artifact = wandb.Artifact(entry.collection, TYPE, metadata=entry.metadata)
            if entry.is_remote:
                _compat.add_reference(artifact, entry.path, reference_name(entry.path))
            for file in entry.files:
                _compat.add_hashed_file(artifact, (folder / file.name).absolute(), file.name, file.md5)
        except Exception as error:  # noqa: BLE001 -- refused by wandb rather than by the server
            self._refused[entry.number] = str(error)
            self.notify()
            return
        self._ask(lambda: run.log_artifact(artifact, aliases=[f"step-{entry.step}"]))
        # It may wait for hours, and must not hold up the program's exit.
        threading.Thread(target=self._wait, args=(entry, artifact), name="trackkit-upload", daemon=True).start()

    def states(self, entries: Sequence[Entry]) -> Mapping[int, Version]:
        """Returns what the server has of a run's entries."""
        found, self._pending = self._ask(lambda: _compat.logged_artifacts(self._api().run(self.path), _PAGE))
        self._found = {(each.name.partition(":")[0], each.digest): each for each in found}
        pending = {(each.artifact_sequence.name, each.digest) for each in self._pending}
        versions = {}
        for entry in entries:
            if (artifact := self._found.get(entry.content)) is not None:
                metadata = artifact.metadata
                hub_url, was = str(metadata.get("hub_url", "")), tuple(map(str, metadata.get("was") or ()))
                versions[entry.number] = Version("committed", artifact.name, tuple(artifact.aliases), hub_url, was)
            elif entry.number in self._refused:
                versions[entry.number] = Version("refused", reason=self._refused[entry.number])
            elif entry.content in pending:
                versions[entry.number] = Version("pending")
        return versions

    def own(self) -> list[Entry]:
        """Returns the committed versions that the run has logged, as entries without a number, oldest first."""
        self.states(())
        found = [_to_entry(each) for each in self._found.values() if each.type == TYPE]
        return sorted(found, key=lambda each: each.time)

    def others(self, collection: str, known: Collection[str]) -> list[Entry]:
        """Returns the committed versions of a collection whose digests are not known, as entries without a number."""
        path = f"{self.path.rpartition('/')[0]}/{collection}"
        found = self._ask(lambda: list(self._api().artifacts(TYPE, path, per_page=_PAGE)))
        unknown = [each for each in found if each.digest not in known]
        self._found.update({(collection, each.digest): each for each in unknown})
        return [_to_entry(each) for each in unknown]

    def remove_leftovers(self, entries: Sequence[Entry]) -> None:
        """Deletes the pending versions of entries: W&B keeps them for good."""
        ours = {each.content for each in entries if each.digest}
        for each in [each for each in self._pending if (each.artifact_sequence.name, each.digest) in ours]:
            self._ask(lambda each=each: _compat.delete_pending(self._api(), each.id))  # type: ignore[misc]
            self._pending.remove(each)

    def set_aliases(self, entry: Entry, add: Sequence[str], remove: Sequence[str] = ()) -> None:
        """Adds aliases to a version, which others of its collection lose, and removes some; writes its metadata."""
        artifact = self._artifact(entry)

        def change() -> None:
            artifact.aliases = [each for each in dict.fromkeys([*artifact.aliases, *add]) if each not in remove]
            news = entry.metadata if entry.number else {"was": list(entry.was)} if entry.was else {}
            artifact.metadata = {**artifact.metadata, **news}
            artifact.save()

        self._ask(change)

    def delete(self, entry: Entry, used: bool = False) -> bool:
        """Deletes a version, unless it is used, linked or of another run; returns whether it is gone."""
        artifact = self._found.get(entry.content)
        if artifact is None:
            return True
        if self._is_of_another(artifact) or (not used and self.is_held(entry)):
            return False
        self._ask(lambda: artifact.delete(delete_aliases=True))
        del self._found[entry.content]
        return True

    def is_held(self, entry: Entry) -> bool:
        """Returns whether a version must not be deleted: it is used or linked, or another run has logged it."""
        artifact = self._artifact(entry)
        return bool(
            self._ask(artifact.used_by) or self._ask(lambda: artifact.linked_artifacts) or self._is_of_another(artifact)
        )

    def link(self, entry: Entry, target: str, alias: str) -> str:
        """Links a version to a collection of a registry; returns the version that had the alias there."""
        artifact = self._artifact(entry)

        def change() -> str:
            before = self._linked(f"{target}:{alias}") if alias else None
            artifact.link(target, [alias] if alias else [])
            if before is None or before.source_name == artifact.name:
                return ""
            with suppress(Exception):
                # It may belong to another team.
                source = self._api().artifact(before.source_qualified_name)
                was = source.metadata.get("was") or []
                source.metadata["was"] = [*was, moved(f"{target}:{alias}", artifact.name)]
                source.save()
            return str(before.source_name)

        return self._ask(change)

    def use(self, name: str) -> bool:
        """Records that the run has used a version; returns whether the server has it."""

        def record() -> bool:
            api = self._api()
            if not api.artifact_exists(name):
                return False
            api.run(self.path).use_artifact(api.artifact(name))
            return True

        return self._ask(record)

    def _wait(self, entry: Entry, artifact: wandb.Artifact) -> None:
        try:
            trouble = _compat.wait_for_upload(artifact)
        except Exception as error:  # noqa: BLE001 -- the next question raises it
            # At the end of a run, too: then the server is asked by the public API.
            if type(error).__name__ not in _FINAL:
                self._refused[entry.number] = str(error)
        else:
            if trouble:
                self._refused[entry.number] = trouble
        self.notify()

    def _linked(self, name: str) -> Any:
        try:
            return self._api().artifact(name)
        except Exception:  # noqa: BLE001 -- the link itself fails if the server does not answer
            return None

    def _is_of_another(self, artifact: Any) -> bool:
        creator = self._ask(artifact.logged_by)
        return creator is not None and creator.id != self.path.rpartition("/")[2]

    def _live(self) -> wandb.Run:
        if self._run is None:
            raise UploadError("the run is not open", final=True)
        return self._run

    def _artifact(self, entry: Entry) -> Any:
        try:
            return self._found[entry.content]
        except KeyError:
            raise UploadError(f"W&B does not have the version '{entry.version or entry.collection}'") from None

    def _api(self) -> wandb.Api:
        if self._cached is None:
            import wandb

            key, url = credentials()
            self._cached = wandb.Api(overrides={"base_url": url}, api_key=key, timeout=int(ASK_S))
        return self._cached

    def _ask(self, question: Callable[[], T]) -> T:
        """Asks the server, one question at a time.

        Raises:
            UploadError: it was refused, or there was no answer in time.
        """
        answer = put(question)
        try:
            return answer.result(ASK_S)
        except Exception as error:
            late = isinstance(error, TimeoutError) and not answer.done()
            text = f"W&B did not answer within {ASK_S:.0f} s" if late else f"{type(error).__name__}: {error}"
            raise UploadError(text, final=type(error).__name__ in _FINAL) from error


def _to_entry(artifact: Any) -> Entry:
    collection = artifact.name.partition(":")[0]
    created = datetime.fromisoformat(artifact.created_at.replace("Z", "+00:00")).timestamp()
    names = {"collection": collection, "digest": artifact.digest, "version": artifact.name}
    return entry_of_version(artifact.metadata, created, aliases=tuple(artifact.aliases), **names)
