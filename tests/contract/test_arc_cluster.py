"""The stand-in's own side: endpoint faults, quorum, restarts, propagation, the AWS CLI."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from arc_support import (
    AT_LEAST_ONE,
    AT_MOST_ONE,
    GATE,
    LOCK,
    PRIMARY,
    PROFILE,
    SECONDARY,
    SPARES,
    TARGET,
    StandIn,
    Target,
    deployment,
    stand_in_target,
)
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    EndpointConnectionError,
    ReadTimeoutError,
)
from loopback_networks import free_network

from lab.arc import ArcCluster, ArcError, ArcRefusedError, ArcStartError, ArcStateError
from lab.settings import ARC_REGIONS, Network

SWAP = {PRIMARY: "Off", SECONDARY: "On"}
BATCH_OF_TWO = [
    {"RoutingControlArn": PRIMARY, "RoutingControlState": "Off"},
    {"RoutingControlArn": SECONDARY, "RoutingControlState": "On"},
]


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[StandIn]:
    stand_in = StandIn(tmp_path)
    yield stand_in
    stand_in.close()


@pytest.fixture
def target(stand_in: StandIn) -> Iterator[Target]:
    target = stand_in_target(stand_in)
    yield target
    target.close()


def eventually(condition: Callable[[], bool], seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        threading.Event().wait(0.005)


def code(caught: pytest.ExceptionInfo[ClientError]) -> str:
    return str(caught.value.response["Error"]["Code"])


@pytest.mark.semantics(9)
def test_new_controls_are_off(stand_in: StandIn) -> None:
    assert stand_in.cluster.is_new
    assert set(stand_in.cluster.states().values()) == {False}


@pytest.mark.semantics(1)
@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/"])
def test_every_spelling_of_the_endpoint_works(target: Target, path: str) -> None:
    url = target.endpoints[0]["url"].removesuffix("/v1") + path
    answer = target.client(url=url).get_routing_control_state(RoutingControlArn=PRIMARY)
    assert answer["RoutingControlState"] == "On"


@pytest.mark.semantics(1, 2)
def test_raw_requests_that_no_sdk_sends(target: Target) -> None:
    url = urlsplit(target.endpoints[0]["url"])
    connection = http.client.HTTPConnection(str(url.hostname), url.port, timeout=5)
    try:
        for method, path in (("GET", "/v1"), ("POST", "/v2"), ("POST", "/v1")):
            connection.request(method, path, body=b"{")
            answer = connection.getresponse()
            assert answer.status == 400
            assert json.loads(answer.read())["reason"] == "unknownOperation"
            assert answer.getheader("Content-Type") == "application/x-amz-json-1.0"
            assert answer.getheader("x-amzn-RequestId")
    finally:
        connection.close()


@pytest.mark.semantics(17)
def test_ten_switches_move_at_once_and_eleven_do_not(stand_in: StandIn, target: Target) -> None:
    with pytest.raises(ClientError) as caught:
        target.write(dict.fromkeys(SPARES, "On"))
    response = caught.value.response
    assert code(caught) == "ServiceLimitExceededException"
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 402
    assert response["limitCode"]
    assert response["serviceCode"] == "route53-recovery-cluster"
    assert not any(stand_in.cluster.states()[arn] for arn in SPARES)
    target.write(dict.fromkeys(SPARES[:10], "On"))
    assert sum(stand_in.cluster.states()[arn] for arn in SPARES) == 10


@pytest.mark.semantics(25, 26, 31)
def test_gate_and_wait_period_over_the_wire(stand_in: StandIn, target: Target) -> None:
    for states in ({TARGET: "On"}, {GATE: "On", TARGET: "On"}):
        with pytest.raises(ClientError, match="lock"):
            target.write(states)
    target.write({GATE: "On"})
    target.write({TARGET: "On"})
    with pytest.raises(ClientError, match="wait period of 5000 ms"):
        target.write({TARGET: "Off"})
    target.write({TARGET: "Off"}, overrides=(LOCK,))
    stand_in.clock.wait(5)
    target.write({TARGET: "On"})


@pytest.mark.semantics(8, 30)
def test_statuses_can_be_all_400_and_overrides_forbidden(tmp_path: Path) -> None:
    stand_in = StandIn(tmp_path, all_400=True, without_override={"lab"})
    target = stand_in_target(stand_in)
    try:
        with pytest.raises(ClientError) as caught:
            target.write({PRIMARY: "Off"})
        assert code(caught) == "ConflictException"
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
        with pytest.raises(ClientError) as caught:
            target.write({PRIMARY: "Off"}, overrides=(AT_LEAST_ONE,))
        assert code(caught) == "AccessDeniedException"
        target.write(SWAP)
    finally:
        target.close()
        stand_in.close()


# --- endpoints that fail -----------------------------------------------------------------------

FAULTS: list[Any] = [
    ("refuse", EndpointConnectionError),
    ("hang", ReadTimeoutError),
    ("unavailable", ClientError),
    ("error", ClientError),
    ("throttle", ClientError),
]


@pytest.mark.semantics(12, 13)
@pytest.mark.parametrize(("mode", "expected"), FAULTS)
def test_two_endpoints_fail_and_three_go_on(
    stand_in: StandIn, target: Target, mode: str, expected: type[Exception]
) -> None:
    assert target.states(0) == ("On", "Off")  # leaves a connection open, which must not help
    for region in ARC_REGIONS[:2]:
        stand_in.fault(region, mode)
    for patience in (5, 0.2):  # with the kept connection, and with a new one
        if mode == "hang" and patience == 5:
            continue
        with pytest.raises((expected, ConnectionClosedError)):
            target.client(0, patience=patience).get_routing_control_state(RoutingControlArn=PRIMARY)
    target.write(SWAP, 2)
    stand_in.clock.wait(5)
    assert [target.states(index) for index in (2, 3, 4)] == [("Off", "On")] * 3
    for region in ARC_REGIONS[:2]:
        stand_in.fault(region, "none")
    assert target.states(0) == ("Off", "On")


@pytest.mark.semantics(12)
@pytest.mark.parametrize(
    ("mode", "status", "retry_after"),
    [("unavailable", 503, None), ("error", 500, "1"), ("throttle", 429, "1")],
)
def test_faults_that_answer(
    stand_in: StandIn, target: Target, mode: str, status: int, retry_after: str | None
) -> None:
    stand_in.fault("us-east-1", mode)
    with pytest.raises(ClientError) as caught:
        target.read(PRIMARY)
    metadata = caught.value.response["ResponseMetadata"]
    assert metadata["HTTPStatusCode"] == status
    assert metadata["HTTPHeaders"].get("retry-after") == retry_after


def test_what_hung_is_never_carried_out(stand_in: StandIn, target: Target) -> None:
    """The connection ends when the endpoint works again; the request is forgotten."""
    stand_in.fault("us-east-1", "hang")
    outcome: list[Exception] = []

    def wait_for_it() -> None:
        try:
            target.client(patience=30).update_routing_control_states(
                UpdateRoutingControlStateEntries=BATCH_OF_TWO
            )
        except ConnectionClosedError as error:
            outcome.append(error)

    caller = threading.Thread(target=wait_for_it)
    caller.start()
    while caller.is_alive():
        stand_in.fault("us-east-1", "none")
        stand_in.fault("us-east-1", "hang")
        caller.join(0.05)
    assert len(outcome) == 1
    assert stand_in.cluster.states()[PRIMARY]


def test_an_answer_that_is_lost_leaves_the_change_made(stand_in: StandIn, target: Target) -> None:
    stand_in.fault("us-east-1", "lose_answer")
    with pytest.raises(ReadTimeoutError):
        target.client(patience=0.2).update_routing_control_states(
            UpdateRoutingControlStateEntries=BATCH_OF_TWO
        )
    assert not stand_in.cluster.states()[PRIMARY]
    target.write(SWAP, 1)  # the repeat on the next endpoint is harmless
    assert target.states(1) == ("Off", "On")


@pytest.mark.semantics(13, 14)
@pytest.mark.parametrize("mode", ["refuse", "hang", "unavailable"])
def test_without_quorum_nothing_is_written_anywhere(
    stand_in: StandIn, target: Target, mode: str
) -> None:
    for region in ARC_REGIONS[:3]:
        stand_in.fault(region, mode)
    assert stand_in.cluster.status()["quorum"] is False
    before = stand_in.cluster.states()
    for index in (3, 4):
        with pytest.raises(ClientError) as caught:
            target.write(SWAP, index)
        assert code(caught) == "EndpointTemporarilyUnavailableException"
        assert target.states(index) == ("On", "Off")
    assert stand_in.cluster.states() == before
    stand_in.fault("eu-west-1", "none")
    target.write(SWAP, 3)
    assert target.states(3) == ("Off", "On")


@pytest.mark.semantics(15)
def test_the_fourth_write_in_a_second_is_throttled(target: Target) -> None:
    client = target.client()
    target.wait(1)
    for _ in range(3):
        client.update_routing_control_state(RoutingControlArn=GATE, RoutingControlState="Off")
    with pytest.raises(ClientError) as caught:
        client.update_routing_control_state(RoutingControlArn=GATE, RoutingControlState="Off")
    assert code(caught) == "ThrottlingException"
    assert caught.value.response["ResponseMetadata"]["HTTPHeaders"]["retry-after"] == "1"
    assert [target.read(PRIMARY) for _ in range(5)] == ["On"] * 5
    target.client(1).update_routing_control_state(RoutingControlArn=GATE, RoutingControlState="Off")


@pytest.mark.semantics(19)
def test_what_ends_in_a_region_of_the_application_leaves_five_endpoints_up(
    stand_in: StandIn, target: Target
) -> None:
    """The endpoints share neither address nor listener with the application's regions."""
    regions = ["us-east-1", "us-west-2"]
    for region in regions:
        with socket.create_server((stand_in.network.region_address(regions, region), 0)):
            pass
    assert [target.states(index) for index in range(5)] == [("On", "Off")] * 5


def test_unknown_regions_and_faults_are_refused_together(stand_in: StandIn) -> None:
    with pytest.raises(ValueError, match=r"no endpoint in eu-west-2.*no fault slow"):
        stand_in.fault("eu-west-2", "slow")


# --- state, propagation, start -----------------------------------------------------------------


@pytest.mark.semantics(18)
def test_switches_survive_a_restart(stand_in: StandIn, target: Target) -> None:
    target.write(SWAP)
    stand_in.restart()
    assert not stand_in.cluster.is_new
    states = stand_in.cluster.states()
    assert (states[PRIMARY], states[SECONDARY]) == (False, True)
    assert (PRIMARY, False) in stand_in.changes[-len(states) :]
    assert (SECONDARY, True) in stand_in.changes[-len(states) :]


def test_a_corrupt_state_file_is_a_clear_error(stand_in: StandIn, tmp_path: Path) -> None:
    (tmp_path / "arc.json").write_text("{")
    with pytest.raises(ArcStateError, match=r"arc\.json are corrupt"):
        stand_in.restart()


@pytest.mark.semantics(27)
def test_changes_reach_dns_after_the_propagation_and_refused_ones_never(
    stand_in: StandIn, target: Target
) -> None:
    eventually(lambda: (PRIMARY, True) in stand_in.changes)
    assert len(stand_in.changes) == len(stand_in.cluster.states()) + 1
    stand_in.changes.clear()
    with pytest.raises(ClientError):
        target.write({PRIMARY: "Off"})
    started = time.monotonic()
    target.write(SWAP)
    eventually(lambda: len(stand_in.changes) == 2)
    assert time.monotonic() - started >= PROFILE.propagation
    assert stand_in.changes == [(PRIMARY, False), (SECONDARY, True)]


def test_a_late_callback_hears_what_has_arrived(stand_in: StandIn, target: Target) -> None:
    eventually(lambda: (PRIMARY, True) in stand_in.changes)
    heard: dict[str, bool] = {}
    stand_in.call(stand_in.cluster.on_change, heard.__setitem__)
    assert heard == stand_in.cluster.states()


def test_initial_states_go_through_the_rules_all_or_nothing(stand_in: StandIn) -> None:
    wanted = {SPARES[0]: True, PRIMARY: True, SECONDARY: True}
    with pytest.raises(ArcRefusedError, match="service1-at-most-one"):
        stand_in.call(stand_in.cluster.set_states, wanted)
    assert not any(stand_in.cluster.states().values())
    with pytest.raises(ArcRefusedError, match="arn:none"):
        stand_in.call(stand_in.cluster.set_states, {"arn:none": True})
    stand_in.call(stand_in.cluster.set_states, {SPARES[0]: True, PRIMARY: True})
    assert [arn for arn, on in stand_in.cluster.states().items() if on] == [PRIMARY, SPARES[0]]


def test_events_tell_what_happened(stand_in: StandIn, target: Target) -> None:
    stand_in.events.clear()
    with pytest.raises(ClientError):
        target.write({SECONDARY: "On"}, 1)
    target.write(SWAP, 4)
    stand_in.fault("eu-west-1", "hang")
    refused, updated, fault = stand_in.events
    assert (refused["kind"], refused["rule"]) == ("update_refused", "service1-at-most-one")
    assert (refused["endpoint"], refused["code"]) == ("us-west-2", "ConflictException")
    assert (updated["kind"], updated["endpoint"]) == ("routing_control_updated", "ap-southeast-2")
    assert [(c["name"], c["state"]) for c in updated["changes"]] == [
        ("service1-us-east-1", "Off"),
        ("service1-us-west-2", "On"),
    ]
    assert updated["at"] == stand_in.clock.now
    assert (fault["kind"], fault["endpoint"], fault["mode"]) == (
        "endpoint_fault", "eu-west-1", "hang",
    )  # fmt: skip


def test_status_is_plain_data(stand_in: StandIn, target: Target) -> None:
    target.write(SWAP, 2)
    stand_in.fault("us-west-2", "refuse")
    status = json.loads(json.dumps(stand_in.cluster.status()))
    assert status["quorum"] is True
    assert [e["fault"] for e in status["endpoints"]] == ["none", "refuse", "none", "none", "none"]
    assert [e["changes_behind"] for e in status["endpoints"]] == [1, 1, 0, 1, 1]
    assert [e["url"] for e in status["endpoints"]] == [e["url"] for e in target.endpoints]
    by_name = {control["name"]: control for control in status["routing_controls"]}
    assert by_name["service1-us-west-2"]["state"] == "On"
    assert [rule["arn"] for rule in status["safety_rules"]] == [AT_LEAST_ONE, AT_MOST_ONE, LOCK]


async def test_ports_in_use_are_all_named_and_nothing_is_left_open(tmp_path: Path) -> None:
    network = Network(free_network())
    cluster = ArcCluster(deployment(), PROFILE, tmp_path / "arc.json")
    with pytest.raises(ArcError, match="before it is started"):
        cluster.endpoints()
    with socket.create_server((network.arc_address("eu-west-1"), 0)) as taken:
        port = taken.getsockname()[1]
        with (
            socket.create_server((network.arc_address("us-west-2"), port)),
            pytest.raises(ArcStartError) as caught,
        ):
            await cluster.start(network, port)
    assert [problem.split()[0] for problem in caught.value.problems] == ["us-west-2", "eu-west-1"]
    await cluster.start(network, port)
    with pytest.raises(ArcError, match="started already"):
        await cluster.start(network, port)
    assert {urlsplit(endpoint["url"]).port for endpoint in cluster.endpoints()} == {port}
    cluster.set_endpoint_fault("us-east-1", "refuse")
    cluster.set_endpoint_fault("us-east-1", "none")  # twice before the loop runs once
    cluster.set_endpoint_fault("us-east-1", "refuse")
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(network.arc_address("us-east-1"), port)
    await cluster.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}


# --- the AWS CLI -------------------------------------------------------------------------------


@pytest.mark.semantics(7, 28)
def test_the_aws_cli_moves_a_service_and_is_told_which_rule_refused(
    stand_in: StandIn, target: Target, tmp_path: Path
) -> None:
    def update(states: dict[str, str]) -> subprocess.CompletedProcess[str]:
        entries = [
            {"RoutingControlArn": arn, "RoutingControlState": state}
            for arn, state in states.items()
        ]
        return subprocess.run(
            [
                str(Path(sys.executable).parent / "aws"),
                "route53-recovery-cluster",
                "update-routing-control-states",
                "--update-routing-control-state-entries",
                json.dumps(entries),
                "--region",
                target.endpoints[4]["region"],
                "--endpoint-url",
                target.endpoints[4]["url"],
            ],
            env={
                **os.environ,
                "AWS_ACCESS_KEY_ID": "lab",
                "AWS_SECRET_ACCESS_KEY": "lab",
                "AWS_CONFIG_FILE": str(tmp_path / "none"),
                "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    moved = update(SWAP)
    assert (moved.returncode, moved.stderr) == (0, "")
    assert target.states(4) == ("Off", "On")
    refused = update({SECONDARY: "Off"})
    assert refused.returncode != 0
    assert "ConflictException" in refused.stderr
    assert "service1-at-least-one" in refused.stderr
