"""Rules of the global database that need no server: the proxy's judgement, state, names, XML."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.aurora import query
from lab.aurora.accounts import Accounts, Login, SecretValue
from lab.aurora.agent import View
from lab.aurora.errors import AuroraError, OperationLost
from lab.aurora.layout import read_layout
from lab.aurora.link import LinkFault, LinkFaults
from lab.aurora.proxy import Target, Verdict, error_packet, judge
from lab.aurora.rds import cluster_status
from lab.aurora.resync import snapshot_identifier
from lab.aurora.server import find, init_sql, literal
from lab.aurora.splice import DelayedSide, Side, join
from lab.aurora.state import GlobalState, Kind, StateFile, Step, begin
from lab.model import Deployment, Resource
from lab.settings import PROFILES, Network, Settings

EAST, WEST = "us-east-1", "us-west-2"
SETTINGS = Settings(Network(), PROFILES["fast"], "example.test", (EAST, WEST), "topology.toml")
ANSWERS = Target(read_only=False, becomes_writer=True, rebuilding=False, instances=2)


# ---- the proxy's judgement


@pytest.mark.parametrize(
    ("target", "writer", "reader"),
    [
        (ANSWERS, Verdict.ADMIT, Verdict.ADMIT),
        (replace(ANSWERS, instances=1), Verdict.ADMIT, Verdict.REFUSE),
        (Target(True, False, False, 2), Verdict.REFUSE, Verdict.ADMIT),
        (Target(True, False, False, 1), Verdict.REFUSE, Verdict.ADMIT),
        (Target(True, True, False, 2), Verdict.WAIT, Verdict.ADMIT),  # a switchover to here
        (Target(None, False, False, 2), Verdict.WAIT, Verdict.WAIT),  # not known yet
        (Target(True, False, True, 2), Verdict.REFUSE, Verdict.WAIT),  # being rebuilt
    ],
)
def test_who_is_admitted(target: Target, writer: Verdict, reader: Verdict) -> None:
    assert judge(True, target) is writer
    assert judge(False, target) is reader


@given(
    read_only=st.sampled_from([None, True, False]),
    becomes=st.booleans(),
    rebuilding=st.booleans(),
    instances=st.integers(1, 3),
)
def test_read_write_connection_is_never_given_to_a_server_that_refuses_writes(
    read_only: bool | None, becomes: bool, rebuilding: bool, instances: int
) -> None:
    target = Target(read_only, becomes, rebuilding, instances)
    if judge(True, target) is Verdict.ADMIT:
        assert read_only is False
        assert not rebuilding


def test_error_packet_has_length_sequence_number_and_text() -> None:
    packet = error_packet(9501, "late")
    assert packet == bytes([7, 0, 0, 0, 0xFF]) + (9501).to_bytes(2, "little") + b"late"


# ---- the shared state


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def state_file(folder: Path, clock: Clock) -> StateFile:
    return StateFile(folder / "state" / "aurora.json", EAST, clock)


def test_state_without_a_file_is_that_of_a_new_cluster(tmp_path: Path) -> None:
    assert state_file(tmp_path, Clock()).read() == GlobalState(EAST)


def test_state_is_the_same_for_another_process(tmp_path: Path) -> None:
    clock = Clock()
    operation = begin(Kind.FAILOVER, EAST, WEST, WEST, clock())
    state_file(tmp_path, clock).update(
        lambda s: replace(s.with_resync(EAST, 5.5), operation=operation)
    )
    seen = state_file(tmp_path, clock).read()
    assert seen.operation == operation
    assert seen.resync_of(EAST) is not None
    assert seen.resync_of(WEST) is None


def test_operation_goes_on_step_by_step_and_ends(tmp_path: Path) -> None:
    clock, file = Clock(), state_file(tmp_path, Clock())
    operation = begin(Kind.SWITCHOVER, EAST, WEST, EAST, clock())
    file.update(lambda s: replace(s, operation=operation))
    assert file.advance(operation, Step.PROMOTING).step is Step.PROMOTING
    assert file.advance(operation).step is Step.PROMOTING  # a renewed lease changes no step
    stuck = file.advance(operation, problem="the target is away")
    assert stuck.stuck(clock())
    assert not file.advance(operation).stuck(clock())
    ended = file.finish(operation, lambda s: replace(s, writer=WEST))
    assert (ended.writer, ended.operation) == (WEST, None)
    with pytest.raises(OperationLost):
        file.advance(operation)


def test_operation_is_taken_over_when_its_lease_has_run_out_only(tmp_path: Path) -> None:
    clock = Clock()
    file = state_file(tmp_path, clock)
    operation = begin(Kind.SWITCHOVER, EAST, WEST, EAST, clock())
    file.update(lambda s: replace(s, operation=operation))
    with pytest.raises(OperationLost):
        file.claim(operation, WEST)
    clock.now += 10
    claimed = file.claim(operation, WEST)
    assert claimed.runner == WEST
    with pytest.raises(OperationLost):  # the first process wakes up
        file.advance(operation, Step.PROMOTING)
    with pytest.raises(OperationLost):  # and a third one is too late
        file.claim(operation, EAST)


def test_region_takes_its_own_operation_up_again_at_once(tmp_path: Path) -> None:
    clock = Clock()
    file = state_file(tmp_path, clock)
    operation = begin(Kind.SWITCHOVER, EAST, WEST, EAST, clock())
    file.update(lambda s: replace(s, operation=operation))
    assert file.claim(operation, EAST).token != operation.token


def test_broken_state_is_named(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "aurora.json").write_text("{")
    with pytest.raises(AuroraError, match=r"aurora\.json cannot be read"):
        state_file(tmp_path, Clock()).read()


# ---- faults of the link


def test_link_faults_are_seen_by_both_regions(tmp_path: Path) -> None:
    path = tmp_path / "links.json"
    east, west = LinkFaults(path, EAST, 0.064), LinkFaults(path, WEST, 0.064)
    assert (east.cut, east.delay) == (False, 0.064)
    east.put(LinkFault(delay_seconds=0.5, cut=True))
    assert (west.cut, west.delay) == (True, 0.5)
    west.put(LinkFault(delay_seconds=0.0))
    assert (west.delay, east.delay) == (0.0, 0.5)
    east.put(LinkFault())
    assert (west.cut, east.delay) == (False, 0.0)


class Wire:
    """The part of a transport that a side uses."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


def pair(delay: list[float]) -> tuple[DelayedSide, Side, Wire]:
    sender, receiver, wire = DelayedSide(lambda: delay[0], lambda _: None), Side(), Wire()
    sender.connection_made(Wire())  # type: ignore[arg-type]
    receiver.connection_made(wire)  # type: ignore[arg-type]
    join(sender, receiver)
    return sender, receiver, wire


@settings(max_examples=20, deadline=None)
@given(delays=st.lists(st.sampled_from([0.0, 0.001, 0.003]), min_size=1, max_size=12))
def test_order_is_kept_when_the_delay_changes(delays: list[float]) -> None:
    async def send() -> list[bytes]:
        delay = [0.0]
        sender, _, wire = pair(delay)
        for number, delay[0] in enumerate(delays):
            sender.data_received(b"%d" % number)
        async with asyncio.timeout(2):
            while len(wire.written) < len(delays):  # noqa: ASYNC110 - plain bytes, no event
                await asyncio.sleep(0.001)
        return wire.written

    assert asyncio.run(send()) == [b"%d" % n for n in range(len(delays))]


async def test_what_is_under_way_is_lost_with_its_sender() -> None:
    sender, _, wire = pair([0.005])
    sender.data_received(b"under way")
    sender.connection_lost(None)
    await asyncio.sleep(0.02)
    assert wire.written == []
    assert wire.closed


async def test_slow_receiver_stops_the_sender() -> None:
    sender, receiver, _ = pair([0.0])
    receiver.pause_writing()
    assert sender.transport is not None
    assert sender.transport.paused  # type: ignore[attr-defined]
    receiver.resume_writing()
    assert not sender.transport.paused  # type: ignore[attr-defined]


# ---- reading a deployment


def resources(**changes: Any) -> list[Resource]:
    made = [
        Resource("g", EAST, "Global", "AWS::RDS::GlobalCluster", "todo-global",
                 {"EngineVersion": "8.0.mysql_aurora.3.10.1", **changes}, {}),
        secret("Application", "todo_app"),
        secret("Admin", "todo_admin"),
    ]
    for region in (EAST, WEST):
        made += [
            Resource("d", region, "Cluster", "AWS::RDS::DBCluster", f"todo-{region}",
                     {"DatabaseName": "todo"} if region == EAST else {},
                     {"DBClusterArn": f"arn:aws:rds:{region}:111122223333:cluster:todo-{region}"}),
            Resource("d", region, "Proxy", "AWS::RDS::DBProxy", "todo", {},
                     {"DBProxyArn": "arn", "Endpoint": "todo.proxy-0"}),
            Resource("d", region, "One", "AWS::RDS::DBInstance", f"{region}-1", {}, {}),
        ]
    return made


def secret(logical_id: str, user: str) -> Resource:
    arn = f"arn:aws:secretsmanager:{EAST}:111122223333:secret:todo/{logical_id.lower()}-AbCdEf"
    return Resource(
        "s", EAST, logical_id, "AWS::SecretsManager::Secret", arn,
        {"GenerateSecretString": {"SecretStringTemplate": json.dumps({"username": user})},
         "ReplicaRegions": [{"Region": WEST}]}, {},
    )


def test_layout_of_a_deployment() -> None:
    layout = read_layout(Deployment(tuple(resources()), {}), SETTINGS)
    assert (layout.global_cluster, layout.seed, layout.database) == ("todo-global", EAST, "todo")
    assert layout.clusters[WEST].borrow_timeout == 120  # as AWS without a target group's word
    application, admin = layout.secrets
    assert (application.administrator, admin.administrator) == (False, True)
    assert application.name == "todo/application"
    assert application.arn_in(WEST) == application.arn.replace(EAST, WEST)


def test_administrators_secret_is_the_one_that_the_cluster_uses() -> None:
    found = resources()
    arn = found[1].physical_id
    for number, resource in enumerate(found):
        if resource.logical_id == "Cluster" and resource.region == EAST:
            reference = f"{{{{resolve:secretsmanager:{arn}:SecretString:password}}}}"
            properties = {**resource.properties, "MasterUserPassword": reference}
            found[number] = replace(resource, properties=properties)
    layout = read_layout(Deployment(tuple(found), {}), SETTINGS)
    assert [s.administrator for s in layout.secrets] == [True, False]


def test_everything_that_is_wrong_with_a_deployment_is_named() -> None:
    broken = tuple(
        r for r in resources()
        if r.type != "AWS::RDS::DBProxy" and r.logical_id != "Admin" and r.region == EAST
    )
    with pytest.raises(AuroraError) as refusal:
        read_layout(Deployment(broken, {}), SETTINGS)
    for part in ("us-east-1 has 0 AWS::RDS::DBProxy", "us-west-2 has 0 AWS::RDS::DBCluster",
                 "headless", "exactly one must be the cluster's master user's"):
        assert part in str(refusal.value)


def test_missing_server_names_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(AuroraError, match="mariadb-server and mariadb-client"):
        find("mariadbd-that-is-not-there")


# ---- accounts


def test_init_file_makes_each_account_once_and_writes_no_binary_log() -> None:
    layout = read_layout(Deployment(tuple(resources()), {}), SETTINGS)
    value = {name: json.dumps({"username": user, "password": "it's; \\ one"})
             for name, user in (("todo/application", "app"), ("todo/admin", "boss"))}
    accounts = Accounts(Login("lab", "p"), Login("rep", "p"),
                        {name: SecretValue(text, "v", 0) for name, text in value.items()})
    lines = init_sql(layout, accounts).splitlines()
    assert lines[0] == "SET sql_log_bin = 0;"
    app = [line for line in lines if "'app'" in line]
    assert app[0] == (
        "CREATE USER IF NOT EXISTS 'app'@'%' IDENTIFIED BY 'it''s; \\\\ one' REQUIRE SSL;"
    )
    assert app[1] == "GRANT SELECT, INSERT, UPDATE, DELETE ON `todo`.* TO 'app'@'%';"
    (boss,) = [line for line in lines if line.startswith("GRANT") and "'boss'" in line]
    assert boss.endswith(" WITH GRANT OPTION;")
    assert "SUPER" not in boss
    assert "READ ONLY" not in boss
    assert "p" not in repr(accounts.admin).removeprefix("Login('lab'")


def test_password_with_a_line_break_is_refused() -> None:
    with pytest.raises(AuroraError, match="line break"):
        literal("a\nb")


# ---- names and shapes


def test_snapshot_has_auroras_name() -> None:
    assert snapshot_identifier("todo-us-east-1", 0) == (
        "rds:unplanned-global-failover-todo-us-east-1-1970-01-01-00-00-00"
    )


def test_status_of_a_cluster() -> None:
    idle = GlobalState(EAST)
    moving = replace(idle, operation=begin(Kind.SWITCHOVER, EAST, WEST, EAST, 0))
    well = View(read_only=False, reachable=True)
    assert cluster_status(idle, EAST, well) == "available"
    assert cluster_status(moving, EAST, well) == "switching-over"
    assert cluster_status(idle, EAST, replace(well, reachable=False)) == "failing-over"
    assert cluster_status(idle, EAST, replace(well, rebuilding=True)) == "creating"


def test_xml_names_the_members_of_lists_and_escapes() -> None:
    text = query.result("Describe", {"Things": query.Members("Thing", [{"A": "<&>"}, {"A": True}]),
                                   "Empty": query.Members("Thing", []), "Gone": None}, "id")
    root = ElementTree.fromstring(text)
    space = {"r": query.NAMESPACE}
    assert [e.text for e in root.findall("r:DescribeResult/r:Things/r:Thing/r:A", space)] == [
        "<&>", "true",
    ]
    assert root.find("r:DescribeResult/r:Gone", space) is None
    assert root.find("r:DescribeResult/r:Empty", space) is not None
