"""What is deployed and no longer declared: which steps, and taking them down."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from infra_aws_fakes import FakeApplications, FakeAws, FakeTime, topology
from infra_services_fakes import ACCOUNT

from infra.cloudformation import CloudFormation
from infra.deploying import Deployment
from infra.destroying import Destruction
from infra.leftovers import candidates, leftovers, regions, services_named
from infra.stacks import stack_list
from infra.steps import Stack
from infra.topology import SWITCHES, Service, Topology

NAMES = st.sampled_from(["a", "a-b", "b", "us-east-1", "todo"])


def names(declared: Topology) -> list[str]:
    return [step.name for step in stack_list(declared)]


def stacks(declared: Topology) -> dict[str, str]:
    """What is there when all of it is deployed."""
    return {s.name: s.region for s in stack_list(declared) if isinstance(s, Stack)}


def test_services_are_known_by_the_names_of_their_stacks() -> None:
    declared = topology(a=Service("a"))
    present = [*names(topology(**{"a": Service("a"), "a-b": Service("a-b")})), "something-else"]

    assert services_named(declared, present) == ("a-b",)
    assert services_named(declared, ["domain-old-us-west-2"]) == ("old",)


def test_nothing_is_left_over_of_what_is_declared() -> None:
    declared = topology(database=True)

    assert {s.name for s in leftovers(declared, stacks(declared))} & set(names(declared)) == set()


def test_a_service_that_was_taken_out_is_left_over_whole() -> None:
    before = topology(a=Service("a"), b=Service("b"))
    after = topology(a=Service("a"))

    left = {step.name for step in leftovers(after, stacks(before))}

    assert set(names(before)) - set(names(after)) <= left


@given(
    before=st.dictionaries(NAMES, st.sampled_from(SWITCHES), min_size=1),
    after=st.dictionaries(NAMES, st.sampled_from(SWITCHES), min_size=1),
    database=st.booleans(),
)
def test_whatever_was_declared_before_is_either_declared_or_left_over(
    before: dict[str, str], after: dict[str, str], database: bool
) -> None:
    old, new = (
        topology(**{name: Service(name, switch=switch) for name, switch in given.items()})
        for given in (before, after)
    )
    if database:
        old = replace(old, services={**old.services, "d": Service("d", database="aurora")})

    left = {step.name for step in leftovers(new, stacks(old))}

    assert set(names(old)) <= left | set(names(new))
    assert not left & set(names(new))


def test_what_a_step_needs_comes_before_it() -> None:
    seen: set[str] = set()
    steps = candidates(topology(database=True), ["old"])
    listed = {step.name for step in steps}
    for step in steps:
        assert set(step.needs) & listed <= seen
        seen.add(step.name)


class Rig:
    """What is declared first is deployed; the rest is asked of `after`."""

    def __init__(self, before: Topology, after: Topology) -> None:
        self.aws, self.after = FakeAws(), after
        self.applications = FakeApplications(self.aws)
        self._deployment(before).deploy()
        self.aws.executed.clear()
        self.stacks = CloudFormation(self.aws, after, str, FakeTime().pace())

    def _deployment(self, declared: Topology) -> Deployment:
        stacks = CloudFormation(self.aws, declared, str, FakeTime().pace())
        steps = stack_list(declared)
        return Deployment(declared, steps, stacks, self.applications, str, workers=3)

    def work(self) -> Destruction:
        present = self.stacks.present(regions(self.after))
        deployment = replace(
            self._deployment(self.after), steps=leftovers(self.after, present)
        )
        return Destruction(deployment, self.stacks, self.applications, self.aws, str)


@pytest.mark.parametrize("database", [False, True])
def test_taking_them_down_leaves_what_is_declared_alone(database: bool) -> None:
    rig = Rig(topology(a=Service("a"), database=database, b=Service("b")), topology(a=Service("a")))

    work = rig.work()
    existing = work.existing(ACCOUNT)
    assert existing.applications
    work.destroy(existing)

    there = {s.step for s in rig.aws.stacks.values() if s.status != "DELETE_COMPLETE"}
    assert there == {n for n in names(rig.after) if not n.startswith("application-")}
    assert rig.applications.apis.keys() == {
        "application-a-us-east-1", "application-a-us-west-2",
    }  # fmt: skip
    assert rig.aws.left == []
    assert rig.work().existing(ACCOUNT).stacks == {}
