"""Answers POST /graphql.

Queries: viewer, serverInfo, entity, organization, project, model, models, artifact, artifactCollection,
clientIDMapping. Mutations: see `run_mutations`, `artifact_uploads`, `artifact_mutations` and `sweeps`. Not served:
lists of sweeps, launch, reports, lists of registries, removal of links, tags and new names of collections,
distributed artifacts, multipart uploads, forks and rewinds, automations, teams. `State.unserved` lists requests for
them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from . import artifact_mutations, artifact_uploads, run_mutations, sweeps
from .artifact_nodes import collection_node, version_node
from .document import Document
from .execute import GraphQLError, Node, connection, execute
from .nodes import user
from .project_nodes import project_node
from .service import Service

Mutation = Callable[[Service, dict[str, Any]], Node]


def query_root(service: Service) -> Node:
    state = service.state

    def artifact(arguments: dict[str, Any]) -> Node | None:
        found = state.version(arguments["id"])
        return version_node(service, *found) if found else None

    def collection(arguments: dict[str, Any]) -> Node | None:
        found = [item for item in state.collections.values() if item.id == arguments["id"]]
        return collection_node(service, found[0]) if found else None

    def model(arguments: dict[str, Any]) -> Node | None:
        """Returns the project for RunResumeStatus; notes which run the client is about to resume."""
        node = project_node(service, arguments.get("entityName"), arguments.get("name"))
        if node is None:
            return None

        def bucket(inner: dict[str, Any]) -> Node | None:
            run = state.runs.get(f"{node['entityName']}/{node['name']}/{inner['name']}")
            if run is not None and not run.deleted:
                run.resume_asked = True
            found: Node | None = node["run"](inner)
            return found

        return {**node, "bucket": bucket}

    def mapping(arguments: dict[str, Any]) -> Node | None:
        for item in state.collections.values():
            for version in item.versions:
                if version.client_id == arguments["clientID"]:
                    return {"serverID": version.id}
        return None

    def models(arguments: dict[str, Any]) -> Node:
        entity = arguments.get("entityName") or state.entity
        names = [name for owner, name in state.projects if owner == entity]
        nodes = [node for name in names if (node := project_node(service, entity, name)) is not None]
        return connection(nodes, arguments, "ProjectConnection")

    def entity(arguments: dict[str, Any]) -> Node:
        name = arguments.get("name") or state.entity
        return {
            "__typename": "Entity",
            "id": name,
            "name": name,
            "xxhashDigestsEnabled": False,
            "organization": {
                "__typename": "Organization",
                "name": f"{name}-org",
                "coreWeaveOrganizationId": None,
                "orgEntity": {"__typename": "Entity", "id": f"{name}-org", "name": f"{name}-org"},
            },
            "user": None,
            "project": lambda inner: project_node(service, name, inner.get("name")),
        }

    features = [{"__typename": "ServerFeature", "name": name, "isEnabled": True} for name in service.features]
    return {
        "__typename": "Query",
        "viewer": lambda arguments: user(service),
        "serverInfo": {"__typename": "ServerInfo", "features": features, "cliVersionInfo": {}},
        "entity": entity,
        "organization": None,
        "project": lambda arguments: project_node(service, arguments.get("entityName"), arguments.get("name")),
        "model": model,
        "models": models,
        "artifact": artifact,
        "artifactCollection": collection,
        "clientIDMapping": mapping,
    }


def mutation_root(service: Service, client: str) -> Node:
    def field(mutation: Mutation) -> Callable[[dict[str, Any]], Node]:
        return lambda arguments: mutation(service, arguments["input"])

    mutations: dict[str, Mutation] = {
        **run_mutations.MUTATIONS,
        **artifact_uploads.MUTATIONS,
        **artifact_mutations.MUTATIONS,
        **sweeps.MUTATIONS,
    }
    mutations["upsertBucket"] = functools.partial(run_mutations.upsert_bucket, client=client)
    return {"__typename": "Mutation", **{name: field(mutation) for name, mutation in mutations.items()}}


def answer(service: Service, document: Document, variables: Mapping[str, Any], client: str) -> tuple[int, Node]:
    """Returns the HTTP status and the body for one request; `client` is the id of a writer in shared mode."""
    with service.state.lock:
        root = query_root(service) if document.kind == "query" else mutation_root(service, client)
        try:
            return 200, {"data": execute(document, variables, root)}
        except GraphQLError as error:
            if str(error).startswith(("Cannot query", "unknown", "filter on")):
                service.state.unserved.append(f"{document.kind} {document.name}: {error}")
            return error.status, {"errors": [{"message": str(error), "path": []}], "data": None}
