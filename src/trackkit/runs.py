"""The runs of one trainer, one after another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trackkit.config import TrackKitConfig
from trackkit.sinks import Sink

if TYPE_CHECKING:
    from trackkit.session import Session
    from trackkit.start import Start


class Runs:
    """The runs of one trainer: one for every fit, with the evaluations before the first and after each.

    Args:
        config: the settings.
        sinks: backends beside the local log; default W&B.
        run_id: of the first run. It is minted before there is one, so that a fit and a test in spawned processes find
            the same run.

    Attributes:
        session: the latest; None before there is one.
    """

    def __init__(self, config: TrackKitConfig, sinks: Sequence[Sink] | None, run_id: str) -> None:
        self._config = config
        self._sinks = sinks
        self._run_id = run_id
        self._fits = 0
        self.session: Session | None = None

    def begin(self, start: Start) -> Session:
        """Opens the run of a fit or an evaluation, or goes on in the one that is open."""
        from trackkit.identity import given_run_id, new_run_id
        from trackkit.opening import open_session
        from trackkit.session import open_sessions

        session, fit = self.session, start.phase == "fit"
        if session is not None and session in open_sessions():
            if not fit:
                return session
            if session.phase == "evaluating":
                session.join_fit(start)
                self._fits += 1
                return session
            session.close()
        if fit and self._fits:
            self._run_id = new_run_id()
        # An evaluation goes on in its fit's run, and the first fit in that of the evaluations before it.
        resumed = not fit or self._run_id == given_run_id() or (session is not None and not self._fits)
        self._fits += fit
        self.session = open_session(self._config, start, self._run_id, self._sinks, resumed)
        self._run_id = self.session.info.run_id
        return self.session

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "session": None}
