"""The steps of a topology, one after the other, become one `Deployment`. See the package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from infra.backend import ADD, Change, ChangePlan, StackState, bring_up, walk
from infra.stacks import Application, Stack, Step, WiringError, parameters_of
from infra.steps import Outputs
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

_Key = str | tuple[str, str]
"""Of a prepared template: its file name, or code folder and region."""


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
    loaded = LoadedStacks(prepared, applications)

    def act(step: Step, outputs: Outputs) -> Mapping[str, str]:
        if isinstance(step, Stack):
            return bring_up(loaded, step, templates[step.template], outputs)
        return loaded.load_application(step, outputs)

    walked = walk(steps, act, keep_going=True)
    faults = [fault for error in walked.failures.values() for fault in _faults_of(error)]
    if faults:
        raise TemplateError(faults)
    resources = [each for step in steps for each in loaded.resources[step.name]]
    resources = [each for resource in resources for each in _with_default_panel(resource)]
    reasons = refusals(resources)
    if reasons:
        raise RefusedError(reasons)
    return Deployment(
        tuple(resources), {step.name: dict(walked.outputs[step.name]) for step in steps}
    )


def _faults_of(error: Exception) -> Sequence[str]:
    if isinstance(error, TemplateError):
        return error.reasons
    if isinstance(error, WiringError):
        return (str(error),)
    raise error


class LoadedStacks:
    """The lab behind `infra.backend.Backend`: a stack is resolved in memory and that is all.

    Templates are prepared before; the document that `plan` is given is the one that was prepared.
    """

    def __init__(self, prepared: Mapping[_Key, Prepared], applications: Packages) -> None:
        self._prepared, self._applications = prepared, applications
        self._outputs: dict[str, dict[str, str]] = {}
        self._planned: dict[str, tuple[list[Resource], dict[str, str]]] = {}
        self.resources: dict[str, list[Resource]] = {}
        """Step -> what it made."""

    def describe(self, step: Stack) -> StackState | None:
        if step.name not in self._outputs:
            return None
        return StackState("CREATE_COMPLETE", self._outputs[step.name], stack_id=step.name)

    def plan(
        self, step: Stack, document: Mapping[str, Any], parameters: Mapping[str, str]
    ) -> ChangePlan:
        """Resolves the stack. Raises TemplateError with all of its faults."""
        del document
        faults: list[str] = []
        run = StackRun(step.name, step.region, self._prepared[_key(step)], parameters, faults)
        made = run.resolve()
        if faults:
            raise TemplateError(faults)
        self._planned[step.name] = made
        changes = tuple(Change(ADD, r.logical_id, r.type) for r in made[0])
        return ChangePlan(step, step.name not in self._outputs, changes, step.name)

    def apply(self, plan: ChangePlan) -> Mapping[str, str]:
        name = plan.step.name
        self.resources[name], self._outputs[name] = self._planned.pop(name)
        return self._outputs[name]

    def discard(self, plan: ChangePlan) -> None:
        self._planned.pop(plan.step.name, None)

    def outputs(self, step: Stack) -> Mapping[str, str]:
        return self._outputs.get(step.name, {})

    def delete(self, step: Stack) -> None:
        self._outputs.pop(step.name, None)
        self.resources.pop(step.name, None)

    def load_application(self, step: Application, outputs: Outputs) -> Mapping[str, str]:
        """What Chalice would deploy, with this environment. Raises TemplateError, WiringError."""
        faults: list[str] = []
        packaged = self._applications[step.folder, step.region]
        faults.extend(event_faults(step.name, packaged.template))
        values = parameters_of(step, outputs)
        names = ApplicationNames(step.service, step.region, packaged.code, values)
        prepared = self._prepared[_key(step)]
        run = StackRun(
            step.name, step.region, prepared, {}, faults, names.identify, names.finish
        )
        self.resources[step.name], self._outputs[step.name] = run.resolve()
        if faults:
            raise TemplateError(faults)
        return self._outputs[step.name]


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
