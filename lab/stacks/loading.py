"""The steps of a topology, one after the other, become one `Deployment`. See the package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from infra.stacks import Application, Stack, Step, WiringError, parameters_of
from infra.templates import template
from infra.topology import Topology
from lab.model import Deployment, Resource
from lab.stacks.applications import (
    FUNCTION,
    ApplicationNames,
    PackagedApplication,
    event_faults,
    without_transform,
)
from lab.stacks.catalog import CLUSTER, DEFAULT_CONTROL_PANEL, EMULATED, INERT, default_panel_arn
from lab.stacks.checks import refusals
from lab.stacks.errors import RefusedError, TemplateError, UnsupportedResourceType
from lab.stacks.template import Prepared, StackRun

Packages = Mapping[tuple[str, str], PackagedApplication]
"""(code folder, region) -> package."""


def deploy(steps: Sequence[Step], topology: Topology, applications: Packages) -> Deployment:
    """All emulated resources and all outputs of `steps`, as AWS would have them afterwards.

    `steps`: from `infra.stacks.stack_list`. `applications`: a package for each code folder and
    region that the steps name. Raises a StackError (see `lab.stacks.errors`).
    """
    templates = {
        name: template(name, topology)
        for name in dict.fromkeys(s.template for s in steps if isinstance(s, Stack))
    }
    return resolve(steps, templates, applications)


def outputs_before_applications(
    steps: Sequence[Step], topology: Topology
) -> Mapping[str, Mapping[str, str]]:
    """The outputs that exist before any service is packaged: of the stacks that need none.

    Ids are made from names alone, so these are the same as `deploy` gives afterwards. Raises a
    StackError.
    """
    early: list[Step] = []
    late: set[str] = set()
    for step in steps:
        if isinstance(step, Application) or late.intersection(step.needs):
            late.add(step.name)
        else:
            early.append(step)
    return deploy(early, topology, {}).outputs


def resolve(
    steps: Sequence[Step], templates: Mapping[str, Mapping[str, Any]], applications: Packages
) -> Deployment:
    """`deploy` with the templates given: file name -> template as plain data."""
    prepared = _prepare(steps, templates, applications)
    _refuse_unsupported(steps, prepared)
    resources: list[Resource] = []
    outputs: dict[str, dict[str, str]] = {}
    faults: list[str] = []
    failed: set[str] = set()
    for step in steps:
        if failed.intersection(step.needs):
            failed.add(step.name)  # what it needs is missing, and that has been reported
            continue
        before = len(faults)
        made, outputs[step.name] = _run(step, prepared[_key(step)], outputs, applications, faults)
        resources.extend(made)
        if len(faults) > before:
            failed.add(step.name)
    if faults:
        raise TemplateError(faults)
    resources = [each for resource in resources for each in _with_default_panel(resource)]
    reasons = refusals(resources)
    if reasons:
        raise RefusedError(reasons)
    return Deployment(tuple(resources), outputs)


_Key = str | tuple[str, str]


def _key(step: Step) -> _Key:
    return step.template if isinstance(step, Stack) else (step.folder, step.region)


def _prepare(
    steps: Sequence[Step], templates: Mapping[str, Mapping[str, Any]], applications: Packages
) -> dict[_Key, Prepared]:
    """Each template once, whatever the number of steps that use it."""
    missing = [
        f"{step.name}: services/{step.folder} has not been packaged for {step.region}"
        for step in steps
        if isinstance(step, Application) and (step.folder, step.region) not in applications
    ]
    if missing:
        raise TemplateError(missing)
    prepared: dict[_Key, Prepared] = {}
    for step in steps:
        key = _key(step)
        if key in prepared:
            continue
        if isinstance(step, Stack):
            prepared[key] = Prepared.of(templates[step.template])
        else:
            packaged = applications[step.folder, step.region]
            prepared[key] = Prepared.of(without_transform(packaged.template))
    return prepared


def _refuse_unsupported(steps: Sequence[Step], prepared: Mapping[_Key, Prepared]) -> None:
    known = EMULATED.keys() | INERT.keys()
    with_functions = known | {FUNCTION}
    reasons = []
    for step in steps:
        allowed = known if isinstance(step, Stack) else with_functions
        reasons += [
            f"{step.name}: {logical_id}: {kind}"
            for logical_id, kind in prepared[_key(step)].types
            if kind not in allowed
        ]
    if reasons:
        raise UnsupportedResourceType(reasons)


def _run(
    step: Step,
    prepared: Prepared,
    outputs: Mapping[str, Mapping[str, str]],
    applications: Packages,
    faults: list[str],
) -> tuple[list[Resource], dict[str, str]]:
    try:
        values = parameters_of(step, outputs)
    except WiringError as error:
        faults.append(str(error))
        return [], {}
    if isinstance(step, Stack):
        return StackRun(step.name, step.region, prepared, values, faults).resolve()
    packaged = applications[step.folder, step.region]
    faults.extend(event_faults(step.name, packaged.template))
    names = ApplicationNames(step.service, step.region, packaged.code, values)
    run = StackRun(step.name, step.region, prepared, {}, faults, names.identify, names.finish)
    return run.resolve()


def _with_default_panel(resource: Resource) -> tuple[Resource, ...]:
    """A cluster brings its default control panel with it (semantics 36)."""
    if resource.type != CLUSTER:
        return (resource,)
    arn = default_panel_arn(resource.physical_id)
    panel = Resource(
        resource.stack,
        resource.region,
        f"{resource.logical_id}DefaultControlPanel",
        "AWS::Route53RecoveryControl::ControlPanel",
        arn,
        {"Name": DEFAULT_CONTROL_PANEL, "ClusterArn": resource.physical_id},
        {"ControlPanelArn": arn, "DefaultControlPanel": True, "Status": "DEPLOYED"},
    )
    return resource, panel
