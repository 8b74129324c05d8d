"""Formats what a server received, for the command line."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from .runs import Run
from .state import Request, State


def request_line(request: Request) -> str:
    clock = datetime.fromtimestamp(request.time).strftime("%H:%M:%S.%f")[:-3]
    files = request.variables.get("files") if request.operation == "file_stream" else None
    detail = f" {files}" if files else "" if request.operation != "other" else f" {request.path}"
    fault = f" [{request.fault}]" if request.fault else ""
    return f"{clock} {request.method} {request.operation}{detail} -> {request.status or 'no answer'}{fault}"


def run_lines(run: Run) -> list[str]:
    state = "deleted" if run.deleted else run.state
    lines = [f"run {run.path} {run.display_name!r}: {state}, exit code {run.exit_code}, resumed {run.resumed} times"]
    history = run.history
    keys = sorted({key for row in history for key in row if not key.startswith("_")})
    facts = {
        "config": run.config,
        "tags": run.tags,
        "group, job type": [run.group, run.job_type] if run.group or run.job_type else None,
        "history": f"{len(history)} rows, keys {keys}" if history else None,
        "summary": {key: value for key, value in run.summary.items() if not key.startswith("_")},
        "system metrics": f"{len(run.events)} rows" if run.events else None,
        "console": f"{len(run.console)} lines" if run.console else None,
        "files": [f"{name} ({len(file.data or b'')} B)" for name, file in sorted(run.files.items())],
        "shared mode clients": run.clients,
    }
    return lines + [f"    {name}: {value}" for name, value in facts.items() if value]


def report(state: State) -> str:
    """Returns a report of about a page."""
    with state.lock:
        lines: list[str] = []
        for run in state.runs.values():
            lines += run_lines(run)
        for collection in state.collections.values():
            lines.append(f"artifact {collection.entity}/{collection.project}/{collection.name} ({collection.type})")
            for version in collection.versions:
                lines.append(
                    f"    {version.name}: {version.state}, {len(version.contents)} files, {version.size} B, "
                    f"aliases {version.aliases}"
                )
        lines += [f"alert {alert.level} of {alert.run}: {alert.title!r} {alert.text!r}" for alert in state.alerts]
        counts = Counter(request.operation for request in state.requests)
        lines.append("requests: " + ", ".join(f"{name} {count}" for name, count in counts.most_common()))
        lines += [f"not served: {text}" for text in state.unserved]
        lines += [f"failure of the server: {text}" for text in state.errors]
        return "\n".join(lines)
