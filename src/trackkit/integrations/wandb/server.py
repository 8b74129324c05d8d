"""Whether a W&B server is there and takes the key: asked by ourselves, with one deadline for the whole."""

from __future__ import annotations

import base64
import threading
import time
import urllib.error
import urllib.request

REFUSED = (401, 403)
"""HTTP codes by which a server refuses a key."""

AGAIN_S = 0.3


def probe(url: str, key: str, deadline_s: float) -> str | None:
    """Asks the server who the key belongs to. None where it answers, else what went wrong, within the deadline.

    A second time where the first failed: one dropped connection must not leave a long training without its server.
    """
    answer: list[str | None] = [f"no answer within {deadline_s:g} s"]

    def ask() -> None:
        answer[0], final = _ask(url, key, deadline_s)
        if not final:
            time.sleep(AGAIN_S)
            answer[0], _ = _ask(url, key, deadline_s)

    # A socket's timeout restarts with every byte; the thread gives the whole exchange one deadline.
    thread = threading.Thread(target=ask, name="trackkit-probe", daemon=True)
    thread.start()
    thread.join(deadline_s)
    return answer[0]


def _ask(url: str, key: str, timeout_s: float) -> tuple[str | None, bool]:
    """What went wrong with one request, None for nothing, and whether asking again is of no use."""
    token = base64.b64encode(f"api:{key}".encode()).decode()
    request = urllib.request.Request(
        f"{url.rstrip('/')}/graphql",
        data=b'{"query":"query Viewer { viewer { id } }","variables":{}}',
        headers={"Authorization": f"Basic {token}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as response:
            response.read()
        return None, True
    except urllib.error.HTTPError as error:
        return f"HTTP {error.code}", error.code in REFUSED
    except Exception as error:
        return str(getattr(error, "reason", error)) or type(error).__name__, False


def credentials() -> tuple[str | None, str]:
    """The key that W&B would use, without prompting for one, and the server's address."""
    import wandb
    from wandb.sdk.lib import wbauth

    settings = wandb.setup().settings
    url = str(settings.base_url)
    return settings.api_key or wbauth.read_netrc_auth(host=url), url
