"""Keeps checkpoints as versions of W&B artifacts: through the live run, and W&B's public API."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from trackkit.checkpoints.hashing import reference_name
from trackkit.checkpoints.ledger import Entry
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
        finish_timeout: see above.
        notify: called when an upload has ended.
    """

    def __init__(self, run: wandb.Run | str, finish_timeout: float = 0.0) -> None:
        self.finish_timeout = finish_timeout
        self.notify: Callable[[], None] = lambda: None
        self._run = None if isinstance(run, str) else run
        self._path = run if isinstance(run, str) else f"{run.entity}/{run.project}/{run.id}"
        self._cached: wandb.Api | None = None
        self._found: dict[tuple[str, str], Any] = {}
        self._refused: dict[int, str] = {}

    def hand_over(self, entry: Entry, folder: Path) -> None:
        """Logs an artifact with the alias `step-N`; wandb-core uploads it."""
        import wandb

        run = self._live()
        artifact = wandb.Artifact(entry.collection, TYPE, metadata=entry.metadata)
        if entry.is_remote:
            _compat.add_reference(artifact, entry.path, reference_name(entry.path))
        for file in entry.files:
            _compat.add_hashed_file(artifact, (folder / file.name).absolute(), file.name, file.md5)
        self._refused.pop(entry.number, None)
        self._ask(lambda: run.log_artifact(artifact, aliases=[f"step-{entry.step}"]))
        # It may wait for hours, and must not hold up the program's exit.
        threading.Thread(target=self._wait, args=(entry, artifact), name="trackkit-upload", daemon=True).start()

    def states(self, entries: Sequence[Entry]) -> Mapping[int, Version]:
        """Returns what the server has of a run's entries."""
        found = self._ask(lambda: list(self._api().run(self._path).logged_artifacts(_PAGE)))
        # An upload that broke off leaves a pending version beside a later one that is committed.
        found.sort(key=lambda each: each.state == "COMMITTED")
        self._found = {(each.name.partition(":")[0], each.digest): each for each in found}
        versions = {}
        for entry in entries:
            if (artifact := self._found.get((entry.collection, entry.digest))) is not None:
                state = "committed" if artifact.state == "COMMITTED" else "pending"
                hub_url = str(artifact.metadata.get("hub_url", ""))
                versions[entry.number] = Version(state, artifact.name, tuple(artifact.aliases), hub_url)  # type: ignore[arg-type]
            elif entry.number in self._refused:
                versions[entry.number] = Version("refused", reason=self._refused[entry.number])
        return versions

    def set_aliases(self, entry: Entry, add: Sequence[str], remove: Sequence[str] = ()) -> None:
        """Adds aliases to a version, which others of its collection lose, and removes some; writes its metadata."""
        artifact = self._artifact(entry)

        def change() -> None:
            artifact.aliases = [each for each in dict.fromkeys([*artifact.aliases, *add]) if each not in remove]
            artifact.metadata = {**artifact.metadata, **entry.metadata}
            artifact.save()

        self._ask(change)

    def delete(self, entry: Entry, used: bool = False) -> bool:
        """Deletes a version, unless a run has used it; returns whether it is gone."""
        artifact = self._found.get((entry.collection, entry.digest))
        if artifact is None:
            return True
        if not used and self._ask(artifact.used_by):
            return False
        self._ask(lambda: artifact.delete(delete_aliases=True))
        del self._found[entry.collection, entry.digest]
        return True

    def link(self, entry: Entry, target: str, aliases: Sequence[str]) -> None:
        """Links a version to a collection of a registry."""
        artifact = self._artifact(entry)
        self._ask(lambda: artifact.link(target, list(aliases)))

    def use(self, name: str) -> None:
        """Records that the live run has used a version."""
        run = self._live()
        self._ask(lambda: run.use_artifact(name))

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

    def _live(self) -> wandb.Run:
        if self._run is None:
            raise UploadError("the run is not open", final=True)
        return self._run

    def _artifact(self, entry: Entry) -> Any:
        try:
            return self._found[entry.collection, entry.digest]
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
