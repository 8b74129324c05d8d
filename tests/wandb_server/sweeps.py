"""Answers requests of `wandb.sweep` and `wandb.agent`: a sweep runs every combination of values once.

Searches, early stopping and stopping a run are not supported. A sweep's configuration can be read back.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from .execute import GraphQLError, Node
from .nodes import project_info
from .service import Service


@dataclass
class Sweep:
    """A sweep, its configuration (YAML), and the combinations of values that no agent has received yet."""

    name: str
    entity: str
    project: str
    config: str
    trials: Iterator[dict[str, Any]]


def upsert_sweep(service: Service, given: dict[str, Any]) -> Node:
    entity = given.get("entityName") or service.state.entity
    parameters: dict[str, Any] = yaml.safe_load(given["config"])["parameters"]
    combinations = itertools.product(*(spec["values"] for spec in parameters.values()))
    trials = (dict(zip(parameters, values, strict=True)) for values in combinations)
    sweep = Sweep(f"s{service.state.number():07d}", entity, given["projectName"], given["config"], trials)
    service.state.sweeps[sweep.name] = sweep
    project = project_info(service, entity, sweep.project)
    return {"sweep": {"name": sweep.name, "project": project}, "configValidationWarnings": []}


def sweep_node(service: Service, entity: str, project: str, name: str) -> Node | None:
    """Returns the sweep as `wandb.Api().sweep` reads it; None if no sweep has the name."""
    sweep = service.state.sweeps.get(name)
    if sweep is None or (sweep.entity, sweep.project) != (entity, project):
        return None
    of_it = [run for run in service.state.runs_of(entity, project) if run.sweep == name]
    return {
        "__typename": "Sweep",
        "id": name,
        "name": name,
        "displayName": None,
        "method": yaml.safe_load(sweep.config)["method"],
        "state": "RUNNING",
        "description": None,
        "bestLoss": None,
        "config": sweep.config,
        "createdAt": None,
        "updatedAt": None,
        "runCount": len(of_it),
        "runCountExpected": None,
    }


def create_agent(service: Service, given: dict[str, Any]) -> Node:
    """Creates an agent; its id contains the name of its sweep."""
    if given["sweep"] not in service.state.sweeps:
        raise GraphQLError(f"sweep {given['sweep']} not found", status=404)
    return {"agent": {"id": f"{given['sweep']}:{service.state.number()}"}}


def agent_heartbeat(service: Service, given: dict[str, Any]) -> Node:
    """Returns the agent's next command: to start a run, if none of its runs is active."""
    sweep = service.state.sweeps[given["id"].partition(":")[0]]
    trial = None if json.loads(given["runState"]) else next(sweep.trials, None)
    commands = []
    if trial is not None:
        arguments = {name: {"value": value} for name, value in trial.items()}
        commands = [{"type": "run", "run_id": f"t{service.state.number():07d}", "args": arguments}]
    return {"agent": {"id": given["id"]}, "commands": json.dumps(commands)}


MUTATIONS = {"upsertSweep": upsert_sweep, "createAgent": create_agent, "agentHeartbeat": agent_heartbeat}
