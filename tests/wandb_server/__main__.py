"""Starts the server from the command line: `python -m tests.wandb_server [--port N] [--watch] [--fault MODE]`.

Prints its address and the environment that a client needs; on Ctrl-C, a report of what it received.
"""

from __future__ import annotations

import argparse
import shlex
import threading

from .faults import MODES
from .report import report, request_line
from .server import WandbServer
from .state import Request


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.wandb_server", description="A W&B server for tests.")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; default: a free one")
    parser.add_argument("--watch", action="store_true", help="print requests as they arrive")
    parser.add_argument("--fault", choices=MODES, default="none", help="fault to start with")
    options = parser.parse_args()
    with WandbServer(port=options.port) as server:
        server.faults.set(options.fault)
        print(f"serving {server.url} until Ctrl-C; for a client:")
        for key, value in server.env(quick=False).items():
            print(f"export {key}={shlex.quote(value)}")
        print(flush=True)
        try:
            if options.watch:
                watch(server)
            threading.Event().wait()
        except KeyboardInterrupt:
            print()
            print(report(server.state))


def watch(server: WandbServer) -> None:
    """Prints each request once it has been answered."""
    seen = 0
    waiting: list[Request] = []
    while True:
        with server.state.changed:
            server.state.changed.wait()
            waiting += server.state.requests[seen:]
            seen = len(server.state.requests)
            done = [request for request in waiting if request.done]
            waiting = [request for request in waiting if not request.done]
        for request in done:
            print(request_line(request), flush=True)


if __name__ == "__main__":
    main()
