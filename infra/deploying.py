"""`infra deploy`: everything that a topology comes to, on AWS; and what `infra plan --live` shows.

    check      who asks, domain, zone, regions, and that a service whose switch changes is in its
               primary; nothing is begun when something is wrong
    review     a change set for every stack that exists: one refused change stops here,
               before anything was changed
    walk       stacks and applications, each as soon as those it needs are done
    migrate    the schema of services with a database, in the writer's region

A run may be repeated and continued by anybody: what is done has no changes. After a failure
nothing new begins; what is under way ends (well, or rolled back by CloudFormation), and records are
the last thing that a new service gets, so a name is never answered by something half made.

Downside: the review makes change sets twice, once to look at all of them and once to carry each
out, because outputs of earlier steps may have changed in between.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

from infra import review
from infra.applications import migrate
from infra.backend import Backend, ChangePlan, Walk, bring_up, walk
from infra.clients import Clients
from infra.cloudformation import Say
from infra.data_stacks import GLOBAL_DATABASE
from infra.errors import (
    BusyError,
    DeployError,
    PendingError,
    RefusedChangeError,
    StackStateError,
    explained,
)
from infra.notifications import only_tells
from infra.stacks import ROUTING, application_step
from infra.steps import Application, Outputs, Stack, Step, WiringError, parameters_of
from infra.templates import template
from infra.topology import Topology

WORKERS = 8
"""Steps at a time; CloudFormation and Chalice's uploads are the slow part, not this machine."""


class ApplicationBackend(Protocol):
    """What deploys applications (`infra.applications.Applications`)."""

    def outputs(self, step: Application) -> Mapping[str, str]: ...

    def deploy(self, step: Application, outputs: Outputs) -> Mapping[str, str]: ...

    def delete(self, step: Application) -> None: ...

    def settings(self, step: Application, outputs: Outputs) -> tuple[str, ...]: ...


class StepsFailedError(DeployError):
    """Steps failed. `failures`: step -> its error; every error has its own next command."""

    def __init__(self, result: Walk, command: str) -> None:
        self.failures = result.failures
        lines = [f"  - {error}".replace("\n", "\n    ") for error in result.failures.values()]
        count = len(result.skipped)
        rest = f"\n{count} steps were not begun; {len(result.outputs)} are done" if count else ""
        super().__init__("not everything is done:\n" + "\n".join(lines) + rest, command)


@dataclass(frozen=True, slots=True)
class LivePlan:
    """What a deployment would do to one step."""

    step: Step
    what: str
    """new, unchanged, changed, unknown (needs outputs that are not there yet), application or
    stuck."""
    plan: ChangePlan | None = None
    error: DeployError | None = None
    """Why it is stuck."""
    other_switch: tuple[str, ...] = ()
    """The records would get another switch."""
    settings: tuple[str, ...] = ()
    """What would be set on an application's REST API."""

    def faults(self, allowed: Collection[str] = ()) -> list[str]:
        """Why it must not be done. `allowed`: names of steps that may."""
        own = () if self.step.name in allowed else self.other_switch
        return [*own, *(review.faults(self.plan, allowed) if self.plan else ())]


@dataclass(slots=True)
class Deployment:
    """The steps of a topology and the two things that carry them out."""

    topology: Topology
    steps: Sequence[Step]
    stacks: Backend
    applications: ApplicationBackend
    say: Say
    workers: int = WORKERS
    command: str = "infra deploy"
    stopping: threading.Event = field(default_factory=threading.Event)

    # ---- what there is

    def outputs(self) -> dict[str, Mapping[str, str]]:
        """Step -> its outputs, of all steps that are complete. Asked of AWS, side by side."""
        with ThreadPoolExecutor(self.workers) as pool:
            found = pool.map(self._outputs, self.steps)
            pairs = zip(self.steps, found, strict=True)
            return {step.name: outputs for step, outputs in pairs if outputs is not None}

    def _outputs(self, step: Step) -> Mapping[str, str] | None:
        if isinstance(step, Application):
            return self.applications.outputs(step) or None
        return self.stacks.outputs(step) or None

    # ---- what would change

    def live_plan(self) -> list[LivePlan]:
        """For every step what deploying would do; changes nothing (change sets are made, read and
        deleted again)."""
        outputs = self.outputs()

        def one(step: Step) -> LivePlan:
            try:
                return self._planned(step, outputs)
            except (StackStateError, BusyError, PendingError, RefusedChangeError) as error:
                return LivePlan(step, "stuck", error=error)

        with ThreadPoolExecutor(self.workers) as pool:
            return list(pool.map(one, self.steps))

    def _planned(self, step: Step, outputs: Outputs) -> LivePlan:
        if isinstance(step, Application):
            return self._application(step, outputs)
        state = self.stacks.describe(step)
        if state is None:
            return LivePlan(step, "new")
        review.refuse_other_records(step, state)
        switch = tuple(review.other_switch(step, state))
        try:
            parameters = parameters_of(step, outputs)
        except WiringError:
            return LivePlan(step, "unknown", other_switch=switch)
        plan = self.stacks.plan(step, self._template(step), parameters)
        self.stacks.discard(plan)
        what = "changed" if plan.changes else "unchanged"
        return LivePlan(step, what, plan, other_switch=switch)

    def _application(self, step: Application, outputs: Outputs) -> LivePlan:
        if step.name not in outputs:
            return LivePlan(step, "new")
        try:
            settings = self.applications.settings(step, outputs)
        except WiringError:
            return LivePlan(step, "unknown")
        return LivePlan(step, "application", settings=settings)

    def refuse(self, plans: Sequence[LivePlan], allowed: Collection[str]) -> None:
        """Raises what is stuck, or RefusedChangeError with every fault of every plan."""
        stuck = {each.step.name: each.error for each in plans if each.error}
        if len(stuck) == 1:
            raise next(iter(stuck.values()))
        if stuck:
            count = len(plans) - len(stuck)
            result = Walk({}, dict(stuck), [each.step.name for each in plans][:count])
            raise StepsFailedError(result, f"when that is mended: {self.command}")
        faults = [fault for each in plans for fault in each.faults(allowed)]
        if faults:
            raise review.refused(faults)

    def refuse_before_deployed(self) -> None:
        """Raises RefusedChangeError while records follow a switch that is declared no more: what
        looks left over is in use until the declaration has been deployed."""
        faults: list[str] = []
        for step in self.steps:
            if isinstance(step, Stack) and step.template in ROUTING.values():
                state = self.stacks.describe(step)
                faults += review.other_switch(step, state) if state else ()
        if faults:
            deploy = self.command.replace("destroy", "deploy")
            raise RefusedChangeError(
                "not yet: what is left over is still in use:\n"
                + "\n".join(f"  - {fault}" for fault in faults),
                f"bring up what is declared first: {deploy}",
            )

    # ---- doing it

    def deploy(self, allowed: Collection[str] = ()) -> dict[str, Mapping[str, str]]:
        """Everything, in order; returns all outputs. Raises StepsFailedError, RefusedChangeError
        and what stands in the way of a single step."""
        self.refuse(self.live_plan(), allowed)
        result = self.walk(allowed)
        if result.failures:
            raise StepsFailedError(result, f"when that is mended: {self.command} (it continues)")
        return result.outputs

    def walk(self, allowed: Collection[str] = (), done: Outputs | None = None) -> Walk:
        """`done`: outputs of steps that stay as they are."""
        known = done or {}

        def act(step: Step, outputs: Outputs) -> Mapping[str, str]:
            if step.name in known:
                return known[step.name]
            if isinstance(step, Application):
                return self.applications.deploy(step, outputs)
            document = self._template(step)
            return bring_up(
                self.stacks, step, document, outputs, lambda plan: review.refuse(plan, allowed)
            )

        return walk(
            self.steps,
            act,
            workers=self.workers,
            tolerated=only_tells(self.steps),
            stop=self.stopping.set,
        )

    def _template(self, step: Stack) -> Mapping[str, Any]:
        return template(step.template, self.topology)

    # ---- the database's schema

    def migrate(self, clients: Clients, outputs: Outputs) -> None:
        """Brings the schema of every service with a database up to date."""
        for service in self.topology.services.values():
            if not service.database:
                continue
            name = outputs[GLOBAL_DATABASE]["GlobalClusterName"]
            region = writer_region(clients, self.topology, name, self.command)
            steps = {s.name: s for s in self.steps if isinstance(s, Application)}
            step = steps[application_step(service.name, region)]
            answer = migrate(clients, step, region, self.command)
            self.say(f"schema of {service.name} ({region}): {answer}")


def writer_region(clients: Clients, topology: Topology, name: str, command: str) -> str:
    """Region of the global cluster's writer. Asked in both regions, as one may be down."""
    last: DeployError | None = None
    for region in topology.regions:
        try:
            with explained(f"global cluster {name}", region, command):
                found = clients.get("rds", region).describe_global_clusters(
                    GlobalClusterIdentifier=name
                )
        except DeployError as error:
            last = error
            continue
        return writer_of(found["GlobalClusters"][0], topology)
    assert last is not None
    raise last


def writer_of(global_cluster: Mapping[str, Any], topology: Topology) -> str:
    """Region of the writer in a description of DescribeGlobalClusters; the primary while there is
    no member."""
    for member in global_cluster.get("GlobalClusterMembers", []):
        if member.get("IsWriter"):
            region: str = member["DBClusterArn"].split(":")[3]
            return region
    return topology.primary
