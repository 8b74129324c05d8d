"""Answers REST requests: file_stream, uploads, downloads, and the telemetry that clients send."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from .runs import RunFile
from .service import Service

# In shared mode, the id of a writer has one name in file_stream requests and another in GraphQL.
SHARED_HEADER = "x-wandb-use-async-filestream"
CLIENT_HEADERS = ("x-wandb-async-client-id", "x-wandb-client-id")


@dataclass
class Answer:
    """An HTTP answer before faults are applied to it."""

    status: int = 200
    body: bytes = b"{}"
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)


def json_answer(value: Any, status: int = 200) -> Answer:
    return Answer(status, json.dumps(value).encode())


def path_parts(path: str) -> list[str]:
    return [unquote(part) for part in urlsplit(path).path.strip("/").split("/")]


def route(method: str, path: str) -> str:
    """Returns the name of a REST route, as used by faults and in the log of requests."""
    parts = path_parts(path)
    if method == "POST" and parts[0] == "files" and parts[-1] == "file_stream":
        return "file_stream"
    if parts[0] == "sdk":
        return "metrics"
    if parts[0] in ("storage", "artifactsV2", "artifacts", "files"):
        return "upload" if method in ("PUT", "POST") else "download"
    return "other"


def client_of(headers: Mapping[str, str]) -> str:
    """Returns the id of a client that writes in shared mode; "" outside shared mode."""
    if headers.get(SHARED_HEADER) != "true":
        return ""
    return next((headers[name] for name in CLIENT_HEADERS if headers.get(name)), "")


def file_stream(service: Service, path: str, headers: Mapping[str, str], body: dict[str, Any]) -> Answer:
    """Stores chunks of streamed files, and what a heartbeat says about the run."""
    _, entity, project, run_id, _ = path_parts(path)
    with service.state.lock:
        run = service.state.runs.get(f"{entity}/{project}/{run_id}")
        if run is None or run.deleted:
            return json_answer({"error": f"run {entity}/{project}/{run_id} not found"}, 404)
        run.heartbeat_at = time.time()
        for name, chunk in (body.get("files") or {}).items():
            run.write(name, client_of(headers), chunk["offset"], chunk["content"])
        for name in body.get("uploaded") or []:
            run.files.setdefault(name, RunFile(name)).confirmed = True
        if body.get("preempting"):
            run.preempting = True
        if body.get("complete"):
            run.complete, run.exit_code = True, body.get("exitcode")
        answer: dict[str, Any] = {"exitcode": None, "limits": {}}
        if run.stop_requested:
            answer["stopped"] = True
        return json_answer(answer)


def head_of(body: dict[str, Any]) -> dict[str, Any]:
    """Returns what the log of requests keeps of a file_stream body."""
    files = body.get("files") or {}
    kept = {name: [chunk["offset"], len(chunk["content"])] for name, chunk in files.items()}
    return {**{key: value for key, value in body.items() if key != "files"}, "files": kept}


def upload(service: Service, path: str, data: bytes) -> Answer:
    """Stores a file of a run, a file of an artifact, or a manifest, sent to a URL that a mutation returned."""
    parts = path_parts(path)
    state = service.state
    with state.lock:
        if parts[:2] == ["storage", "run"]:
            run = state.runs.get("/".join(parts[2:5]))
            if run is not None:
                name = "/".join(parts[5:])
                file = run.files.setdefault(name, RunFile(name))
                file.data, file.updated_at = data, time.time()
                return Answer(body=b"")
        elif parts[:2] == ["storage", "blob"]:
            state.blobs["/".join(parts[2:])] = data
            return Answer(body=b"")
        elif parts[:2] == ["storage", "manifest"]:
            for collection in state.collections.values():
                for version in collection.versions:
                    for manifest in version.manifests:
                        if manifest.id == parts[2]:
                            manifest.data = data
                            return Answer(body=b"")
    return Answer(404, b"not found", "text/plain")


def download(service: Service, path: str) -> Answer:
    """Returns an uploaded file; artifact files also under the URLs that clients build themselves."""
    parts = path_parts(path)
    state = service.state
    data: bytes | None = None
    with state.lock:
        if parts[:2] == ["storage", "run"] or parts[0] == "files":
            rest = parts[2:] if parts[0] == "storage" else parts[1:]
            run = state.runs.get("/".join(rest[:3]))
            file = run.files.get("/".join(rest[3:])) if run else None
            data = file.data if file else None
        elif parts[:2] == ["storage", "blob"]:
            data = state.blobs.get("/".join(parts[2:]))
        elif parts[0] == "artifactsV2" and len(parts) > 3:
            data = state.blobs.get("/".join(parts[-3:-1]))
        elif parts[:2] == ["storage", "manifest"]:
            manifests = (
                manifest for item in state.collections.values() for one in item.versions for manifest in one.manifests
            )
            data = next((manifest.data for manifest in manifests if manifest.id == parts[2]), None)
    if data is None:
        return Answer(404, b"not found", "text/plain")
    return Answer(body=data, content_type="application/octet-stream")
