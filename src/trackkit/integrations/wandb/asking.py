"""Questions to the W&B server, one after another; from within a training, each with a deadline of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Late
from typing import TYPE_CHECKING, TypeVar

from trackkit.integrations.wandb.server import credentials

if TYPE_CHECKING:
    import wandb

T = TypeVar("T")

ASK_S = 20.0
# One at a time: the client's requests to its own service share what is not meant to be shared.
_asking = threading.Lock()


class Unanswered(Exception):
    """The server has not answered, or not what was asked."""


def put(question: Callable[[], T]) -> Future[T]:
    """Puts a question in a thread of its own, which nobody has to wait for: the client's deadlines are long."""
    answer: Future[T] = Future()

    def work() -> None:
        try:
            with _asking:
                answer.set_result(question())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=work, name="trackkit-ask", daemon=True).start()
    return answer


def ask(question: Callable[[wandb.Api], T], bound_s: float = ASK_S) -> T:
    """Puts a question to the server.

    Args:
        question: what is to be known, through W&B's public API.
        bound_s: seconds that the answer may take.

    Raises:
        Unanswered: there was none in time, or the question failed.
    """

    def work() -> T:
        import wandb

        key, url = credentials()
        return question(wandb.Api(overrides={"base_url": url}, api_key=key, timeout=max(1, int(bound_s))))

    answer = put(work)
    try:
        return answer.result(bound_s)
    except Exception as error:
        late = isinstance(error, Late) and not answer.done()
        raise Unanswered(f"no answer within {bound_s:.0f} s" if late else f"{type(error).__name__}: {error}") from error
