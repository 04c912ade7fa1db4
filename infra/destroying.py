"""`infra destroy`: everything back to nothing, in reverse order.

Two runs are needed. The first shows what exists and what data will be lost, and gives a code that
is made from exactly that; the second takes the code and begins. With a database it also takes a
flag, because deletion protection has to be switched off.

What templates keep on purpose (DeletionPolicy Retain: database, keys, secrets, user pools, a zone
that the deployment made) is *released* first: the stack's own template is applied once more with
DeletionPolicy Delete and without deletion protection, and nothing else. Then deleting the stack
deletes it all, and an interrupted run is continued by the next one. A zone's accelerated recovery
is switched off in the same change, since a zone cannot be deleted while it is on.

What an earlier declaration has left (`infra.leftovers`: stacks of a service that was taken out, a
cluster or alarms of another switch) goes too.

The member of the global database that writes goes last, wherever it is: RDS removes a writer from
its global cluster only when it is the last member.

Downside: keys are not gone at once; KMS keeps them for the waiting period that the template says
(they cost nothing meanwhile). A zone that existed before is left, and so is the role of API
Gateway's logs when other APIs in the account's region use it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from infra import review
from infra.backend import Backend, StackState, needs_of, reversed_needs, walk
from infra.buckets import empty
from infra.clients import Clients
from infra.cloudformation import Say
from infra.data_stacks import GLOBAL_DATABASE, SECRETS, database_step
from infra.deploying import ApplicationBackend, Deployment, StepsFailedError, writer_region
from infra.errors import DeployError, SetupError, explained
from infra.naming import label
from infra.pipeline import PIPELINE
from infra.stacks import CLUSTER, ROUTING, TAKEOVER, ZONE, routing_step
from infra.steps import Application, Outputs, Stack, Step
from infra.topology import API, Topology

RELEASED = "Released"
"""A resource that a released template has more: CloudFormation does not take an update that
changes nothing but a DeletionPolicy."""

_PROTECTION = {
    "AWS::RDS::DBCluster": False,
    "AWS::RDS::GlobalCluster": False,
    "AWS::Cognito::UserPool": "INACTIVE",
}
"""Type -> value of DeletionProtection that lets it be deleted."""

CLUSTER_TEMPLATE = "cluster.yaml"

LOG_ROLE = "LogRole"
"""Logical id of the role in logging.yaml that belongs to the account's settings."""

_KEPT = ("Retain", "RetainExceptOnCreate")
_NO_VALUE = {"Ref": "AWS::NoValue"}


class StacksOnAws(Backend, Protocol):
    """A backend that also gives the template that a stack has, and waits for what is under way."""

    def document(self, step: Stack) -> Mapping[str, Any]: ...

    def awaited(self, step: Stack) -> StackState | None: ...


@dataclass(frozen=True, slots=True)
class Existing:
    """What there is to destroy."""

    account: str
    stacks: Mapping[str, StackState]
    """Step -> its stack."""
    applications: tuple[str, ...]
    """Steps of applications that have at least a REST API."""


def losses(topology: Topology, existing: Existing) -> list[str]:
    """What cannot be had back afterwards, one line each."""
    found = []
    names = existing.stacks.keys()
    if names & {database_step(region) for region in topology.regions}:
        services = ", ".join(s.name for s in topology.services.values() if s.database)
        found.append(f"all data of {services or 'the database'}, in both regions, with its backups")
    if SECRETS in names:
        found.append("the logins of the database")
    if any(name.startswith("keys-") for name in names):
        found.append("the keys; after their waiting period no snapshot made with them can be read")
    if any(name.startswith("users-") for name in names):
        found.append("all API clients: their ids and secrets; every client needs new ones")
    if names & {CLUSTER, *(routing_step(entry.name) for entry in topology.entries)}:
        found.append("every switch; recovery.json is worth nothing afterwards")
    if ZONE in names and not existing.stacks[ZONE].parameters.get("ExistingHostedZoneId"):
        found.append(
            f"the hosted zone of {topology.domain}; a new one has other name servers, and the "
            "registrar must be told (--keep-zone keeps it)"
        )
    if existing.applications:
        found.append("the logs of all functions")
    return found


def confirmation(topology: Topology, existing: Existing) -> str:
    """The code that stands for exactly this."""
    names = sorted((*existing.stacks, *existing.applications))
    text = "\n".join((existing.account, topology.domain, *names))
    return f"{label(topology)}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def protected(topology: Topology, existing: Existing) -> list[str]:
    """Steps with a database, which have deletion protection on."""
    steps = {GLOBAL_DATABASE, *(database_step(region) for region in topology.regions)}
    return sorted(steps & existing.stacks.keys())


def released(document: Mapping[str, Any], *, snapshot: bool, keep: Sequence[str]) -> dict[str, Any]:
    """The template with everything deletable, except the logical ids in `keep`. `snapshot`: the
    database leaves a last snapshot."""
    resources = {
        name: body if name in keep else _released(body, snapshot)
        for name, body in document["Resources"].items()
    }
    resources[RELEASED] = {"Type": "AWS::CloudFormation::WaitConditionHandle"}
    return {**document, "Resources": resources}


def _released(body: Mapping[str, Any], snapshot: bool) -> dict[str, Any]:
    result = dict(body)
    if body.get("DeletionPolicy") in _KEPT:
        last = snapshot and body["Type"] == "AWS::RDS::DBCluster"
        result["DeletionPolicy"] = "Snapshot" if last else "Delete"
    if body["Type"] in _PROTECTION:
        properties = {**body["Properties"], "DeletionProtection": _PROTECTION[body["Type"]]}
        result["Properties"] = properties
    if "HostedZoneFeatures" in body.get("Properties", {}):
        off = {"Fn::If": ["Accelerated", {"EnableAcceleratedRecovery": False}, _NO_VALUE]}
        result["Properties"] = {**body["Properties"], "HostedZoneFeatures": off}
    return result


def keeps_something(document: Mapping[str, Any]) -> bool:
    return any(body.get("DeletionPolicy") in _KEPT for body in document["Resources"].values())


def order(
    topology: Topology, steps: Sequence[Step], writer: str
) -> dict[str, set[str]]:
    """Step -> the steps that go before it. `writer`: region of the database's writer."""
    needs = reversed_needs(needs_of(steps))
    stacks = [step for step in steps if isinstance(step, Stack)]
    records = {step.name for step in stacks if step.template in ROUTING.values()}
    for step in stacks:
        # A stack of records may be of the switch that the entry had before, and still use these.
        if step.template in (CLUSTER_TEMPLATE, TAKEOVER):
            needs[step.name] |= records
    first, last = (
        database_step(region)
        for region in sorted(topology.regions, key=lambda region: region == writer)
    )
    if first in needs and last in needs:
        needs[first] -= {last}
        needs[last] |= {first}
    return needs


@dataclass(slots=True)
class Destruction:
    """Takes down what `deployment` has the steps of."""

    deployment: Deployment
    stacks: StacksOnAws
    applications: ApplicationBackend
    clients: Clients
    say: Say
    snapshot: bool = False
    keep_zone: bool = False
    command: str = "infra destroy"

    def existing(self, account: str) -> Existing:
        stacks, applications = {}, []
        for step in self.deployment.steps:
            if isinstance(step, Application):
                if self.applications.outputs(step):
                    applications.append(step.name)
            elif (state := self.stacks.describe(step)) is not None:
                stacks[step.name] = state
        return Existing(account, stacks, tuple(applications))

    def destroy(self, existing: Existing) -> None:
        """Everything. Raises StepsFailedError; what is gone stays gone, another run goes on."""
        topology = self.deployment.topology
        steps = [
            step
            for step in self.deployment.steps
            if (isinstance(step, Application) or step.name in existing.stacks)
            and not (self.keep_zone and step.name == ZONE)
        ]
        writer = topology.primary
        if GLOBAL_DATABASE in existing.stacks:
            name = existing.stacks[GLOBAL_DATABASE].outputs.get("GlobalClusterName", "")
            writer = self._writer(name)

        def act(step: Step, outputs: Outputs) -> Mapping[str, str]:
            del outputs
            if isinstance(step, Application):
                self.applications.delete(step)
            else:
                self._delete(step)
            return {}

        result = walk(
            steps,
            act,
            workers=self.deployment.workers,
            needs=order(topology, steps, writer),
            stop=self.deployment.stopping.set,
        )
        if result.failures:
            raise StepsFailedError(
                result, f"when that is mended: {self.command} (it shows what is left)"
            )

    def _writer(self, name: str) -> str:
        topology = self.deployment.topology
        if not name:
            return topology.primary
        try:
            return writer_region(self.clients, topology, name, self.command)
        except DeployError as error:
            if "GlobalClusterNotFound" in error.reason:
                return topology.primary
            raise

    def _delete(self, step: Stack) -> None:
        state = self.stacks.awaited(step)
        whole = state and state.status.endswith("_COMPLETE")
        if state and whole and state.status != "ROLLBACK_COMPLETE":
            document = self.stacks.document(step)
            if step.name == ZONE:
                self._clear_zone(step, state)
            if step.name == PIPELINE:
                empty(self.clients, step.region, state.outputs["ArtifactBucket"], self.command)
            keep = self._keep(step) if LOG_ROLE in document["Resources"] else []
            if keeps_something(document) and RELEASED not in document["Resources"]:
                self.say(f"{step.name} ({step.region}): releasing what it keeps")
                changed = released(document, snapshot=self.snapshot, keep=keep)
                plan = self.stacks.plan(step, changed, state.parameters)
                try:
                    review.refuse(plan)
                except DeployError:
                    self.stacks.discard(plan)
                    raise
                self.stacks.apply(plan)
        self.stacks.delete(step)

    def _clear_zone(self, step: Stack, state: StackState) -> None:
        """Removes ACM's validation records from a zone that goes; refuses when others are in it."""
        if state.parameters.get("ExistingHostedZoneId"):
            return
        zone, client = state.outputs["HostedZoneId"], self.clients.get("route53", step.region)
        with explained(ZONE, step.region, self.command):
            pages = client.get_paginator("list_resource_record_sets").paginate(HostedZoneId=zone)
            records = [record for page in pages for record in page["ResourceRecordSets"]]
        others = foreign_records(records)
        if others:
            raise SetupError(
                f"the zone of {self.deployment.topology.domain} has records that the deployment "
                f"did not make: {', '.join(others)}",
                f"delete them, or keep the zone: {self.command} --keep-zone",
            )
        changes = [
            {"Action": "DELETE", "ResourceRecordSet": r} for r in records if is_validation(r)
        ]
        if changes:
            with explained(ZONE, step.region, self.command):
                client.change_resource_record_sets(
                    HostedZoneId=zone, ChangeBatch={"Changes": changes}
                )

    def _keep(self, step: Stack) -> list[str]:
        """The role of API Gateway's logs stays when other APIs of the region need it; otherwise
        the account's setting is emptied, so that it does not name a role that is gone."""
        client = self.clients.get("apigateway", step.region)
        ours = {f"{API}.{self.deployment.topology.domain}", *self.deployment.topology.services}
        with explained(step.name, step.region, self.command):
            others = [
                api["name"]
                for page in client.get_paginator("get_rest_apis").paginate()
                for api in page["items"]
                if api["name"] not in ours
            ]
            if others:
                self.say(
                    f"{step.name} ({step.region}): the role for API Gateway's logs stays; "
                    f"{', '.join(sorted(others)[:3])} may use it"
                )
                return [LOG_ROLE]
            role = client.get_account().get("cloudwatchRoleArn", "")
            prefix = f"/{label(self.deployment.topology)}-{step.name}"[:40]
            if prefix in role:
                client.update_account(
                    patchOperations=[
                        {"op": "replace", "path": "/cloudwatchRoleArn", "value": ""}
                    ]
                )
        return []


def is_validation(record: Mapping[str, Any]) -> bool:
    """Whether ACM wrote this record to validate a certificate."""
    values = [r["Value"].rstrip(".") for r in record.get("ResourceRecords", [])]
    return record["Type"] == "CNAME" and bool(values) and all(
        value.endswith(".acm-validations.aws") for value in values
    )


def foreign_records(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Records that neither Route 53 nor ACM made. The deployment's own are gone by then."""
    return [
        f"{record['Name']} {record['Type']}"
        for record in records
        if record["Type"] not in ("NS", "SOA") and not is_validation(record)
    ]
