"""Builds the GraphQL nodes of the account, and of runs with their files and console."""

from __future__ import annotations

import json
import mimetypes
import re
from typing import Any

from .execute import Node, connection
from .history import history, history_keys, history_rows, sampled_history, spread, wandb_config
from .runs import CONSOLE, EVENTS, HISTORY, Run, RunFile
from .service import Service, dumps, md5, opaque, timestamp

_CONSOLE_LINE = re.compile(r"^(?:(?P<level>ERROR) )?(?P<time>\d{4}-\d\d-\d\dT[\d:.]+Z?) (?P<line>.*)$", re.DOTALL)


def run_file(service: Service, run: Run, file: RunFile) -> Node:
    address = service.run_file_url(run.path, file.name)
    data = file.data or b""
    return {
        "__typename": "File",
        "id": f"{run.storage_id}:{file.name}",
        "name": file.name,
        "displayName": file.name,
        "url": lambda arguments: address,
        "directUrl": address,
        "uploadUrl": address,
        "sizeBytes": len(data),
        "mimetype": mimetypes.guess_type(file.name)[0],
        "updatedAt": timestamp(file.updated_at),
        "md5": md5(data),
    }


def run_files(service: Service, run: Run, arguments: dict[str, Any]) -> Node:
    """Returns the files whose bytes have arrived, by names or by an SQL LIKE pattern."""
    files = [file for _, file in sorted(run.files.items()) if file.data is not None]
    if arguments.get("names"):
        files = [file for file in files if file.name in arguments["names"]]
    if arguments.get("pattern"):
        like = re.escape(arguments["pattern"]).replace("%", ".*").replace("_", ".")
        files = [file for file in files if re.fullmatch(like, file.name)]
    return connection([run_file(service, run, file) for file in files], arguments, "FileConnection")


def console_lines(run: Run, arguments: dict[str, Any]) -> Node:
    nodes: list[Node] = []
    for number, text in enumerate(run.lines(CONSOLE)):
        match = _CONSOLE_LINE.match(text)
        level = "error" if match and match["level"] else "info"
        time, line = (match["time"], match["line"]) if match else ("", text)
        nodes.append({"number": number, "timestamp": time, "level": level, "label": "", "line": line.rstrip("\n")})
    return connection(nodes, arguments, "LogLineConnection")


def user(service: Service) -> Node:
    """Returns the only account."""
    state = service.state
    return {
        "__typename": "User",
        "id": "VXNlcjox",
        "name": state.username,
        "username": state.username,
        "email": f"{state.username}@example.com",
        "entity": state.entity,
        "flags": "{}",
        "admin": False,
        "deletedAt": None,
        "apiKeys": lambda arguments: connection([], arguments),
        "teams": lambda arguments: connection([{"__typename": "Entity", "name": state.entity}], arguments),
    }


def project_info(service: Service, entity: str, name: str) -> Node:
    """Returns a project's names; `project_nodes` adds its content."""
    project = service.state.project(entity, name)
    return {
        "__typename": "Project",
        "id": opaque(f"Project:{project.number}"),
        "internalId": opaque(f"ProjectInternalId:{project.number}"),
        "name": project.name,
        "entityName": project.entity,
        "entity": {"__typename": "Entity", "id": opaque(f"Entity:{project.entity}"), "name": project.entity},
        "createdAt": timestamp(project.created_at),
        "updatedAt": timestamp(project.created_at),
        "description": None,
        "access": "USER_READ",
        "views": "{}",
        "readOnly": False,
        "isBenchmark": False,
        "user": lambda arguments: user(service),
    }


def run_node(service: Service, run: Run) -> Node:
    """Returns a run; `project_nodes` adds its artifacts."""
    tail = 10
    return {
        "__typename": "Run",
        "id": run.storage_id,
        "name": run.id,
        "projectId": service.state.project(run.entity, run.project).number,
        "project": lambda arguments: project_info(service, run.entity, run.project),
        "displayName": run.display_name,
        "description": run.description,
        "notes": run.notes,
        "state": run.state,
        "tags": list(run.tags),
        "group": run.group or None,
        "jobType": run.job_type or None,
        "sweepName": run.sweep or None,
        "commit": run.commit or None,
        "host": run.host or None,
        "readOnly": False,
        "stopped": run.stop_requested,
        "createdAt": timestamp(run.created_at),
        "heartbeatAt": timestamp(run.heartbeat_at),
        "user": lambda arguments: user(service),
        "config": lambda arguments: dumps(run.raw_config),
        "wandbConfig": lambda arguments: wandb_config(run, arguments.get("keys")),
        "summaryMetrics": lambda arguments: dumps(run.summary),
        "systemMetrics": lambda arguments: dumps(run.events[-1] if run.events else {}),
        "historyLineCount": len(run.lines(HISTORY)),
        "eventsLineCount": len(run.lines(EVENTS)),
        "logLineCount": len(run.lines(CONSOLE)),
        "historyTail": lambda arguments: json.dumps([dumps(row) for row in history_rows(run)[-tail:]]),
        "eventsTail": lambda arguments: json.dumps([dumps(row) for row in run.events[-tail:]]),
        "historyKeys": lambda arguments: history_keys(run),
        "history": lambda arguments: history(run, arguments),
        "events": lambda arguments: [dumps(row) for row in spread(run.events, arguments.get("samples"))],
        "sampledHistory": lambda arguments: sampled_history(run, arguments),
        "parquetHistory": lambda arguments: {"parquetUrls": [], "liveData": []},
        "logLines": lambda arguments: console_lines(run, arguments),
        "files": lambda arguments: run_files(service, run, arguments),
        "fileCount": sum(file.data is not None for file in run.files.values()),
    }
