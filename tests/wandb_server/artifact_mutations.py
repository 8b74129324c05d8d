"""Answers GraphQL mutations of existing artifacts: use, aliases, metadata, links, deletion."""

from __future__ import annotations

import json
from typing import Any

from .artifact_nodes import collection_node, linked_node, version_node
from .artifact_uploads import find_version
from .artifacts import Collection, Portfolio
from .execute import GraphQLError, Node
from .service import Service


def use_artifact(service: Service, given: dict[str, Any]) -> Node:
    collection, version = find_version(service, given["artifactID"])
    path = f"{given.get('entityName') or service.state.entity}/{given['projectName']}/{given['runName']}"
    run = service.state.runs.get(path)
    if run is not None and version.id not in run.input_artifacts:
        run.input_artifacts.append(version.id)
    return {"artifact": version_node(service, collection, version)}


def update_artifact(service: Service, given: dict[str, Any]) -> Node:
    collection, version = find_version(service, given["artifactID"])
    if given.get("description") is not None:
        version.description = given["description"]
    if given.get("metadata") is not None:
        version.metadata = json.loads(given["metadata"])
    if given.get("ttlDurationSeconds") is not None:
        version.ttl_seconds = given["ttlDurationSeconds"]
    added = [item["tagName"] for item in given.get("tagsToAdd") or []]
    removed = [item["tagName"] for item in given.get("tagsToDelete") or []]
    version.tags = [tag for tag in dict.fromkeys([*version.tags, *added]) if tag not in removed]
    return {"artifact": version_node(service, collection, version)}


def add_aliases(service: Service, given: dict[str, Any]) -> Node:
    collection, version = find_version(service, given["artifactID"])
    collection.move_aliases(version, [item["alias"] for item in given["aliases"]])
    return {"success": True}


def delete_aliases(service: Service, given: dict[str, Any]) -> Node:
    _, version = find_version(service, given["artifactID"])
    gone = {item["alias"] for item in given["aliases"]}
    version.aliases = [alias for alias in version.aliases if alias not in gone]
    return {"success": True}


def delete_artifact(service: Service, given: dict[str, Any]) -> Node:
    collection, version = find_version(service, given["artifactID"])
    if version.aliases and not given.get("deleteAliases"):
        raise GraphQLError(f"cannot delete an artifact that has aliases: {version.aliases}", status=400)
    collection.delete(version)
    return {"artifact": version_node(service, collection, version)}


def link_artifact(service: Service, given: dict[str, Any]) -> Node:
    """Links a committed version to a collection of links; creates that if it is new."""
    _, version = find_version(service, given["artifactID"])
    if version.state != "COMMITTED":
        raise GraphQLError("only committed artifacts can be linked", status=400)
    state, key = service.state, (given["entityName"], given["projectName"], given["artifactPortfolioName"])
    state.project(*key[:2])
    portfolio = state.portfolios.setdefault(key, Portfolio(state.new_id("ArtifactPortfolio"), *key))
    portfolio.link(version, [item["alias"] for item in given.get("aliases") or []])
    membership = linked_node(service, portfolio, version.id)
    return {"versionIndex": portfolio.members.index(version.id), "artifactMembership": membership}


def _sequence(service: Service, given: dict[str, Any]) -> Collection:
    for collection in service.state.collections.values():
        if collection.id == given["artifactSequenceID"] and not collection.deleted:
            return collection
    raise GraphQLError("artifact collection not found", status=404)


def delete_sequence(service: Service, given: dict[str, Any]) -> Node:
    collection = _sequence(service, given)
    for version in collection.live:
        collection.delete(version)
    collection.deleted = True
    return {"artifactCollection": collection_node(service, collection)}


def describe_sequence(service: Service, given: dict[str, Any]) -> Node:
    collection = _sequence(service, given)
    if given.get("description") is not None:
        collection.description = given["description"]
    return {"artifactCollection": collection_node(service, collection)}


MUTATIONS = {
    "useArtifact": use_artifact,
    "updateArtifact": update_artifact,
    "addAliases": add_aliases,
    "deleteAliases": delete_aliases,
    "deleteArtifact": delete_artifact,
    "linkArtifact": link_artifact,
    "deleteArtifactSequence": delete_sequence,
    "updateArtifactSequence": describe_sequence,
}
