"""The runs of one trainer, one after another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trackkit.notices import logger
from trackkit.settings.config import TrackKitConfig

if TYPE_CHECKING:
    from trackkit.engine.run_info import Start
    from trackkit.session.open import MakeSinks
    from trackkit.session.session import Session

# The values of WANDB_RUN_ID that trainings of this process have used.
_used: set[str] = set()


def _use(run_id: str, given: str | None) -> None:
    if run_id == given:
        _used.add(run_id)


class Runs:
    """The runs of one trainer: one for every fit, with the evaluations before the first and after each.

    Args:
        config: the settings.
        make_sinks: makes the backends beside the local log, new ones for each run.
        run_id: of the first run. It is known before the run starts, so that a fit and a test in spawned processes share
            it.

    Attributes:
        session: the latest; None before there is one.
    """

    def __init__(self, config: TrackKitConfig, make_sinks: MakeSinks, run_id: str) -> None:
        self._config = config
        self._make_sinks = make_sinks
        self._run_id = run_id
        self._fits = 0
        self.session: Session | None = None

    def begin(self, start: Start) -> Session:
        """Returns the run for a fit or an evaluation that begins: the open one if it belongs there, else a new one."""
        from trackkit.session.identity import given_run_id
        from trackkit.session.open import open_session
        from trackkit.session.session import open_sessions

        session, given = self.session, given_run_id()
        if session is not None and session in open_sessions():
            session.console.listen()
            if not start.is_fit:
                return session
            if session.phase == "evaluating" or start.again:
                session.join_fit(start)
                self._fits += 1
                _use(session.info.run_id, given)
                return session
            session.close()
        if start.is_fit:
            self._run_id = self._id_of_fit(given)
        # An evaluation continues its fit's run; the first fit continues the run of the evaluations before it.
        resumed = not start.is_fit or self._run_id == given or (session is not None and not self._fits)
        self._fits += start.is_fit
        self.session = open_session(self._config, start, self._run_id, self._make_sinks, resumed)
        if start.is_fit and given in _used and self.session.info.run_id == self._run_id:
            logger.warning(
                "WANDB_RUN_ID='%s' was used by an earlier training of this process: recording run '%s'",
                given,
                self._run_id,
            )
        self._run_id = self.session.info.run_id
        if start.is_fit:
            _use(self._run_id, given)
        return self.session

    def _id_of_fit(self, given: str | None) -> str:
        """Returns the run id of a fit. WANDB_RUN_ID counts once: a sweep's agent sets another for each trial."""
        if given is not None and given not in _used:
            return given
        from trackkit.session.identity import new_run_id

        return new_run_id() if self._fits or self._run_id == given else self._run_id

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "session": None}
