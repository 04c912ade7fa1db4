"""A stage's part of a service's `.chalice/config.json`, made from the stack list and its outputs.

What belongs to the code (memory, time-out, tracing, policy file) is written by its author in
`config.json`; what belongs to the deployment (name, region, environment, endpoint type) is put in
here. The stage is named after its region: Chalice does not tie the two together, and a stage of
another name would be deployed to whatever region the shell happens to have.

Downside: `configure` changes a file of the checkout. It writes only when something changes, and
never a secret.

Errors: `ConfigureError`, alone in its tree, with every reason.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from infra.stacks import CHALICE_API_STAGE, Application, network_of, parameters_of
from infra.topology import Topology

REQUIRED: Mapping[str, tuple[str, ...]] = {"health": ("DEPENDENCIES",)}
"""Environment variables that the code of a folder needs, besides SERVICE_NAME."""


class ConfigureError(Exception):
    """A service cannot be configured. `reasons` lists every fault."""

    def __init__(self, what: str, reasons: tuple[str, ...]) -> None:
        self.reasons = reasons
        super().__init__(f"{what} cannot be configured:\n" + "\n".join(f"  - {r}" for r in reasons))


def stage_part(
    topology: Topology, step: Application, outputs: Mapping[str, Mapping[str, str]]
) -> dict[str, Any]:
    """What the deployment adds to the stage of `step`.

    `outputs`: step name -> output name -> value, of the steps done before. Raises ConfigureError
    for a region that the topology does not have, a required variable that is missing or a value
    that is no string; WiringError when an output is missing.
    """
    environment = parameters_of(step, outputs)
    reasons = [*_region_faults(topology, step), *_environment_faults(step.name, environment)]
    needed = ("SERVICE_NAME", *REQUIRED.get(step.folder, ()))
    reasons += [
        f"environment variable {key} is missing" for key in needed if key not in environment
    ]
    if reasons:
        raise ConfigureError(step.name, tuple(reasons))
    return {
        "api_gateway_stage": CHALICE_API_STAGE,
        "api_gateway_endpoint_type": "REGIONAL",
        "environment_variables": environment,
        **network_of(step, outputs),
    }


def configured(
    config: Mapping[str, Any], step: Application, part: Mapping[str, Any]
) -> dict[str, Any]:
    """`config` (a whole config.json) with `part` in the stage of `step`; other stages stay.

    A single function of that stage may have variables of its own; the ones that `part` has too are
    the author's stand-ins and get the same value, because Chalice prefers the function's.

    The application takes the name of the service, so that services which share code do not
    share functions. Raises ConfigureError when a value of an environment is no string, which
    Chalice would answer with a traceback.
    """
    stages = dict(config.get("stages", {}))
    stage = dict(stages.get(step.region, {}))
    own = stage.get("environment_variables", {})
    stages[step.region] = {
        **stage,
        **part,
        "environment_variables": {**own, **part["environment_variables"]},
    }
    if "lambda_functions" in stage:
        stages[step.region]["lambda_functions"] = {
            name: _without_stand_ins(function, part["environment_variables"])
            for name, function in stage["lambda_functions"].items()
        }
    result = {**config, "app_name": step.service, "stages": stages}
    reasons = tuple(_config_faults(result))
    if reasons:
        raise ConfigureError(step.name, reasons)
    return result


def _without_stand_ins(
    function: Mapping[str, Any], environment: Mapping[str, str]
) -> dict[str, Any]:
    if "environment_variables" not in function:
        return dict(function)
    own = function["environment_variables"]
    return {
        **function,
        "environment_variables": {key: environment.get(key, value) for key, value in own.items()},
    }


def write_config(
    service_dir: Path,
    topology: Topology,
    step: Application,
    outputs: Mapping[str, Mapping[str, str]],
) -> bool:
    """Puts the stage of `step` into `service_dir`/.chalice/config.json; True when it changed.

    The file is replaced as a whole, so a reader sees the old one or the new one. Raises
    ConfigureError or WiringError and leaves the file as it was.
    """
    path = service_dir / ".chalice" / "config.json"
    try:
        before = path.read_text()
        config = json.loads(before)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConfigureError(step.name, (f"{path}: {error}",)) from None
    if not isinstance(config, dict):
        raise ConfigureError(step.name, (f"{path}: not a JSON object",))
    result = configured(config, step, stage_part(topology, step, outputs))
    if result == config:
        return False
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(result, indent=2) + "\n")
    draft.replace(path)
    return True


def _region_faults(topology: Topology, step: Application) -> Iterator[str]:
    if step.region not in topology.regions:
        known = ", ".join(topology.regions)
        yield f"stage {step.region!r} is not a region of the topology; known are {known}"
    if step.service not in topology.services:
        yield f"service {step.service!r} is not in the topology"


def _config_faults(config: Mapping[str, Any]) -> Iterator[str]:
    yield from _environment_faults("config.json", config.get("environment_variables", {}))
    for name, stage in config["stages"].items():
        at = f"stage {name}"
        yield from _environment_faults(at, stage.get("environment_variables", {}))
        for function, part in stage.get("lambda_functions", {}).items():
            variables = part.get("environment_variables", {})
            yield from _environment_faults(f"{at}, function {function}", variables)


def _environment_faults(at: str, environment: Mapping[str, Any]) -> Iterator[str]:
    for key, value in environment.items():
        if not isinstance(value, str):
            yield f"{at}: environment variable {key} is {value!r}, not a string"
