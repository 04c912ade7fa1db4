"""Stacks on AWS: a change set for every change, read before it is carried out.

    plan     CreateChangeSet, wait, DescribeChangeSet: what would change, as AWS sees it
    apply    ExecuteChangeSet, wait until the stack is done, protect what keeps data
    delete   DeleteStack, wait

All state is AWS's own (stack status, outputs, tags), so a run that was interrupted is continued by
the next one, also by another person: a stack that is done has no changes, one that this tool has
begun (its ClientRequestToken says so) is waited for, and one in a state that needs a decision ends
the run with its reason and the next command.

A creation that fails is rolled back with everything, also what has DeletionPolicy Retain
(RetainExceptOnCreate), or the next attempt would meet a cluster of the same name.

Downside: waiting is polling, every `poll` seconds and stack; events are read only after a failure.

Sources: API reference of CloudFormation, "Understand stack creation events" and "Troubleshooting".
"""

from __future__ import annotations

import itertools
import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from infra.backend import Change, ChangePlan, StackState
from infra.clients import Clients
from infra.errors import (
    BusyError,
    FailedError,
    PendingError,
    SetupError,
    StackStateError,
    explained,
    is_quota,
    quota_error,
)
from infra.naming import TAG_DOMAIN, TAG_STEP, TOKEN_PREFIX, stack_name, tags
from infra.review import DATABASE_TYPES, essential
from infra.steps import Stack
from infra.topology import Topology

TEMPLATE_BYTES = 51_200
"""Largest template that is sent in a request ("CloudFormation quotas")."""

_USABLE = frozenset({
    "CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE",
    "IMPORT_COMPLETE", "IMPORT_ROLLBACK_COMPLETE",
})  # fmt: skip
_DONE_WELL = frozenset({"CREATE_COMPLETE", "UPDATE_COMPLETE", "DELETE_COMPLETE"})
_PROTECTED_TEMPLATES = frozenset({"database.yaml", "global-database.yaml"})
CALLERS_OWN = frozenset({"pipeline.yaml"})
"""Made with the caller's permissions whatever role is given: it makes a role that may deploy, and a
service role that could make such a role could make any."""
_NO_CHANGES = ("didn't contain changes", "No updates are to be performed")

STACK_POLICY = {
    "Statement": [
        {"Effect": "Allow", "Action": "Update:*", "Principal": "*", "Resource": "*"},
        {
            "Effect": "Deny",
            "Action": ["Update:Replace", "Update:Delete"],
            "Principal": "*",
            "Resource": "*",
            "Condition": {"StringEquals": {"ResourceType": sorted(DATABASE_TYPES)}},
        },
    ]
}
"""Of the stacks with a database, against updates by anybody, not only by this tool."""

Say = Callable[[str], object]
Watch = Callable[[Stack, float], None]
"""Is told, while a stack is under way, which and for how many seconds."""


def _no_watch(step: Stack, seconds: float) -> None:
    """Nobody looks."""
    del step, seconds


@dataclass(slots=True)
class Pace:
    """Time, so that tests need none. `sleep` may raise to end the waiting."""

    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    poll: float = 5.0
    """Seconds between two looks."""
    patience: float = 90 * 60.0
    """Seconds after which a stack is no longer waited for."""


@dataclass(slots=True)
class CloudFormation:
    """`infra.backend.Backend` on AWS. See the module."""

    clients: Clients
    topology: Topology
    say: Say
    pace: Pace = field(default_factory=Pace)
    watch: Watch = _no_watch
    command: str = "infra deploy"
    """What messages tell to run again."""
    recreate_failed: bool = False
    """Delete stacks whose creation failed instead of asking; there is nothing in them."""
    role: str = ""
    """ARN of a service role: CloudFormation makes what is in the stacks as this role, not as the
    caller, and keeps it for all later operations on the stack, deletion too."""
    run: str = field(default_factory=lambda: f"{TOKEN_PREFIX}{uuid.uuid4().hex[:12]}")
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    # ---- the interface

    def describe(self, step: Stack) -> StackState | None:
        """The stack as it is; None also for one that has nothing but a change set. Raises
        SetupError when a stack of that name belongs to another domain."""
        found = self._describe(step, stack_name(self.topology, step))
        if found is None or found.status == "REVIEW_IN_PROGRESS":
            return None
        owner = found.tags.get(TAG_DOMAIN)
        if owner != self.topology.domain:
            raise SetupError(
                f"{stack_name(self.topology, step)} ({step.region}) belongs to "
                f"{owner or 'something else'}, not to {self.topology.domain}",
                "look at it in the console; give this deployment another domain in topology.toml "
                "or delete that stack",
            )
        return found

    def plan(
        self, step: Stack, document: Mapping[str, Any], parameters: Mapping[str, str]
    ) -> ChangePlan:
        state = self.settle(step)
        request = {
            "StackName": stack_name(self.topology, step),
            "ChangeSetName": f"{self.run}-{next(self._numbers)}",
            "ChangeSetType": "UPDATE" if state else "CREATE",
            "TemplateBody": self._body(step, document),
            "Parameters": [
                {"ParameterKey": key, "ParameterValue": parameters[key]}
                for key in sorted(parameters)
            ],
            "Capabilities": ["CAPABILITY_IAM"] if _makes_roles(document) else [],
            "Tags": [{"Key": k, "Value": v} for k, v in tags(self.topology, step).items()],
            **({"RoleARN": self.role} if self.role and step.template not in CALLERS_OWN else {}),
        }
        with self._explained(step):
            handle = self._cfn(step).create_change_set(**request)["Id"]
        changes = self._changes(step, handle)
        plan = ChangePlan(step, state is None, tuple(changes), handle)
        if state and not essential(changes):
            self.discard(plan)
            return ChangePlan(step, False, ())
        return plan

    def apply(self, plan: ChangePlan) -> Mapping[str, str]:
        step = plan.step
        if not plan.handle:
            return self._finished(step)
        began = self.pace.clock()
        self.say(f"{step.name} ({step.region}): {'creating' if plan.new else 'updating'}")
        with self._explained(step):
            self._cfn(step).execute_change_set(
                ChangeSetName=plan.handle,
                ClientRequestToken=self.run,
                **({"RetainExceptOnCreate": True} if plan.new else {}),
            )
        self.pace.sleep(min(2.0, self.pace.poll))  # the old status may still be shown for a moment
        state = self._wait(step, stack_name(self.topology, step), began)
        self._check(step, state)
        outputs = self._finished(step)
        self.say(f"{step.name} ({step.region}): done after {self.pace.clock() - began:.0f} s")
        return outputs

    def discard(self, plan: ChangePlan) -> None:
        if plan.handle:
            with self._explained(plan.step):
                self._cfn(plan.step).delete_change_set(ChangeSetName=plan.handle)

    def outputs(self, step: Stack) -> Mapping[str, str]:
        state = self.describe(step)
        return dict(state.outputs) if state and state.status in _USABLE else {}

    def present(self, regions: Iterable[str]) -> dict[str, str]:
        """Step -> region, declared or not, of every stack that this domain has in `regions`."""
        found = {}
        for region in regions:
            pages = self.clients.get("cloudformation", region).get_paginator("describe_stacks")
            with explained("stacks", region, self.command):
                for stack in (each for page in pages.paginate() for each in page["Stacks"]):
                    marks = {tag["Key"]: tag["Value"] for tag in stack.get("Tags", [])}
                    if marks.get(TAG_DOMAIN) == self.topology.domain and TAG_STEP in marks:
                        found[marks[TAG_STEP]] = region
        return found

    def delete(self, step: Stack) -> None:
        state = self.awaited(step)
        if state is None:
            self._forget_review(step)
            return
        began = self.pace.clock()
        self.say(f"{step.name} ({step.region}): deleting")
        with self._explained(step):
            self._cfn(step).delete_stack(StackName=state.stack_id, ClientRequestToken=self.run)
        self._check(step, self._wait(step, state.stack_id, began))
        self.say(f"{step.name} ({step.region}): deleted after {self.pace.clock() - began:.0f} s")

    def document(self, step: Stack) -> Mapping[str, Any]:
        """The template that the stack has; everything that this tool sends is JSON."""
        with self._explained(step):
            body = self._cfn(step).get_template(StackName=stack_name(self.topology, step))
        found = body["TemplateBody"]
        document: Mapping[str, Any] = json.loads(found) if isinstance(found, str) else found
        return document

    # ---- states

    def settle(self, step: Stack) -> StackState | None:
        """The stack once nothing is under way, or None when it is to be created. Raises when it is
        in a state that needs a decision."""
        state = self.awaited(step)
        if state is None or state.status in _USABLE:
            return state
        if state.status == "ROLLBACK_COMPLETE" and self.recreate_failed:
            self.delete(step)
            return None
        raise self._stuck(step, state)

    def awaited(self, step: Stack) -> StackState | None:
        """The stack once nothing is under way, whatever its state, or None. Raises BusyError when
        somebody else began what is under way."""
        state = self.describe(step)
        if state and state.status.endswith("_IN_PROGRESS"):
            self._not_of_others(step, state)
            self.say(f"{step.name} ({step.region}): {state.status}, begun before; waiting")
            state = self._wait(step, state.stack_id, self.pace.clock())
        return None if state is None or state.status == "DELETE_COMPLETE" else state

    def _stuck(self, step: Stack, state: StackState) -> StackStateError:
        name, region = stack_name(self.topology, step), step.region
        next_steps = {
            "ROLLBACK_COMPLETE": f"mend the reason, then: {self.command} --recreate-failed "
            "(its creation failed, so there is nothing in it to lose)",
            "UPDATE_ROLLBACK_FAILED": "mend the reason, then: aws cloudformation "
            f"continue-update-rollback --stack-name {name} --region {region}; when that is done: "
            f"{self.command}",
        }
        by_hand = (
            f"mend the reason, then: aws cloudformation delete-stack --stack-name {name} "
            f"--region {region}; when that is done: {self.command}"
        )
        return StackStateError(
            f"{step.name}: stack {name} ({region}) is in {state.status}: "
            f"{self.first_failure(step, state.stack_id) or state.reason or 'no reason given'}",
            next_steps.get(state.status, by_hand),
        )

    def _not_of_others(self, step: Stack, state: StackState) -> None:
        """Raises BusyError unless this tool began what is under way."""
        token = next(
            (
                event.get("ClientRequestToken", "")
                for event in self._events(step, state.stack_id)
                if event.get("PhysicalResourceId") == state.stack_id
            ),
            "",
        )
        if not token.startswith(TOKEN_PREFIX):
            raise BusyError(
                f"{step.name}: stack {stack_name(self.topology, step)} ({step.region}) is in "
                f"{state.status}; somebody else began that, not infra",
                f"wait until it is done, then: {self.command}",
            )

    def _check(self, step: Stack, state: StackState) -> None:
        if state.status in _DONE_WELL:
            return
        reason = self.first_failure(step, state.stack_id) or state.reason or "no reason given"
        text = f"{step.name} ({step.region}): {state.status}: {reason}"
        if is_quota(reason):
            raise quota_error(text, step.region, self.command)
        again = " --recreate-failed" if state.status == "ROLLBACK_COMPLETE" else ""
        raise FailedError(text, f"mend the reason, then: {self.command}{again}")

    def _wait(self, step: Stack, name: str, began: float) -> StackState:
        """The stack when nothing is under way any more. One that is gone is DELETE_COMPLETE."""
        while True:
            state = self._describe(step, name)
            if state is None:
                return StackState("DELETE_COMPLETE")
            if not state.status.endswith("_IN_PROGRESS"):
                return state
            seconds = self.pace.clock() - began
            if seconds > self.pace.patience:
                raise PendingError(
                    f"{step.name} ({step.region}): still {state.status} after {seconds:.0f} s; "
                    "AWS goes on with it",
                    f"{self.command} waits for it again",
                )
            self.watch(step, seconds)
            self.pace.sleep(self.pace.poll)

    def first_failure(self, step: Stack, stack_id: str) -> str:
        """Why the last operation on a stack failed: the first resource that did."""
        reasons = []
        for event in self._events(step, stack_id):
            status = event.get("ResourceStatus", "")
            reason = event.get("ResourceStatusReason", "")
            own = event.get("PhysicalResourceId") == stack_id
            if own and status in ("CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "DELETE_IN_PROGRESS"):
                break
            if status.endswith("_FAILED") and not own and "cancelled" not in reason:
                kind = event.get("ResourceType", "")
                reasons.append(f"{event.get('LogicalResourceId')} ({kind}): {reason}")
        return reasons[-1] if reasons else ""

    # ---- calls

    def _cfn(self, step: Stack) -> Any:
        return self.clients.get("cloudformation", step.region)

    def _explained(self, step: Stack) -> Any:
        return explained(step.name, step.region, self.command)

    def _describe(self, step: Stack, name: str) -> StackState | None:
        with self._explained(step):
            try:
                found = self._cfn(step).describe_stacks(StackName=name)["Stacks"][0]
            except ClientError as error:
                if "does not exist" in error.response["Error"].get("Message", ""):
                    return None
                raise
        return StackState(
            found["StackStatus"],
            {o["OutputKey"]: o["OutputValue"] for o in found.get("Outputs", [])},
            {p["ParameterKey"]: p["ParameterValue"] for p in found.get("Parameters", [])},
            {tag["Key"]: tag["Value"] for tag in found.get("Tags", [])},
            found.get("StackId", name),
            found.get("StackStatusReason", ""),
            found.get("RoleARN", ""),
        )

    def _changes(self, step: Stack, handle: str) -> list[Change]:
        """Waits for the change set and reads all of its pages."""
        began = self.pace.clock()
        while True:
            with self._explained(step):
                answer = self._cfn(step).describe_change_set(ChangeSetName=handle)
            status, reason = answer["Status"], answer.get("StatusReason", "")
            if status == "CREATE_COMPLETE":
                break
            if status == "FAILED":
                if any(words in reason for words in _NO_CHANGES):
                    return []
                raise FailedError(
                    f"{step.name} ({step.region}): no change set: {reason}",
                    f"mend the reason, then: {self.command}",
                )
            if self.pace.clock() - began > self.pace.patience:
                raise PendingError(
                    f"{step.name} ({step.region}): change set still {status}",
                    f"{self.command} tries again",
                )
            self.pace.sleep(min(2.0, self.pace.poll))
        entries = list(answer["Changes"])
        while answer.get("NextToken"):
            with self._explained(step):
                answer = self._cfn(step).describe_change_set(
                    ChangeSetName=handle, NextToken=answer["NextToken"]
                )
            entries += answer["Changes"]
        return [change_of(e["ResourceChange"]) for e in entries if "ResourceChange" in e]

    def _events(self, step: Stack, stack_id: str) -> Iterator[Mapping[str, Any]]:
        """Newest first."""
        with self._explained(step):
            pages = self._cfn(step).get_paginator("describe_stack_events")
            for page in pages.paginate(StackName=stack_id):
                yield from page["StackEvents"]

    def _finished(self, step: Stack) -> Mapping[str, str]:
        if step.template in _PROTECTED_TEMPLATES:
            with self._explained(step):
                self._cfn(step).set_stack_policy(
                    StackName=stack_name(self.topology, step),
                    StackPolicyBody=json.dumps(STACK_POLICY),
                )
        return self.outputs(step)

    def _forget_review(self, step: Stack) -> None:
        """A stack that has nothing but a change set that was never carried out."""
        name = stack_name(self.topology, step)
        found = self._describe(step, name)
        if found and found.status == "REVIEW_IN_PROGRESS":
            with self._explained(step):
                self._cfn(step).delete_stack(StackName=name, ClientRequestToken=self.run)

    def _body(self, step: Stack, document: Mapping[str, Any]) -> str:
        body = json.dumps(document, separators=(",", ":"))
        if len(body.encode()) > TEMPLATE_BYTES:
            raise SetupError(
                f"{step.name}: the template has {len(body.encode())} bytes; CloudFormation takes "
                f"{TEMPLATE_BYTES} in a request",
                "divide the topology: this many services need a second domain",
            )
        return body


def change_of(change: Mapping[str, Any]) -> Change:
    """A ResourceChange of DescribeChangeSet."""
    names = dict.fromkeys(
        detail["Target"].get("Name") or detail["Target"].get("Attribute", "")
        for detail in change.get("Details", [])
        if "Target" in detail
    )
    return Change(
        change["Action"],
        change["LogicalResourceId"],
        change["ResourceType"],
        change.get("Replacement", "False"),
        tuple(names),
    )


def _makes_roles(document: Mapping[str, Any]) -> bool:
    types = (str(body.get("Type")) for body in document["Resources"].values())
    return any(kind.startswith("AWS::IAM::") for kind in types)
