"""Questions to the W&B server from within a training: each with one deadline, whatever the server does."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from trackkit.integrations.wandb.probe import credentials

if TYPE_CHECKING:
    import wandb

T = TypeVar("T")

ASK_S = 20.0
# One at a time: the client's requests to its own service share what is not meant to be shared.
_asking = threading.Lock()


class Unanswered(Exception):
    """The server has not answered, or not what was asked."""


def ask(question: Callable[[wandb.Api], T], bound_s: float = ASK_S) -> T:
    """Puts a question to the server. It runs in a thread of its own: the client has deadlines, but long ones.

    Args:
        question: what is to be known, through W&B's public API.
        bound_s: seconds that the answer may take.

    Raises:
        Unanswered: there was none in time, or the question failed.
    """
    answers: queue.SimpleQueue[tuple[T | None, Exception | None]] = queue.SimpleQueue()

    def work() -> None:
        import wandb

        try:
            key, url = credentials()
            with _asking:
                api = wandb.Api(overrides={"base_url": url}, api_key=key, timeout=max(1, int(bound_s)))
                answers.put((question(api), None))
        except Exception as error:
            answers.put((None, error))

    threading.Thread(target=work, name="trackkit-ask", daemon=True).start()
    try:
        answer, error = answers.get(timeout=bound_s)
    except queue.Empty as late:
        raise Unanswered(f"no answer within {bound_s:.0f} s") from late
    if error is not None:
        raise Unanswered(f"{type(error).__name__}: {error}") from error
    return answer  # type: ignore[return-value]
