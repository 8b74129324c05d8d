"""Builds the GraphQL nodes of artifacts: collections, aliases, memberships, versions, files."""

from __future__ import annotations

import mimetypes
from typing import Any

from .artifacts import Collection, Portfolio, Version, digest_hex
from .execute import Node, connection
from .nodes import project_info, run_node
from .service import Service, dumps, opaque, timestamp


def tag_node(name: str) -> Node:
    return {"__typename": "Tag", "id": opaque(f"Tag:{name}"), "name": name}


def collection_node(service: Service, collection: Collection) -> Node:
    def latest() -> Node | None:
        version = collection.live[-1] if collection.live else None
        return version_node(service, collection, version) if version else None

    def membership(arguments: dict[str, Any]) -> Node | None:
        version = collection.find(arguments["aliasName"])
        return membership_node(service, collection, version) if version else None

    return {
        "__typename": "ArtifactSequence",
        "id": collection.id,
        "name": collection.name,
        "description": collection.description,
        "state": "DELETED" if collection.deleted else "READY",
        "createdAt": timestamp(collection.created_at),
        "updatedAt": timestamp(collection.created_at),
        "project": lambda arguments: project_info(service, collection.entity, collection.project),
        "defaultArtifactType": {"__typename": "ArtifactType", "name": collection.type},
        "digestAlgorithm": "MANIFEST_MD5",
        "tags": lambda arguments: connection([tag_node(tag) for tag in collection.tags], arguments),
        "latestArtifact": lambda arguments: latest(),
        "artifacts": lambda arguments: connection(
            [version_node(service, collection, version) for version in reversed(collection.live)], arguments
        ),
        "aliases": lambda arguments: connection(
            [alias_node(service, collection, alias) for alias in collection.aliases], arguments
        ),
        "artifactMembership": membership,
    }


def alias_node(service: Service, collection: Collection, alias: str) -> Node:
    return {
        "__typename": "ArtifactAlias",
        "id": opaque(f"ArtifactAlias:{collection.id}:{alias}"),
        "alias": alias,
        "artifactCollection": lambda arguments: collection_node(service, collection),
    }


def membership_node(service: Service, collection: Collection, version: Version) -> Node:
    return {
        "__typename": "ArtifactCollectionMembership",
        "id": opaque(f"Membership:{version.id}"),
        "versionIndex": version.index,
        "createdAt": timestamp(version.created_at),
        "aliases": [alias_node(service, collection, alias) for alias in version.aliases],
        "artifactCollection": lambda arguments: collection_node(service, collection),
        "artifact": lambda arguments: version_node(service, collection, version),
        "files": lambda arguments: version_files(service, version, arguments),
    }


def portfolio_node(service: Service, portfolio: Portfolio) -> Node:
    return {
        "__typename": "ArtifactPortfolio",
        "id": portfolio.id,
        "name": portfolio.name,
        "project": lambda arguments: project_info(service, portfolio.entity, portfolio.project),
    }


def linked_node(service: Service, portfolio: Portfolio, alias: str) -> Node | None:
    """Returns the membership of a link, by an alias or a version's id."""
    found = service.state.version(portfolio.aliases.get(alias, alias))
    if found is None or found[1].deleted:
        return None
    names = [name for name, version_id in portfolio.aliases.items() if version_id == found[1].id]
    return {
        "__typename": "ArtifactCollectionMembership",
        "id": opaque(f"Membership:{portfolio.id}:{found[1].id}"),
        "versionIndex": portfolio.members.index(found[1].id),
        "createdAt": timestamp(found[1].created_at),
        "aliases": [
            {"__typename": "ArtifactAlias", "id": opaque(f"ArtifactAlias:{portfolio.id}:{name}"), "alias": name}
            for name in names
        ],
        "artifactCollection": lambda arguments: portfolio_node(service, portfolio),
        "artifact": lambda arguments: version_node(service, *found),
        "files": lambda arguments: version_files(service, found[1], arguments),
    }


def version_files(service: Service, version: Version, arguments: dict[str, Any]) -> Node:
    names = arguments.get("names")
    nodes = [
        file_node(service, version, name, entry)
        for name, entry in sorted(version.contents.items())
        if not names or name in names
    ]
    return connection(nodes, arguments, "FileConnection")


def file_node(service: Service, version: Version, name: str, entry: dict[str, Any]) -> Node:
    birth = entry.get("birthArtifactID") or version.id
    address = entry.get("ref") or service.blob_url(f"{birth}/{digest_hex(entry['digest'])}")
    return {
        "__typename": "File",
        "id": opaque(f"File:{version.id}:{name}"),
        "name": name,
        "displayName": name,
        "url": lambda arguments: address,
        "directUrl": address,
        "sizeBytes": int(entry.get("size") or 0),
        "storagePath": None,
        "mimetype": mimetypes.guess_type(name)[0],
        "updatedAt": timestamp(version.created_at),
        "digest": entry["digest"],
        "md5": entry["digest"],
    }


def version_node(service: Service, collection: Collection, version: Version) -> Node:
    def created_by() -> Node | None:
        run = service.state.runs.get(version.run or "")
        return run_node(service, run) if run else None

    def links() -> list[Node]:
        found = [each for each in service.state.portfolios.values() if version.id in each.members]
        return [node for each in found if (node := linked_node(service, each, version.id)) is not None]

    manifest = version.manifest
    current = {
        "__typename": "ArtifactManifest",
        "id": manifest.id if manifest else "",
        "digest": manifest.digest if manifest else "",
        "file": {"__typename": "File", "directUrl": service.manifest_url(manifest.id) if manifest else ""},
    }
    return {
        "__typename": "Artifact",
        "id": version.id,
        "artifactSequence": lambda arguments: collection_node(service, collection),
        "versionIndex": version.index,
        "version": version.name,
        "artifactType": {"__typename": "ArtifactType", "name": collection.type},
        "description": version.description,
        "metadata": dumps(version.metadata),
        "ttlDurationSeconds": -2 if version.ttl_seconds is None else version.ttl_seconds,
        "ttlIsInherited": version.ttl_seconds is None,
        "tags": [tag_node(tag) for tag in version.tags],
        "historyStep": version.history_step,
        "state": version.state,
        "size": version.size,
        "digest": version.digest,
        "digestAlgorithm": version.digest_algorithm,
        "commitHash": version.digest[:20],
        "fileCount": len(version.contents),
        "createdAt": timestamp(version.created_at),
        "updatedAt": timestamp(version.updated_at),
        "aliases": [alias_node(service, collection, alias) for alias in version.aliases],
        "currentManifest": current if manifest else None,
        "createdBy": lambda arguments: created_by(),
        "usedBy": lambda arguments: connection(
            [run_node(service, run) for run in service.state.runs.values() if version.id in run.input_artifacts],
            arguments,
        ),
        "artifactMemberships": lambda arguments: connection(
            [membership_node(service, collection, version), *links()], arguments
        ),
        "files": lambda arguments: version_files(service, version, arguments),
    }
