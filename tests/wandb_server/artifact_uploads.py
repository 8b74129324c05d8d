"""Answers the GraphQL mutations of an upload: create a version, upload its manifest and files, commit it."""

from __future__ import annotations

import json
from typing import Any

from .artifact_nodes import version_node
from .artifacts import Collection, Manifest, Version, digest_hex
from .execute import GraphQLError, Node, connection
from .service import Service


def find_version(service: Service, artifact_id: str) -> tuple[Collection, Version]:
    found = service.state.version(artifact_id)
    if found is None:
        raise GraphQLError(f"artifact {artifact_id} not found", status=404)
    return found


def _collection(service: Service, given: dict[str, Any]) -> Collection:
    """Returns the collection that an input of CreateArtifact names; creates it if it is new."""
    state = service.state
    entity, project = given.get("entityName") or state.entity, given["projectName"]
    name = given.get("artifactCollectionName") or given["artifactCollectionNames"][0]
    state.project(entity, project)
    found = state.collections.get((entity, project, name))
    if found is None or found.deleted:
        new_id = state.new_id("ArtifactCollection")
        found = state.collections[entity, project, name] = Collection(
            new_id, entity, project, name, given["artifactTypeName"]
        )
    if found.type != given["artifactTypeName"]:
        raise GraphQLError(f"artifact collection {name} already exists with the type {found.type}", status=400)
    return found


def create_artifact(service: Service, given: dict[str, Any]) -> Node:
    """Creates a pending version; returns the existing one if its client id (a retry) or digest is the same."""
    collection = _collection(service, given)
    aliases = [item["alias"] for item in given.get("aliases") or []]
    version = next(
        (item for item in collection.versions if item.client_id == given.get("clientID") is not None), None
    ) or next((item for item in collection.live if item.digest == given["digest"]), None)
    if version is None:
        version = Version(service.state.new_id("Artifact"), collection.id, given["digest"], given.get("clientID"))
        collection.versions.append(version)
        version.description = given.get("description")
        version.metadata = json.loads(given.get("metadata") or "{}")
        version.aliases = aliases
        version.tags = [item["tagName"] for item in given.get("tags") or []]
        version.digest_algorithm = given.get("digestAlgorithm") or version.digest_algorithm
        version.ttl_seconds = given.get("ttlDurationSeconds")
        version.history_step = given.get("historyStep")
    elif version.state == "COMMITTED":
        collection.move_aliases(version, aliases)
    if given.get("runName"):
        path = f"{collection.entity}/{collection.project}/{given['runName']}"
        version.run = version.run or path
        run = service.state.runs.get(path)
        if run is not None and version.id not in run.output_artifacts:
            run.output_artifacts.append(version.id)
    return {"__typename": "CreateArtifactPayload", "artifact": version_node(service, collection, version)}


def _manifest_node(service: Service, manifest: Manifest) -> Node:
    file = {"id": manifest.id, "uploadUrl": service.manifest_url(manifest.id), "uploadHeaders": []}
    return {"artifactManifest": {"id": manifest.id, "digest": manifest.digest, "file": file}}


def create_manifest(service: Service, given: dict[str, Any]) -> Node:
    """Returns the manifest's id, and in the second call for a version also the URL to upload it to."""
    _, version = find_version(service, given["artifactID"])
    kind, digest = given.get("type") or "FULL", given.get("digest") or ""
    manifest = next((item for item in version.manifests if item.kind == kind), None)
    if manifest is None:
        manifest = Manifest(service.state.new_id("ArtifactManifest"), version.id, kind, digest)
        version.manifests.append(manifest)
    manifest.digest, manifest.base_id = digest, given.get("baseArtifactID")
    return _manifest_node(service, manifest)


def update_manifest(service: Service, given: dict[str, Any]) -> Node:
    for collection in service.state.collections.values():
        for version in collection.versions:
            for manifest in version.manifests:
                if manifest.id == given["artifactManifestID"]:
                    manifest.digest = given.get("digest") or manifest.digest
                    manifest.base_id = given.get("baseArtifactID") or manifest.base_id
                    return _manifest_node(service, manifest)
    raise GraphQLError("artifact manifest not found", status=404)


def create_files(service: Service, given: dict[str, Any]) -> Node:
    """Returns where to PUT the files of a version; files that the collection already has need no upload."""
    nodes: list[Node] = []
    for item in given["artifactFiles"]:
        collection, version = find_version(service, item["artifactID"])
        digest = digest_hex(item["md5"])
        births = [other.id for other in collection.versions if f"{other.id}/{digest}" in service.state.blobs]
        birth = births[0] if births else version.id
        key = f"{birth}/{digest}"
        nodes.append(
            {
                "name": item["name"],
                "displayName": item["name"],
                "storagePath": f"artifacts/{key}",
                "uploadUrl": None if births else service.blob_url(key),
                "uploadHeaders": [],
                "uploadMultipartUrls": None,
                "artifact": {"id": birth},
            }
        )
    return {"files": connection(nodes, {})}


def commit_artifact(service: Service, given: dict[str, Any]) -> Node:
    """Commits a version; fails unless every file of its manifest has arrived."""
    collection, version = find_version(service, given["artifactID"])
    manifest = version.manifest
    if manifest is None:
        raise GraphQLError("the artifact has no manifest", status=400)
    if manifest.kind == "INCREMENTAL" and manifest.base_id:
        manifest.add_base(find_version(service, manifest.base_id)[1].contents)
    for name, entry in version.contents.items():
        key = f"{entry.get('birthArtifactID')}/{digest_hex(entry['digest'])}" if "ref" not in entry else ""
        if key and key not in service.state.blobs:
            raise GraphQLError(f"the artifact lacks the bytes of {name}", status=400)
    collection.commit(version)
    return {"artifact": version_node(service, collection, version)}


MUTATIONS = {
    "createArtifact": create_artifact,
    "createArtifactManifest": create_manifest,
    "updateArtifactManifest": update_manifest,
    "createArtifactFiles": create_files,
    "commitArtifact": commit_artifact,
}
