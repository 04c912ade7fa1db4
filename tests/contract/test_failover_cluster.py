"""The whole tool, botocore included, against five scripted endpoints on real sockets."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from failover_rig import ARC_REGIONS, EAST, WEST, Rig, control_arn, rule_arn

from failover import cli


@pytest.fixture(autouse=True)
def _credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "operator")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    with Rig(tmp_path) as made:
        monkeypatch.setenv("RECOVERY_FILE", str(made.recovery_file))
        yield made


@pytest.fixture
def contacted() -> Iterator[list[str]]:
    """Hosts that this process resolves or connects to, as Python itself reports; without the
    answers of the rig's own servers."""
    found: list[str] = []
    over: list[bool] = []

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if over or "process_request_thread" in threading.current_thread().name:
            return
        if event == "socket.getaddrinfo":
            found.append(str(args[0]))
        elif event in ("socket.connect", "socket.sendto"):
            found.append(str(args[1][0]))

    sys.addaudithook(hook)
    yield found
    over.append(True)  # a hook cannot be taken out again


def move(*more: str) -> int:
    return cli.main(["move", "service1", "--to", WEST, "--yes", *more])


def break_endpoint(rig: Rig, region: str, mode: str) -> None:
    if mode == "refuse":
        rig.arc[region].refuse()
    else:
        rig.arc[region].mode = mode


@pytest.mark.semantics(61)
@pytest.mark.parametrize("mode", ["refuse", "hang", "503", "500", "429", "garbage"])
def test_a_move_succeeds_with_two_endpoints_down(
    rig: Rig, mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for region in ("us-east-1", "ap-northeast-1"):
        break_endpoint(rig, region, mode)
    started = time.monotonic()
    assert move() == 0
    assert time.monotonic() - started < 5
    assert rig.active("service1") == [WEST]
    assert rig.active("service2") == [EAST]
    updates = [call.endpoint for call in rig.cluster.made("UpdateRoutingControlStates")]
    assert len(updates) == len(set(updates)), "one attempt per endpoint"
    assert "service1  us-west-2" in capsys.readouterr().out


def test_an_update_answered_by_something_else_than_arc_is_not_accepted(rig: Rig) -> None:
    """A proxy's login page is a 200, too."""
    for region in ARC_REGIONS[:4]:
        rig.arc[region].mode = "garbage-updates"
    assert move() == 0
    assert rig.active("service1") == [WEST]


@pytest.mark.semantics(61)
def test_an_evacuation_of_a_dead_region_takes_less_than_5_s_with_two_endpoints_hanging(
    rig: Rig,
) -> None:
    """The endpoints begin to hang between the read and the update: the worst moment."""
    for region in ("us-west-2", "eu-west-1"):
        rig.arc[region].mode = "hang-updates"
    rig.regions[EAST].close()
    rig.cluster.lag = rig.dns.delay = 0.2
    started = time.monotonic()
    assert cli.main(["evacuate", EAST, "--yes"]) == 0
    assert time.monotonic() - started < 5
    assert rig.active("service1") == rig.active("service2") == [WEST]


@pytest.mark.semantics(61)
def test_a_region_that_hangs_does_not_hold_up_its_evacuation(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    for region in ("us-west-2", "eu-west-1"):
        rig.arc[region].mode = "hang"
    rig.regions[EAST].hang = True
    rig.dns.delay = 0.2
    started = time.monotonic()
    assert cli.main(["evacuate", EAST, "--yes", "--json"]) == 0
    assert time.monotonic() - started < 5
    times = json.loads(capsys.readouterr().out)["measurements"]["service1"]
    assert 200 <= times["dns_ms"] <= times["first_answer_ms"] < 1200, "not held up by probes"


@pytest.mark.semantics(62)
@pytest.mark.parametrize(
    ("mode", "cause"),
    [
        ("refuse", "connection refused"),
        ("hang", "no answer within"),
        ("503", "EndpointTemporarilyUnavailableException"),
    ],
)
def test_all_endpoints_down_is_6_and_each_cause_is_printed(
    rig: Rig, mode: str, cause: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for region in ARC_REGIONS:
        break_endpoint(rig, region, mode)
    assert move("--deadline", "2.5") == 6
    shown = capsys.readouterr().out
    for region in ARC_REGIONS:
        assert re.search(rf"- {region}: .*{cause}", shown), shown
    assert rig.active("service1") == [EAST]


@pytest.mark.semantics(8, 63)
@pytest.mark.parametrize("mode", ["ok", "all400"])
def test_a_safety_rule_is_3_is_named_and_no_other_endpoint_is_asked(
    rig: Rig, mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for region in ARC_REGIONS:
        rig.arc[region].mode = mode
    rig.cluster.refuse_with = rule_arn("service1", 11)
    assert move() == 3
    assert len(rig.cluster.made("UpdateRoutingControlStates")) == 1
    shown = capsys.readouterr().out
    assert "service1-at-most-one" in shown
    assert rule_arn("service1", 11) in shown


@pytest.mark.semantics(64)
def test_nothing_but_the_named_endpoints_is_contacted(rig: Rig, contacted: list[str]) -> None:
    assert move() == 0
    assert cli.main(["evacuate", WEST, "--yes"]) == 0
    assert cli.main(["status"]) == 0
    allowed = {f"{r.address}" for r in rig.regions.values()}
    allowed |= {e.url.split("/")[2].split(":")[0] for e in rig.arc.values()}
    allowed.add(rig.dns.address.split(":")[0])
    assert contacted
    assert {host for host in contacted if host} <= allowed
    operations = {call.operation for call in rig.cluster.calls}
    assert operations == {"ListRoutingControls", "UpdateRoutingControlStates"}
    for call in rig.cluster.calls:
        assert call.host == rig.arc[call.endpoint].url.split("/")[2]
        assert f"/{call.endpoint}/route53-recovery-cluster/" in call.authorization


@pytest.mark.semantics(65)
def test_the_states_are_read_back_from_three_endpoints_that_agree(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    rig.cluster.lag = 0.6
    started = time.monotonic()
    assert move("--json") == 0
    assert time.monotonic() - started >= 0.6
    document = json.loads(capsys.readouterr().out)
    (read_back,) = [e for e in document["events"] if e["kind"] == "arc.read_back"]
    assert len(read_back["agreeing"]) >= 3
    assert document["measurements"]["service1"]["read_back_ms"] >= 500


@pytest.mark.semantics(65)
def test_endpoints_that_do_not_agree_in_time_are_reported(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    rig.cluster.lag = 60
    assert move("--wait", "1.2") == 5
    assert "sees other states" in capsys.readouterr().out


@pytest.mark.semantics(66)
def test_a_time_out_of_an_update_that_was_done_ends_in_success(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whichever endpoint is asked first does it and never answers; the next says yes, too."""
    rig.cluster.lose_answers = 1
    assert move("--json") == 0
    assert rig.active("service1") == [WEST]
    document = json.loads(capsys.readouterr().out)
    failed = [e for e in document["events"] if e["kind"] == "arc.endpoint_failed"]
    assert [e["ambiguous"] for e in failed] == [True]
    assert len(rig.cluster.made("UpdateRoutingControlStates")) == 2
    assert document["status"] == "completed"


def test_no_credentials_is_4_and_says_what_to_set(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert move() == 4
    assert "set AWS_ACCESS_KEY_ID" in capsys.readouterr().out
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert move() == 4
    assert "nobody" in capsys.readouterr().out


def test_the_probe_speaks_to_the_failover_host_at_the_address_dns_gave(rig: Rig) -> None:
    assert move() == 0
    port = rig.regions[WEST].port
    assert f"service1.{WEST}.example.test:{port}" in rig.regions[WEST].hosts
    assert f"service1.example.test:{port}" in rig.regions[WEST].hosts


def test_a_target_with_an_error_or_an_unknown_certificate_gets_no_traffic(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    rig.regions[WEST].status = 503
    assert move() == 4
    assert "us-west-2 does not answer well: HTTP 503" in capsys.readouterr().out
    rig.regions[WEST].status = 200
    document = json.loads(rig.recovery_file.read_text())
    del document["tls"]
    rig.recovery_file.write_text(json.dumps(document))
    assert move() == 4
    assert "certificate not accepted" in capsys.readouterr().out
    assert rig.cluster.made("UpdateRoutingControlStates") == []


def test_there_and_back_leaves_what_was(rig: Rig) -> None:
    before = dict(rig.cluster.states)
    assert move() == 0
    assert cli.main(["move", "service1", "--to", EAST, "--yes"]) == 0
    assert rig.cluster.states == before


def test_status_sees_every_part(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", "--check"]) == 0
    rig.arc["eu-west-1"].refuse()
    rig.regions[WEST].close()
    started = time.monotonic()
    assert cli.main(["status", "--check"]) == 4
    assert time.monotonic() - started < 4
    shown = capsys.readouterr().out
    assert "4 of 5 answered" in shown
    assert "eu-west-1: connection refused" in shown
    assert "us-west-2 (standby) does not answer well: connection refused" in shown


def test_ctrl_c_says_what_was_done_and_the_same_command_finishes_it(rig: Rig) -> None:
    """A real signal to a real process, while it waits for DNS."""
    rig.dns.delay = 60
    words = [sys.executable, "-m", "failover", "move", "service1", "--to", WEST, "--yes"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        shown = ""
        for line in process.stdout:
            shown += line
            if "endpoints agree" in line:
                process.send_signal(signal.SIGINT)
                break
        shown += process.stdout.read()
        assert process.wait(10) == 130
    assert "accepted by ARC: service1" in shown
    assert "safe to run the same command again" in shown
    rig.dns.delay = 0
    assert move() == 0
    assert rig.cluster.states[control_arn("service1", WEST)]
    assert len(rig.cluster.made("UpdateRoutingControlStates")) == 1, "it was done already"
