"""Answers GraphQL mutations of runs and projects. Each takes the `input` object and returns the payload."""

from __future__ import annotations

import json
from typing import Any

from .execute import GraphQLError, Node, merge
from .nodes import project_info
from .project_nodes import full_run_node
from .runs import Run, RunFile
from .service import Service
from .state import Alert

# Maps names in the input of UpsertBucket to attributes of Run. Absent and null values change nothing.
_FIELDS = {
    "displayName": "display_name",
    "notes": "notes",
    "description": "description",
    "groupName": "group",
    "jobType": "job_type",
    "tags": "tags",
    "host": "host",
    "jobProgram": "program",
    "commit": "commit",
    "sweep": "sweep",
}


def _run(service: Service, given: dict[str, Any]) -> Run:
    """Returns the run that `entityName`, `projectName` and `runName` of an input name."""
    path = f"{given.get('entityName') or service.state.entity}/{given['projectName']}/{given['runName']}"
    run = service.state.runs.get(path)
    if run is None or run.deleted:
        raise GraphQLError(f"run {path} not found", status=404)
    return run


def _run_by_id(service: Service, storage_id: str) -> Run:
    run = service.state.run_by_storage_id(storage_id)
    if run is None or run.deleted:
        raise GraphQLError(f"run {storage_id} not found", status=404)
    return run


def upsert_bucket(service: Service, given: dict[str, Any], client: str = "") -> Node:
    """Creates or updates a run: by name, as a writing client does, or by id, as wandb.Api does.

    `client` is the id of a writer in shared mode.
    """
    state = service.state
    inserted = False
    if given.get("id"):
        run = _run_by_id(service, given["id"])
    else:
        entity = given.get("entityName") or state.entity
        project = given.get("modelName") or "uncategorized"
        name = given.get("name") or f"r{state.number():07d}"
        state.project(entity, project)
        old = state.runs.get(f"{entity}/{project}/{name}")
        if old is None or old.deleted:
            number = len(state.runs_of(entity, project)) + 1
            old = Run(entity, project, name, state.new_id("Run"), f"quiet-test-{number}", crash_after=state.crash_after)
            state.runs[old.path] = old
            inserted = True
        run = old
        run.join(client)
    for key, attribute in _FIELDS.items():
        if given.get(key) is not None:
            setattr(run, attribute, given[key])
    if given.get("config"):
        config = json.loads(given["config"])
        # A writer in shared mode knows only its own config: the keys of others stay.
        run.raw_config = merge(run.raw_config, config) if client else config
    if given.get("summaryMetrics"):
        run.summary = json.loads(given["summaryMetrics"])
    if given.get("state") in ("pending", "running"):
        run.forced_state = "pending" if given["state"] == "pending" else ""
    return {"bucket": full_run_node(service, run), "inserted": inserted}


def delete_run(service: Service, given: dict[str, Any]) -> Node:
    run = _run_by_id(service, given["id"])
    run.deleted = True
    if given.get("deleteArtifacts"):
        for artifact_id in run.output_artifacts:
            collection, version = service.version_of(artifact_id)
            collection.delete(version)
    return {"clientMutationId": None}


def update_run_state(service: Service, given: dict[str, Any]) -> Node:
    _run_by_id(service, given["id"]).forced_state = given["state"]
    return {"success": True}


def stop_run(service: Service, given: dict[str, Any]) -> Node:
    """Asks the client to stop: the next answer to file_stream says so."""
    _run_by_id(service, given["id"]).stop_requested = True
    return {"success": True}


def create_run_files(service: Service, given: dict[str, Any]) -> Node:
    """Returns where to PUT files of a run."""
    run = _run(service, given)
    for name in given["files"]:
        run.files.setdefault(name, RunFile(name))
    files = [
        {"__typename": "File", "name": name, "uploadUrl": service.run_file_url(run.path, name)}
        for name in given["files"]
    ]
    return {"runID": run.storage_id, "uploadHeaders": [], "files": files}


def mark_run_files_uploaded(service: Service, given: dict[str, Any]) -> Node:
    run = _run(service, given)
    for name in given["files"]:
        run.files.setdefault(name, RunFile(name)).confirmed = True
    return {"success": True}


def delete_files(service: Service, given: dict[str, Any]) -> Node:
    """Deletes files of runs; a file's id is `storage id:name`."""
    for file_id in given["files"]:
        storage_id, _, name = file_id.partition(":")
        _run_by_id(service, storage_id).files.pop(name, None)
    return {"success": True}


def notify_alert(service: Service, given: dict[str, Any]) -> Node:
    run = _run(service, given)
    service.state.alerts.append(
        Alert(run.path, given["title"], given["text"], given.get("severity") or "INFO", given.get("waitDuration"))
    )
    return {"success": True}


def upsert_model(service: Service, given: dict[str, Any]) -> Node:
    """Creates a project."""
    state = service.state
    entity = given.get("entityName") or state.entity
    inserted = (entity, given["name"]) not in state.projects
    project = project_info(service, entity, given["name"])
    return {"project": project, "model": project, "inserted": inserted}


MUTATIONS = {
    "deleteRun": delete_run,
    "updateRunState": update_run_state,
    "stopRun": stop_run,
    "createRunFiles": create_run_files,
    "markRunFilesUploaded": mark_run_files_uploaded,
    "deleteFiles": delete_files,
    "notifyScriptableRunAlert": notify_alert,
    "upsertModel": upsert_model,
}
