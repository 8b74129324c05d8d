"""The test server without a client: single requests, and its command line."""

from __future__ import annotations

import base64
import importlib
import json
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.support.server_calls import post, steps, upsert
from tests.wandb_server import WandbServer
from tests.wandb_server.client import run
from tests.wandb_server.document import parse


def test_resent_chunks_replace_their_lines(wandb_server: WandbServer) -> None:
    upsert(wandb_server, "r1")
    path = "/files/test-team/p/r1/file_stream"

    def send(offset: int, *values: int) -> None:
        lines = [json.dumps({"_step": value}) for value in values]
        post(wandb_server, path, {"files": {"wandb-history.jsonl": {"offset": offset, "content": lines}}})

    send(0, 0, 1)
    send(2, 2, 3)
    send(2, 2, 3, 4)
    send(0, 10)
    assert steps(wandb_server, "r1") == [10, 1, 2, 3, 4]
    with pytest.raises(urllib.error.HTTPError, match="401"):
        post(wandb_server, path, {}, key="wrong")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        post(wandb_server, "/files/test-team/p/unknown/file_stream", {})


def test_gzip_bodies_are_read(wandb_server: WandbServer, tmp_path: Path) -> None:
    code = "import wandb\nwith wandb.init(project='p', id='r1') as run:\n    for i in range(300): run.log({'x': i})"
    run(wandb_server, tmp_path, code, env={"WANDB__FILE_STREAM_NO_GZIP": "false"})
    assert steps(wandb_server, "r1") == list(range(300))
    assert any(request.headers.get("content-encoding") == "gzip" for request in wandb_server.state.requests)


def test_each_fault_shows_in_the_connection(wandb_server: WandbServer) -> None:
    faults, query = wandb_server.faults, {"query": "query Viewer { viewer { username } }"}
    port = wandb_server.port

    def ask() -> Any:
        return post(wandb_server, "/graphql", query)

    expected = {"data": {"viewer": {"username": "test-user"}}}
    assert ask() == expected
    with faults.active("http_500"), pytest.raises(urllib.error.HTTPError, match="500"):
        ask()
    with faults.active("http_429"), pytest.raises(urllib.error.HTTPError, match="429") as caught:
        ask()
    assert caught.value.headers["Retry-After"] == "1"
    with faults.active("reset"), pytest.raises(ConnectionResetError):
        ask()
    upload = urllib.request.Request(f"{wandb_server.url}/storage/blob/a/b", b"x" * 10_000_000, method="PUT")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with faults.active("reset", only="upload"), pytest.raises((ConnectionError, urllib.error.URLError)):
        opener.open(upload, timeout=10)
    assert wandb_server.state.blobs == {}
    for handled in (False, True):
        faults.drop_every(1, handled=handled)
        with pytest.raises(ConnectionError):
            opener.open(upload, timeout=10)
        assert bool(wandb_server.state.blobs) == handled
    faults.clear()
    with faults.active("refuse"), pytest.raises(urllib.error.URLError, match="refused"):
        ask()
    with faults.active("hang", only="file_stream"):
        assert ask() == expected
    faults.set("slow")
    connection = socket.create_connection(("127.0.0.1", port))
    body = json.dumps(query).encode()
    key = base64.b64encode(f"api:{wandb_server.api_key}".encode()).decode()
    head = f"POST /graphql HTTP/1.1\r\nAuthorization: Basic {key}\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    received = b""
    while b"\r\n\r\n{" not in received:
        received += connection.recv(1)
    assert not wandb_server.state.requests[-1].done
    faults.clear()
    while not received.endswith(b"}}}"):
        received += connection.recv(100)
    connection.close()
    faults.deny("Viewer")
    assert ask()["errors"][0]["message"] == "permission denied"
    faults.clear()
    faults.drop_every(2)
    assert ask() == expected
    with pytest.raises(ConnectionError):
        ask()
    faults.clear()
    assert (ask(), wandb_server.port) == (expected, port)
    with pytest.raises(ValueError, match="unknown fault"):
        faults.set("flood")


def test_all_documents_of_the_client_parse() -> None:
    texts: list[str] = []
    for package in ("wandb.apis", "wandb.automations", "wandb.sdk.artifacts", "wandb.sdk.internal"):
        module = importlib.import_module(f"{package}._generated")
        texts += [getattr(module, name) for name in module.__all__ if name.endswith("_GQL")]
    assert len(texts) > 50
    for text in texts:
        assert parse(text).name in text
    document = parse(
        '{ a: b(x: [1, -2.5e3, "q\\"", {k: $v}, ENUM, null, true]) @include(if: $w) { ...F ... on T { c } } }'
    )
    assert document.selections[0].arguments["x"][1:3] == [-2500.0, 'q"']
    with pytest.raises(ValueError, match="Syntax Error"):
        parse("query { a ")


def test_unknown_fields_are_noted(wandb_server: WandbServer) -> None:
    with pytest.raises(urllib.error.HTTPError, match="400"):
        post(wandb_server, "/graphql", {"query": "query New { viewer { shoeSize } }"})
    assert wandb_server.state.unserved == ['query New: Cannot query field "shoeSize" on type "User".']


def test_command_line_prints_environment_and_report(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.wandb_server", "--watch"]
    root = Path(__file__).resolve().parents[2]
    server = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        env: dict[str, str] = {}
        while line := server.stdout.readline().strip():
            if line.startswith("export "):
                name, _, value = line.removeprefix("export ").partition("=")
                env[name] = value
        with WandbServer() as other:
            code = "import wandb; wandb.init(project='p', id='r1').finish()"
            run(other, tmp_path, code, env=env)
            assert other.state.requests == []
        server.send_signal(signal.SIGINT)
        printed = server.communicate(timeout=10)[0]
    finally:
        server.kill()
        server.wait()
    assert re.search(r"POST UpsertBucket -> 200", printed)
    assert re.search(r"run test-team/p/r1 '[\w-]+': finished, exit code 0", printed)
