"""Builds the GraphQL nodes of projects with their runs, sweeps, artifact types and collections."""

from __future__ import annotations

import json
from typing import Any

from .artifact_nodes import collection_node, linked_node, membership_node, version_node
from .artifacts import Collection
from .execute import Node, connection
from .filters import matches, ordered
from .nodes import project_info, run_node
from .runs import Run
from .service import Service, opaque, timestamp
from .sweeps import sweep_node


def project_node(service: Service, entity: str | None, name: str | None) -> Node | None:
    """Returns a project; None if nothing was ever sent to it."""
    state = service.state
    entity = entity or state.entity
    project = state.projects.get((entity, name or ""))
    if project is None:
        return None

    def runs(arguments: dict[str, Any]) -> list[Run]:
        found = state.runs_of(project.entity, project.name)
        condition = json.loads(arguments.get("filters") or "{}")
        found = [run for run in found if matches(run, condition)]
        return ordered(found, arguments.get("order"))

    def run(arguments: dict[str, Any]) -> Node | None:
        found = state.runs.get(f"{project.entity}/{project.name}/{arguments['name']}")
        return None if found is None or found.deleted else full_run_node(service, found)

    def collections() -> list[Collection]:
        return [
            collection
            for (owner, where, _), collection in state.collections.items()
            if (owner, where) == (project.entity, project.name) and not collection.deleted
        ]

    def collection(arguments: dict[str, Any]) -> Node | None:
        found = state.collections.get((project.entity, project.name, arguments["name"].partition(":")[0]))
        return None if found is None or found.deleted else collection_node(service, found)

    def membership(arguments: dict[str, Any]) -> Node | None:
        collection_name, _, alias = arguments["name"].partition(":")
        linked = state.portfolios.get((project.entity, project.name, collection_name))
        if linked is not None:
            return linked_node(service, linked, alias or "latest")
        found = state.collections.get((project.entity, project.name, collection_name))
        version = found.find(alias or "latest") if found else None
        return membership_node(service, found, version) if found and version else None

    def artifact(arguments: dict[str, Any]) -> Node | None:
        found = membership(arguments)
        return found["artifact"]({}) if found else None

    def types(name: str | None = None) -> list[Node]:
        names = sorted({found.type for found in collections()} if name is None else {name})
        return [type_node(service, kind, [found for found in collections() if found.type == kind]) for kind in names]

    return {
        **project_info(service, project.entity, project.name),
        "run": run,
        "bucket": run,
        "runs": lambda arguments: connection(
            [full_run_node(service, found) for found in runs(arguments)], arguments, "RunConnection"
        ),
        "runCount": lambda arguments: len(runs(arguments)),
        "sweep": lambda arguments: sweep_node(service, project.entity, project.name, arguments["sweepName"]),
        "artifactTypes": lambda arguments: connection(types(), arguments),
        "artifactType": lambda arguments: types(arguments["name"])[0],
        "artifactCollection": collection,
        "artifactCollections": lambda arguments: connection(
            [collection_node(service, found) for found in collections()], arguments
        ),
        "artifactCollectionMembership": membership,
        "artifact": artifact,
    }


def full_run_node(service: Service, run: Run) -> Node:
    """Returns a run with the artifacts that it logged and used."""

    def artifacts(ids: list[str], *states: str) -> list[Node]:
        found = [service.version_of(artifact_id) for artifact_id in ids]
        return [version_node(service, *pair) for pair in found if pair[1].state in states]

    return {
        **run_node(service, run),
        # As W&B's service does: uploads that have not ended are among them.
        "outputArtifacts": lambda arguments: connection(
            artifacts(run.output_artifacts, "PENDING", "COMMITTED"), arguments
        ),
        "inputArtifacts": lambda arguments: connection(artifacts(run.input_artifacts, "COMMITTED"), arguments),
    }


def type_node(service: Service, name: str, collections: list[Collection]) -> Node:
    by_name = {collection.name: collection_node(service, collection) for collection in collections}
    return {
        "__typename": "ArtifactType",
        "id": opaque(f"ArtifactType:{name}"),
        "name": name,
        "description": None,
        "createdAt": timestamp(0),
        "artifactCollections": lambda arguments: connection(list(by_name.values()), arguments),
        "artifactCollection": lambda arguments: by_name.get(arguments["name"]),
    }
