"""The run of a `with` block, from the event that opens it until the block is left."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from trackkit.engine.ranks import Exchange
from trackkit.engine.tracker import Tracker
from trackkit.errors import TrackKitError
from trackkit.integrations.guard import Kit, call_guarded

if TYPE_CHECKING:
    from collections.abc import Callable

    from trackkit.engine.records import Moment
    from trackkit.engine.run_info import Start, Status
    from trackkit.session.session import Session


class Block:
    """Opens one run, and closes it with the status of how the block was left.

    Args:
        kit: the TrackKit with the run's settings.

    Attributes:
        session: the open run; None before, after, and where nothing is recorded.
        tracker: of the run; without a run, one that records nothing.
        id, name: the run's id and display name; "" before it is open, and where nothing is recorded.
    """

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self.session: Session | None = None
        self.tracker = Tracker((), (), Exchange())
        self.id = self.name = ""

    def hook_failed(self, hook: str, error: BaseException) -> None:
        """Counts an error of TrackKit, and logs its traceback the first time."""
        self._kit.hook_failed(hook, error)

    def _open(self, describe: Callable[[], Start]) -> None:
        """Opens the run. An error that is not the user's is logged, and nothing is recorded then.

        Args:
            describe: returns what is known at the start.
        """
        if self._kit.disabled:
            return
        self.session = call_guarded(self._kit, "start of the run", lambda: self._kit.begin(describe()))
        if self.session is not None:
            self.tracker = self.session.tracker
            self.tracker.position = self._moment
            self.id, self.name = self.session.info.run_id, self.session.info.name

    def _moment(self) -> Moment:
        """Returns where the training stands."""
        raise NotImplementedError

    def _end(self, status: Status, exit_code: int | None = None, error: BaseException | None = None) -> None:
        """Ends and closes the run; does nothing without one."""
        session, self.session = self.session, None
        if session is not None:
            session.end(status, exit_code, error)
            session.close()
            self.tracker = Tracker((), (), Exchange())

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            call_guarded(self._kit, "end of the run", self._left, error)
        except TrackKitError:
            if error is None:
                raise

    def _left(self, error: BaseException | None) -> None:
        """Ends the run as the block was left."""
        from trackkit.session.session import CTRL_C

        if error is None or (isinstance(error, SystemExit) and not error.code):
            self._end(self._status())
        elif isinstance(error, KeyboardInterrupt):
            self._end("stopped", CTRL_C)
        else:
            code = error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1
            self._end("failed", code, error)

    def _status(self) -> Status:
        """Returns the status of a block that was left without an error."""
        return "finished"
