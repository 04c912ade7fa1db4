"""`infra deploy --only-region`: which steps it takes, which it leaves, and what it says of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from infra_aws_fakes import topology
from test_infra_commands import Shell
from test_infra_deploying import Rig

from infra.errors import RefusedChangeError
from infra.stacks import stack_list
from infra.staging import REGIONAL, Selection, deploy_region, migrate_region, region_of, select
from infra.steps import Outputs, Stack, Step
from infra.templates import TEMPLATES
from infra.topology import API, Options, Pipeline, Service, Topology

EAST, WEST = "us-east-1", "us-west-2"
SHARED = {
    "cloudfront.yaml", "cluster.yaml", "dashboard.yaml", "global-database.yaml", "overview.yaml",
    "pipeline.yaml", "readiness.yaml", "region-switch.yaml", "routing.yaml", "routing-alarm.yaml",
    "routing-health.yaml", "secrets.yaml", "zone.yaml",
}  # fmt: skip
"""Templates that were looked at and are of no region."""

OF_THE_WEST = [
    "certificate-us-west-2", "logging-us-west-2",
    "domain-a-us-west-2", "application-a-us-west-2", "mapping-a-us-west-2",
    "domain-api-us-west-2", "gateway-us-west-2", "mapping-api-us-west-2",
    "alarms-us-west-2",
]  # fmt: skip

names = st.from_regex(r"[a-z][a-z0-9-]{0,8}[a-z0-9]", fullmatch=True).filter(lambda n: n != API)
services = st.one_of(
    st.builds(
        Service,
        st.just(""),
        database=st.sampled_from(["", "aurora"]),
        switch=st.sampled_from(["arc", "alarm"]),
    ),
    st.just(Service("", switch="health")),
)
topologies = st.builds(
    lambda declared, regions: Topology(
        "shop.example-domain.com",
        regions,
        {name: replace(service, name=name) for name, service in declared.items()},
    ),
    st.dictionaries(names, services, min_size=1, max_size=6),
    st.sampled_from([(EAST, WEST), (WEST, EAST), ("eu-west-1", "eu-central-1")]),
)


def chosen(declared: Topology, region: str = WEST) -> Selection:
    return select(stack_list(declared), region)


# ---- what is selected


def test_a_region_without_a_database_needs_the_zone_and_nothing_else() -> None:
    selection = chosen(topology())

    assert [step.name for step in selection.steps] == ["zone", *OF_THE_WEST]
    assert list(selection.own) == OF_THE_WEST
    assert selection.shared == ("zone",)
    assert selection.forced == {}
    assert {"cluster", "routing-a", "routing-api", "dashboard-a", "overview"} <= set(selection.left)
    assert all(EAST in n for n in selection.left if n.endswith(("-1", "-2")))


@pytest.mark.parametrize("region", [EAST, WEST])
def test_a_region_with_a_database_needs_the_user_pool_and_the_key_of_the_other(
    region: str,
) -> None:
    selection = chosen(topology(database=True), region)
    other = WEST if region == EAST else EAST

    users = selection.forced[f"users-{other}"]
    assert f"application-todo-{region}" in users
    assert selection.forced[f"keys-{other}"]
    # The first member of a global cluster is its writer, so only the secondary waits for the other.
    assert (f"database-{other}" in selection.forced) is (region == WEST)
    assert set(selection.shared) == {"zone", "global-database", "secrets"}
    assert not [n for n in selection.forced if n.startswith(("application", "domain", "gateway"))]


def test_a_service_that_is_named_like_a_region_is_not_taken_for_one() -> None:
    """routing-x-us-west-2 lies in us-west-2 and ends with its name, and is of no region."""
    selection = chosen(topology(**{"x-us-west-2": Service("x-us-west-2")}))

    assert "routing-x-us-west-2" in selection.left
    assert "domain-x-us-west-2-us-east-1" in selection.left
    assert "domain-x-us-west-2-us-west-2" in selection.own


@settings(max_examples=60, deadline=None)
@given(topologies, st.integers(0, 1))
def test_the_selection_is_closed_and_has_the_others_steps_only_by_need(
    declared: Topology, index: int
) -> None:
    steps, region = stack_list(declared), declared.regions[index]
    selection = select(steps, region)
    taken = {step.name: step for step in selection.steps}

    assert all(set(step.needs) <= taken.keys() for step in selection.steps)
    assert {s.name for s in steps if region_of(s) == region} == set(selection.own) <= taken.keys()
    others = {name for name, step in taken.items() if region_of(step) not in ("", region)}
    assert others == selection.forced.keys()
    for name, because in selection.forced.items():
        assert because
        assert all(name in taken[needing].needs for needing in because)
    assert {*selection.own, *selection.shared, *selection.forced} == taken.keys()
    assert taken.keys() | set(selection.left) == {step.name for step in steps}
    assert not taken.keys() & set(selection.left)
    assert list(selection.steps) == [step for step in steps if step.name in taken]


@settings(max_examples=30, deadline=None)
@given(topologies)
def test_both_regions_together_are_everything_but_what_shows_and_switches(
    declared: Topology,
) -> None:
    steps = stack_list(declared)
    taken = {s.name for region in declared.regions for s in select(steps, region).steps}

    rest = [step for step in steps if step.name not in taken]
    assert {step.template for step in rest if isinstance(step, Stack)} <= {
        "cluster.yaml", "routing.yaml", "dashboard.yaml", "overview.yaml",
        "routing-alarm.yaml", "routing-health.yaml",
    }  # fmt: skip
    assert all(isinstance(step, Stack) for step in rest)


def everything() -> Iterator[Step]:
    """Every step that there can be."""
    connection = "arn:aws:codeconnections:us-west-2:111122223333:connection/1"
    yield from stack_list(topology(a=Service("a", switch="alarm")))
    yield from stack_list(
        replace(
            topology(database=True),
            options=Options(True, True, True, True, alarm_email="oncall@example.org"),
            pipeline=Pipeline(connection, "owner/name"),
        )
    )


def test_every_template_was_looked_at_for_whether_it_is_regional() -> None:
    """A new one: put it into REGIONAL if there is one in each region, else into SHARED here."""
    files = {path.name for path in TEMPLATES.glob("*.yaml")}

    assert files == REGIONAL | SHARED
    for template in REGIONAL:
        found = {s.region for s in everything() if isinstance(s, Stack) and s.template == template}
        assert found == {EAST, WEST}, template


# ---- what a run does


class Staged(Rig):
    def region(self, region: str = WEST, allowed: tuple[str, ...] = ()) -> Outputs:
        self.aws.executed.clear()
        self.applications.deployed.clear()
        selection = select(stack_list(self.topology), region)
        return deploy_region(self.deployment(), selection, allowed)

    def said(self, text: str) -> list[str]:
        return [line for line in self.lines if text in line]


def test_an_empty_account_gets_one_region_and_its_zone() -> None:
    rig = Staged()

    outputs = rig.region()

    stacks = [name for name in OF_THE_WEST if not name.startswith("application")]
    assert sorted(rig.aws.executed) == sorted(["zone", *stacks])
    assert rig.applications.deployed == ["application-a-us-west-2"]
    assert outputs.keys() == {"zone", *OF_THE_WEST}
    assert rig.said("only us-west-2: 9 steps of its own, 1 that they need, ")


def test_a_whole_deployment_goes_on_from_there() -> None:
    rig = Staged()
    rig.region()
    rig.aws.executed.clear()

    rig.deploy()

    assert not set(rig.aws.executed) & set(OF_THE_WEST)
    assert {"routing-a", "certificate-us-east-1", "overview"} <= set(rig.aws.executed)


def test_what_must_be_made_in_the_other_region_is_said() -> None:
    rig = Staged(topology(database=True))

    rig.region()

    assert {"users-us-east-1", "database-us-east-1"} <= set(rig.aws.executed)
    assert rig.said("users-us-east-1 is not us-west-2's; it is created, application-todo-us-west-2")
    assert not [name for name in rig.applications.deployed if EAST in name]


def test_a_release_touches_nothing_that_the_other_region_uses() -> None:
    """A change of a shared stack and one of the other region's are shown and left."""
    rig = Staged(topology(database=True))
    rig.deploy()
    for step, resource, key in (
        ("secrets", "Application", "Description"),
        ("users-us-east-1", "UserPool", "UserPoolName"),
        ("alarms-us-west-2", "A", "AlarmDescription"),
    ):
        document = rig.aws.stack(step).template["Resources"]
        name = next(n for n in document if n.startswith(resource))
        document[name]["Properties"][key] = "as it was"

    rig.region()

    assert rig.aws.executed == ["alarms-us-west-2"]
    assert all(name.endswith(WEST) for name in rig.applications.deployed)
    assert rig.said("secrets would change (Modify")
    assert rig.said("is left as it is, because it serves both regions")
    assert rig.said("users-us-east-1 would change (Modify UserPool) and is left as it is, because")
    assert not rig.aws.change_sets

    rig.deploy()
    assert {"secrets", "users-us-east-1"} <= set(rig.aws.executed)


def test_a_replacement_of_the_regions_own_is_refused_as_ever() -> None:
    rig = Staged()
    rig.deploy()
    domain = rig.aws.stack("domain-a-us-west-2")
    for body in domain.template["Resources"].values():
        if body["Type"] == "AWS::ApiGateway::DomainName":
            body["Properties"]["DomainName"] = "other.example-domain.com"

    with pytest.raises(RefusedChangeError, match="domain-a-us-west-2"):
        rig.region()
    assert rig.aws.executed == []

    rig.region(allowed=("domain-a-us-west-2",))
    assert rig.aws.executed == ["domain-a-us-west-2"]


# ---- migrations


@pytest.mark.parametrize(("writer", "runs"), [(EAST, False), (WEST, True)])
def test_migrations_run_only_where_the_writer_and_the_new_code_are(
    writer: str, runs: bool
) -> None:
    rig = Staged(topology(database=True))
    rig.deploy()
    rig.aws.writer = writer
    deployment, selection = rig.deployment(), chosen(rig.topology)
    outputs = deploy_region(deployment, selection)

    migrate_region(deployment, selection, rig.aws, outputs)

    called = [(region, function) for region, function, _ in rig.aws.invoked]
    assert called == ([(WEST, "todo-us-west-2-migrate")] if runs else [])
    explained = "schema of todo: not migrated, the writer is in us-east-1. Until us-east-1 is "
    assert bool(rig.said(explained)) is not runs


def test_without_a_database_nothing_is_said_of_schemas() -> None:
    rig = Staged()
    outputs = rig.region()

    migrate_region(rig.deployment(), chosen(rig.topology), rig.aws, outputs)

    assert not rig.said("schema")


# ---- the command

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def test_the_command_ends_with_what_to_do_next(shell: Shell, capsys: Capture) -> None:
    shell.applications()

    assert shell.run("deploy", "--only-region", WEST) == 0

    (*_, last) = capsys.readouterr().out.splitlines()
    assert f"{WEST} is deployed; next: infra --topology " in last
    assert f" verify {WEST}, and for the rest: infra --topology " in last
    assert last.endswith(" deploy")
    assert {stack.region for stack in shell.aws.stacks.values()} == {WEST}


def test_after_a_failure_the_same_command_is_named_and_continues(
    shell: Shell, capsys: Capture
) -> None:
    shell.applications()
    shell.aws.failing["gateway-us-west-2"] = "Internal error"

    assert shell.run("deploy", "--only-region", WEST) == 1
    assert f" deploy --only-region {WEST}" in capsys.readouterr().err

    assert shell.run("deploy", "--only-region", WEST, "--recreate-failed") == 0
    assert shell.run("deploy", "--only-region", EAST) == 0
    assert shell.run("deploy") == 0


def test_a_step_of_the_other_region_can_be_named_without_harm(shell: Shell) -> None:
    shell.applications()
    assert shell.run("deploy") == 0

    allowed = ("--allow-replacement", "domain-a-us-east-1")
    assert shell.run("deploy", "--only-region", WEST, *allowed) == 0
