"""The W&B server, apart from a run: the API key, whether the server answers, and questions to its public API."""

from __future__ import annotations

import base64
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Late
from typing import TYPE_CHECKING, TypeVar

from trackkit.integrations.wandb import _compat
from trackkit.redaction.patterns import mask

if TYPE_CHECKING:
    import wandb

T = TypeVar("T")

REFUSED = ("HTTP 401", "HTTP 403")
"""What `probe` returns if the server rejects the key."""

ASK_S = 20.0
_RETRY_S = 0.3
# One at a time: concurrent requests of wandb's public API mix up its connection to wandb-core.
_asking = threading.Lock()


class Unanswered(Exception):
    """The server did not answer in time, or answered with an error, whose secrets are masked."""

    def __init__(self, message: str) -> None:
        super().__init__(mask(message))


def credentials() -> tuple[str | None, str]:
    """Returns the API key that wandb would use, without prompting for one, and the server's URL."""
    import wandb

    settings = wandb.setup().settings
    url = str(settings.base_url)
    return settings.api_key or _compat.netrc_key(url), url


def probe(url: str, key: str, deadline_s: float) -> str | None:
    """Asks the server who owns the key; retries once, since one dropped connection should not decide for a long run.

    Args:
        url: the server's.
        key: the API key.
        deadline_s: seconds for the whole exchange.

    Returns:
        What went wrong; None if the server accepts the key.
    """
    answer: list[str | None] = [f"no answer within {deadline_s:g} s"]

    def work() -> None:
        answer[0] = _request_viewer(url, key, 2 * deadline_s)
        if answer[0] is not None and answer[0] not in REFUSED:
            time.sleep(_RETRY_S)
            answer[0] = _request_viewer(url, key, 2 * deadline_s)

    # A socket's timeout restarts with every byte; the thread gives the whole exchange one deadline, which comes first.
    thread = threading.Thread(target=work, name="trackkit-probe", daemon=True)
    thread.start()
    thread.join(deadline_s)
    return answer[0]


def explain(url: str, trouble: str) -> str:
    """Returns a sentence for the user about what `probe` returned; a login in the URL is masked."""
    url = mask(url)
    if trouble in REFUSED:
        return f"W&B at {url} rejected the API key ({trouble}). Run `wandb login --relogin`."
    return f"Request to W&B at {url} failed: {trouble}."


def _request_viewer(url: str, key: str, timeout_s: float) -> str | None:
    token = base64.b64encode(f"api:{key}".encode()).decode()
    request = urllib.request.Request(
        f"{url.rstrip('/')}/graphql",
        data=b'{"query":"query Viewer { viewer { id } }","variables":{}}',
        headers={"Authorization": f"Basic {token}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as response:
            response.read()
        return None
    except urllib.error.HTTPError as error:
        return f"HTTP {error.code}"
    except urllib.error.URLError as error:
        return str(error.reason)
    except Exception as error:  # noqa: BLE001 -- passed on to the caller
        return str(error) or type(error).__name__


def put(question: Callable[[], T]) -> Future[T]:
    """Runs a question in a thread of its own, so that the caller need not wait: wandb's timeouts are long."""
    answer: Future[T] = Future()

    def work() -> None:
        try:
            with _asking:
                answer.set_result(question())
        except BaseException as error:  # noqa: BLE001 -- passed on to the caller
            answer.set_exception(error)

    threading.Thread(target=work, name="trackkit-ask", daemon=True).start()
    return answer


def ask(question: Callable[[wandb.Api], T], bound_s: float = ASK_S) -> T:
    """Returns the answer to a question about the server.

    Args:
        question: receives wandb's public API.
        bound_s: seconds to wait.

    Raises:
        Unanswered: there was no answer in time, or the question failed.
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
