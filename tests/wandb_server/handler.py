"""Handles HTTP requests: logs each, answers it, and applies the fault."""

from __future__ import annotations

import base64
import gzip
import json
import socket
import struct
import time
import traceback
from http.server import BaseHTTPRequestHandler
from typing import Any

from . import graphql, rest
from .document import Document, DocumentError, parse
from .faults import Faults
from .rest import Answer, json_answer
from .service import Service
from .state import Request

_KEPT_HEADERS = ("user-agent", "content-type", "content-encoding", "content-length", "range", "cookie")
_OPEN_ROUTES = ("upload", "download", "metrics", "other")
_NO_EFFECT = ("drop_unhandled", "hang", "http_500", "http_429", "deny")


class Handler(BaseHTTPRequestHandler):
    """Handles one connection of a client. The server sets `service`, `faults` and `api_key` on a subclass."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # otherwise the body waits 40 ms for the head to be acknowledged
    service: Service
    faults: Faults
    api_key: str

    def log_message(self, format: str, *args: Any) -> None:
        """Does nothing: requests are logged in the state, not on stderr."""

    def do_GET(self) -> None:
        self.serve()

    do_POST = do_PUT = do_HEAD = do_DELETE = do_GET

    def serve(self) -> None:
        operation = rest.route(self.command, self.path)
        document, payload, fault = None, {}, ""
        if operation == "upload" and self.faults.mode == "reset":
            fault = self.faults.of(operation)
        body = self.read_body(half=fault == "reset")
        try:
            if self.path.startswith("/graphql"):
                payload = json.loads(body)
                document = parse(payload["query"])
                operation = document.name or "anonymous"
            elif operation == "file_stream":
                payload = json.loads(body)
        except (ValueError, KeyError, DocumentError) as error:
            document, operation = None, f"unreadable {operation}: {error}"
        fault = fault or self.faults.of(operation)
        request = self.note(operation, payload, len(body), fault)
        if fault in _NO_EFFECT or (fault == "reset" and operation == "upload"):
            answer = self.faulty(fault, document)
        else:
            answer = self.answer(operation, document, payload, body)
        self.send(request, answer, fault)
        with self.service.state.changed:
            request.done = True
            self.service.state.changed.notify_all()

    def read_body(self, half: bool) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            chunks: list[bytes] = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            body = b"".join(chunks)
        else:
            size = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(size // 2 if half else size)
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def note(self, operation: str, payload: dict[str, Any], size: int, fault: str) -> Request:
        headers = {key.lower(): value for key, value in self.headers.items()}
        kept = {key: value for key, value in headers.items() if key in _KEPT_HEADERS or "wandb" in key}
        variables = rest.head_of(payload) if operation == "file_stream" else payload.get("variables") or {}
        now = time.time()
        request = Request(now, self.command, self.path, operation, kept, size=size, fault=fault, variables=variables)
        with self.service.state.changed:
            self.service.state.requests.append(request)
            self.service.state.changed.notify_all()
        return request

    def authorized(self) -> bool:
        kind, _, given = self.headers.get("Authorization", "").partition(" ")
        expected = base64.b64encode(f"api:{self.api_key}".encode()).decode()
        return kind == "Basic" and given == expected

    def answer(self, operation: str, document: Document | None, payload: dict[str, Any], body: bytes) -> Answer:
        try:
            if operation not in _OPEN_ROUTES and not self.authorized():
                return json_answer({"errors": [{"message": "invalid API key"}]}, 401)
            headers = {key.lower(): value for key, value in self.headers.items()}
            if document is not None:
                client = rest.client_of(headers)
                status, value = graphql.answer(self.service, document, payload.get("variables") or {}, client)
                return json_answer(value, status)
            if operation == "file_stream":
                return rest.file_stream(self.service, self.path, headers, payload)
            if operation == "upload":
                return rest.upload(self.service, self.path, body)
            if operation == "download":
                return rest.download(self.service, self.path)
            if operation == "metrics":
                return Answer(body=b"", content_type="application/x-protobuf")
        except Exception:  # noqa: BLE001 -- the fixture fails the test
            self.service.state.errors.append(traceback.format_exc())
            return json_answer({"errors": [{"message": "the test server failed"}]}, 500)
        self.service.state.unserved.append(f"{self.command} {self.path} {operation}")
        return Answer(404, b"not found", "text/plain")

    def faulty(self, fault: str, document: Document | None) -> Answer:
        """Returns the answer of a fault that keeps the request from taking effect; None if there is no such fault."""
        if fault == "http_500":
            return json_answer({"error": "internal server error"}, 500)
        if fault == "http_429":
            answer = json_answer({"error": "rate limit exceeded"}, 429)
            answer.headers["Retry-After"] = str(self.faults.retry_after)
            return answer
        if fault == "deny":
            operation = document.name if document else rest.route(self.command, self.path)
            status = self.faults.denied.get(operation) or (200 if document else 403)
            return json_answer({"errors": [{"message": "permission denied", "path": []}], "data": None}, status)
        if fault == "hang":
            self.faults.wait("hang")
        return Answer(0)

    def send(self, request: Request, answer: Answer, fault: str) -> None:
        """Sends an answer as the fault requires; `status` stays 0 if it is not sent whole."""
        if fault in ("drop", "drop_unhandled", "hang"):
            self.close_connection = True
            return
        try:
            if fault == "reset":
                self.reset(answer)
                return
            self.head(answer, len(answer.body))
            if self.command == "HEAD":
                pass
            elif fault == "slow":
                for index in range(len(answer.body)):
                    if self.faults.wait("slow", 1.0):
                        self.wfile.write(answer.body[index:])
                        break
                    self.wfile.write(answer.body[index : index + 1])
            else:
                self.wfile.write(answer.body)
            request.status = answer.status
        except OSError:
            self.close_connection = True

    def head(self, answer: Answer, length: int) -> None:
        self.send_response(answer.status)
        fields = {"Content-Type": answer.content_type, "Content-Length": str(length), **answer.headers}
        for key, value in fields.items():
            self.send_header(key, value)
        self.end_headers()

    def reset(self, answer: Answer) -> None:
        """Sends half of an answer, if there is one, and a TCP reset instead of the rest."""
        if answer.status:
            self.head(answer, len(answer.body))
            self.wfile.write(answer.body[: len(answer.body) // 2])
        # With a linger time of zero, close() discards unsent data and sends RST; the files share the socket.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.rfile.close()
        self.wfile.close()
        self.connection.close()
        self.close_connection = True
