"""Sends small requests to the test server and reads what it received."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from typing import Any

from tests.wandb_server import WandbServer


def steps(server: WandbServer, run_id: str) -> list[int]:
    return [row["_step"] for row in server.state.run(run_id).history]


def first_line(printed: str) -> str:
    """Returns the first printed line: after a failed init, the client prints the place of its logs on stdout."""
    return printed.splitlines()[0]


def post(server: WandbServer, path: str, body: dict[str, Any], key: str = "") -> Any:
    """Sends a POST request; returns the parsed answer."""
    token = base64.b64encode(f"api:{key or server.api_key}".encode()).decode()
    headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(server.url + path, json.dumps(body).encode(), headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=10) as answer:
            return json.loads(answer.read())
    except urllib.error.HTTPError as error:
        error.close()
        raise


def upsert(server: WandbServer, run_id: str) -> None:
    query = "mutation UpsertBucket($n: String) { upsertBucket(input: {name: $n, modelName: p}) { inserted } }"
    post(server, "/graphql", {"query": query.replace("modelName: p", 'modelName: "p"'), "variables": {"n": run_id}})
