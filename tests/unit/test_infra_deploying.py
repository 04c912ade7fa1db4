"""`infra deploy` against AWS in memory: order, repetition, interruption, failures, refusals."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from infra_aws_fakes import FakeApplications, FakeAws, FakeStack, FakeTime, topology
from infra_services_fakes import DOMAIN, error

from infra.cloudformation import CloudFormation, Pace
from infra.deploying import Deployment, StepsFailedError, writer_of
from infra.errors import (
    BusyError,
    CredentialsError,
    DeployError,
    FailedError,
    PendingError,
    QuotaError,
    RefusedChangeError,
    SetupError,
    StackStateError,
)
from infra.stacks import Application, Stack, stack_list
from infra.topology import Service, Topology

DATABASE_STEPS = ("global-database", "database-us-east-1", "database-us-west-2")


class Rig:
    """A deployment in memory; `again` is another person's run against the same account."""

    def __init__(self, declared: Topology | None = None, workers: int = 4) -> None:
        self.aws, self.time = FakeAws(), FakeTime()
        self.applications = FakeApplications(self.aws)
        self.topology = declared or topology()
        self.workers = workers
        self.lines: list[str] = []

    def stacks(self, **options: Any) -> CloudFormation:
        pace: Pace = options.pop("pace", self.time.pace())
        return CloudFormation(self.aws, self.topology, self.lines.append, pace, **options)

    def deployment(self, **options: Any) -> Deployment:
        return Deployment(
            self.topology,
            stack_list(self.topology),
            self.stacks(**options),
            self.applications,
            self.lines.append,
            self.workers,
        )

    def deploy(self, allowed: tuple[str, ...] = (), **options: Any) -> dict[str, Any]:
        return self.deployment(**options).deploy(allowed)

    def failure(self, **options: Any) -> DeployError:
        """The one error of a deployment that fails."""
        with pytest.raises(DeployError) as caught:
            self.deploy(**options)
        found = caught.value
        if isinstance(found, StepsFailedError):
            (found,) = found.failures.values()  # type: ignore[assignment]
        assert isinstance(found, DeployError)
        assert found.next_step
        return found


def test_everything_in_an_order_in_which_each_finds_what_it_needs() -> None:
    rig = Rig(topology(database=True))

    outputs = rig.deploy()

    names = [step.name for step in stack_list(rig.topology)]
    assert outputs.keys() == set(names)
    stacks = [s.name for s in stack_list(rig.topology) if isinstance(s, Stack)]
    assert sorted(rig.aws.executed) == sorted(stacks)
    position = {name: number for number, name in enumerate(rig.aws.executed)}
    for step in stack_list(rig.topology):
        if isinstance(step, Stack):
            assert all(
                position[need] < position[step.name] for need in step.needs if need in position
            )
    # The wiring: an output of one stack is a parameter of another.
    zone = rig.aws.stack("zone").outputs["HostedZoneId"]
    assert rig.aws.stack("routing-a").parameters["HostedZoneId"] == zone
    api = rig.applications.apis["application-a-us-west-2"]
    assert rig.aws.stack("mapping-a-us-west-2").parameters["RestApiId"] == api


def test_names_and_tags_say_whose_a_stack_is() -> None:
    rig = Rig()
    rig.deploy()

    stack = rig.aws.stack("zone")

    assert stack.name == "shop-example-domain-com-zone"
    assert stack.tags == {
        "two-region-api:domain": DOMAIN,
        "two-region-api:step": "zone",
        "two-region-api:regions": "us-east-1+us-west-2",
    }


def test_again_changes_nothing() -> None:
    rig = Rig(topology(database=True))
    first = rig.deploy()
    rig.aws.executed.clear()

    assert rig.deploy() == first

    assert rig.aws.executed == []
    assert rig.aws.change_sets == {}


def test_a_new_service_touches_only_its_own_stacks_and_what_lists_the_services() -> None:
    rig = Rig()
    rig.deploy()
    rig.aws.executed.clear()

    rig.topology = topology(a=Service("a"), b=Service("b"))
    plans = {each.step.name: each.what for each in rig.deployment().live_plan()}
    rig.deploy()

    assert plans["zone"] == plans["routing-a"] == "unchanged"
    assert plans["domain-b-us-east-1"] == plans["application-b-us-east-1"] == "new"
    own = {name for name in rig.aws.executed if "-b-" in name} | {"routing-b", "dashboard-b"}
    assert set(rig.aws.executed) - own == {
        "gateway-us-east-1", "gateway-us-west-2",
        "alarms-us-east-1", "alarms-us-west-2", "overview",
    }  # fmt: skip


def test_a_plan_against_the_account_changes_nothing() -> None:
    rig = Rig()
    rig.deploy()
    rig.aws.calls.clear()
    rig.topology = topology(a=Service("a"), b=Service("b"))

    rig.deployment().live_plan()

    made = {name for _, _, name, _ in rig.aws.calls}
    assert made == {
        "describe_stacks", "create_change_set", "describe_change_set", "delete_change_set",
    }  # fmt: skip
    assert rig.aws.change_sets == {}


# ---- interruption


class PulledPlug(BaseException):
    """The machine is gone; nothing is tidied up."""


def _calls_of_a_whole_deployment(declared: Topology) -> int:
    rig = Rig(declared, workers=1)
    rig.deploy()
    return len(rig.aws.calls)


SMALL = topology(database=True)
CALLS = _calls_of_a_whole_deployment(SMALL)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, CALLS), min_size=1, max_size=3), st.booleans())
def test_a_run_that_was_interrupted_anywhere_is_continued_by_the_next(
    cuts: list[int], after: bool
) -> None:
    rig = Rig(SMALL, workers=1)
    for cut in cuts:
        left = cut

        def pull(service: str, region: str, name: str, params: Mapping[str, Any]) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                rig.aws.hook = rig.aws.after = None
                raise PulledPlug

        def pull_after() -> None:
            pull("", "", "", {})

        rig.aws.hook, rig.aws.after = (None, pull_after) if after else (pull, None)
        with contextlib.suppress(PulledPlug):
            rig.deploy()

    rig.aws.hook = rig.aws.after = None
    rig.deploy()

    # Every stack was made exactly once, however often the run was cut.
    stacks = sorted(s.name for s in stack_list(SMALL) if isinstance(s, Stack))
    assert sorted(rig.aws.executed) == stacks
    assert {s.status for s in rig.aws.stacks.values()} == {"CREATE_COMPLETE"}
    assert all(rig.aws.stack(name).policy for name in DATABASE_STEPS)


def test_what_this_tool_had_begun_is_waited_for() -> None:
    rig = Rig()
    rig.deploy()
    stack = rig.aws.stack("cluster")
    stack.status, stack.next, stack.looks = "UPDATE_IN_PROGRESS", "UPDATE_COMPLETE", 4

    rig.deploy()

    assert stack.status == "UPDATE_COMPLETE"
    assert any("UPDATE_IN_PROGRESS, begun before; waiting" in line for line in rig.lines)


# ---- states that need a decision


def _stuck(rig: Rig, step: str, status: str, token: str = "console") -> FakeStack:
    stack = rig.aws.stack(step)
    stack.status, stack.next = status, ""
    rig.aws._event(stack, stack.id, status, token)
    return stack


def test_a_creation_that_fails_says_why_and_what_to_do() -> None:
    rig = Rig()
    rig.aws.failing["cluster"] = "Name is taken"

    failed = rig.failure()

    assert isinstance(failed, FailedError)
    assert "cluster (us-west-2): ROLLBACK_COMPLETE: Thing (AWS::Some::Thing): Name is taken" in str(
        failed
    )
    assert failed.next_step == "mend the reason, then: infra deploy --recreate-failed"
    assert not any(name.startswith("routing-") for name in rig.aws.executed)

    again = rig.failure()
    assert isinstance(again, StackStateError)
    assert "is in ROLLBACK_COMPLETE: Thing (AWS::Some::Thing): Name is taken" in again.reason

    rig.deploy(recreate_failed=True)
    assert rig.aws.stack("cluster").status == "CREATE_COMPLETE"


def test_an_update_that_fails_leaves_the_rest_alone_and_can_be_repeated() -> None:
    rig = Rig()
    rig.deploy()
    rig.aws.executed.clear()
    rig.topology = topology(a=Service("a"), b=Service("b"))
    rig.aws.failing["gateway-us-east-1"] = "Invalid body"

    assert isinstance(rig.failure(), FailedError)
    assert rig.aws.stack("gateway-us-east-1").status == "UPDATE_ROLLBACK_COMPLETE"
    assert "routing-a" not in rig.aws.executed

    rig.deploy()
    assert rig.aws.stack("gateway-us-east-1").status == "UPDATE_COMPLETE"


@pytest.mark.parametrize(
    ("status", "next_step"),
    [
        ("UPDATE_ROLLBACK_FAILED", "continue-update-rollback --stack-name"),
        ("DELETE_FAILED", "delete-stack --stack-name shop-example-domain-com-cluster"),
        ("ROLLBACK_FAILED", "delete-stack --stack-name shop-example-domain-com-cluster"),
    ],
)
def test_a_stack_in_a_bad_state_stops_the_run_before_it_begins(
    status: str, next_step: str
) -> None:
    rig = Rig()
    rig.deploy()
    rig.aws.executed.clear()
    _stuck(rig, "cluster", status)

    failed = rig.failure()

    assert isinstance(failed, StackStateError)
    assert status in failed.reason
    assert next_step in failed.next_step
    assert rig.aws.executed == []


def test_somebody_elses_operation_is_not_waited_for() -> None:
    rig = Rig()
    rig.deploy()
    _stuck(rig, "cluster", "UPDATE_IN_PROGRESS")

    failed = rig.failure()

    assert isinstance(failed, BusyError)
    assert "somebody else began that" in failed.reason


def test_all_that_is_stuck_is_said_at_once() -> None:
    rig = Rig()
    rig.deploy()
    _stuck(rig, "cluster", "UPDATE_IN_PROGRESS")
    _stuck(rig, "zone", "UPDATE_ROLLBACK_FAILED")

    with pytest.raises(StepsFailedError) as caught:
        rig.deploy()

    assert caught.value.failures.keys() == {"cluster", "zone"}


def test_what_takes_too_long_goes_on_without_us() -> None:
    rig = Rig()
    rig.deploy()
    _stuck(rig, "cluster", "UPDATE_IN_PROGRESS", "infra-0123456789ab")

    failed = rig.failure()

    assert isinstance(failed, PendingError)
    assert "AWS goes on with it" in failed.reason
    assert any("begun before; waiting" in line for line in rig.lines)


@pytest.mark.parametrize(
    "reason",
    [
        "Resource handler returned message: Limit Exceeded for routing controls",
        "You have exceeded the maximum number of clusters",
        "The quota of 120 custom domain names is reached (Service: ApiGateway)",
    ],
)
def test_a_quota_that_is_used_up_is_called_one(reason: str) -> None:
    rig = Rig()
    rig.aws.failing["cluster"] = reason

    failed = rig.failure()

    assert isinstance(failed, QuotaError)
    assert reason in failed.reason
    assert "service-quotas" in failed.next_step


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("ExpiredToken", CredentialsError),
        ("InvalidClientTokenId", CredentialsError),
        ("AccessDenied", CredentialsError),
        ("LimitExceededException", QuotaError),
        ("InternalFailure", DeployError),
    ],
)
def test_errors_of_a_call_have_a_reason_and_a_next_step(
    code: str, expected: type[DeployError]
) -> None:
    rig = Rig(workers=1)

    def refuse(service: str, region: str, name: str, params: Mapping[str, Any]) -> None:
        if name == "create_change_set":
            raise error(code, "because")

    rig.aws.hook = refuse

    failed = rig.failure()

    assert type(failed) is expected or issubclass(type(failed), expected)
    assert failed.reason.startswith("zone (us-west-2): ")
    assert "infra deploy" in failed.next_step


def test_a_stack_of_that_name_that_is_not_ours_is_left_alone() -> None:
    rig = Rig()
    name = "shop-example-domain-com-zone"
    rig.aws.stacks["us-west-2", name] = FakeStack(name, "us-west-2", "CREATE_COMPLETE")

    failed = rig.failure()

    assert isinstance(failed, SetupError)
    assert "belongs to something else" in failed.reason
    assert rig.aws.executed == []


# ---- what serves traffic


def test_a_replacement_of_what_serves_is_refused_before_anything_is_done() -> None:
    rig = Rig()
    rig.deploy()
    rig.aws.executed.clear()
    stack = rig.aws.stack("domain-a-us-east-1")
    stack.parameters["ServiceName"] = "old"  # as if it had been deployed with another name

    failed = rig.failure()

    assert isinstance(failed, RefusedChangeError)
    what = "domain-a-us-east-1 (us-east-1): FailoverDomain (AWS::ApiGateway::DomainName)"
    assert f"{what} would be replaced (DomainName)" in failed.reason
    assert rig.aws.executed == []
    assert rig.aws.change_sets == {}

    rig.deploy(allowed=("domain-a-us-east-1",))
    assert rig.aws.executed == ["domain-a-us-east-1"]


# ---- the database


def test_databases_are_protected_against_updates_by_anybody() -> None:
    rig = Rig(topology(database=True))
    rig.deploy()

    for name in DATABASE_STEPS:
        deny = json.loads(rig.aws.stack(name).policy)["Statement"][1]
        assert deny["Effect"] == "Deny"
        assert deny["Action"] == ["Update:Replace", "Update:Delete"]
        assert "AWS::RDS::DBCluster" in deny["Condition"]["StringEquals"]["ResourceType"]


@pytest.mark.parametrize("shows_moves", [False, True])
def test_after_a_switchover_nothing_is_proposed_for_a_cluster(shows_moves: bool) -> None:
    rig = Rig(topology(database=True))
    rig.deploy()
    rig.aws.executed.clear()
    rig.aws.writer, rig.aws.shows_moves = "us-west-2", shows_moves

    plans = {each.step.name: each for each in rig.deployment().live_plan()}
    rig.deploy()

    for name in DATABASE_STEPS:
        assert plans[name].what == "unchanged"
    assert rig.aws.executed == []


def test_a_change_that_would_also_undo_a_move_is_refused_even_when_allowed() -> None:
    rig = Rig(topology(database=True))
    rig.deploy()
    rig.aws.executed.clear()
    rig.aws.writer, rig.aws.shows_moves = "us-west-2", True
    rig.aws.stack("database-us-west-2").parameters["BackupRetentionDays"] = "7"
    rig.aws.stack("database-us-west-2").template["Resources"]["Cluster"]["Properties"][
        "BackupRetentionPeriod"
    ] = "7"

    with pytest.raises(RefusedChangeError) as caught:
        rig.deploy(allowed=DATABASE_STEPS)

    assert "moves or detaches a live region" in caught.value.reason
    assert rig.aws.executed == []


def test_migrations_run_where_the_writer_is() -> None:
    rig = Rig(topology(database=True))
    deployment = rig.deployment()
    outputs = deployment.deploy()
    rig.aws.writer = "us-west-2"

    deployment.migrate(rig.aws, outputs)

    assert rig.aws.invoked == [
        ("us-west-2", "todo-us-west-2-migrate", {"primary_region": "us-west-2"})
    ]

    rig.aws.migration_error = "another run is under way"
    with pytest.raises(DeployError, match="another run is under way"):
        deployment.migrate(rig.aws, outputs)


def test_a_global_cluster_without_members_counts_as_the_primarys() -> None:
    assert writer_of({"GlobalClusterMembers": []}, topology()) == "us-east-1"


def test_a_template_that_is_too_large_is_refused() -> None:
    many = {f"s{number}": Service(f"s{number}") for number in range(90)}
    rig = Rig(replace(topology(), services=many))
    step = next(s for s in stack_list(rig.topology) if s.name == "gateway-us-east-1")
    assert isinstance(step, Stack)

    with pytest.raises(SetupError, match="CloudFormation takes 51200"):
        rig.stacks().plan(step, rig.deployment()._template(step), {})


def test_applications_are_steps_like_any() -> None:
    rig = Rig()
    rig.deploy()

    names = [s.name for s in stack_list(rig.topology) if isinstance(s, Application)]
    assert sorted(rig.applications.deployed) == sorted(names)
