"""The whole tool, botocore included, against two scripted CloudWatch APIs on real sockets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from failover_rig import EAST, WEST
from failover_takeover_rig import ALARM, HEALTH, TakeOverRig, alarm_name

from failover import cli

MOVE = ("move", ALARM, "--to", WEST, "--yes")


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
def rig(tmp_path: Path) -> Iterator[TakeOverRig]:
    with TakeOverRig(tmp_path) as made:
        yield made


@pytest.fixture
def without_arc(tmp_path: Path) -> Iterator[TakeOverRig]:
    with TakeOverRig(tmp_path, arc=False) as made:
        yield made


def run(rig: TakeOverRig, *words: str) -> int:
    return cli.main([*words, "--recovery-file", str(rig.recovery_file)])


def at_rest(rig: TakeOverRig, service: str) -> tuple[bool, bool]:
    return rig.metrics.is_taken(service, EAST), rig.metrics.is_taken(service, WEST)


def test_a_move_by_the_real_protocol(rig: TakeOverRig, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(rig, *MOVE) == 0
    assert rig.metrics.told()[:2] == [EAST, WEST]
    assert at_rest(rig, ALARM) == (True, False)
    assert {op for _, op, _, _ in rig.metrics.calls} == {"PutMetricData", "DescribeAlarms"}
    for region, _, _, authorization in rig.metrics.calls:
        assert f"/{region}/monitoring/aws4_request" in authorization, "signed for its own region"
    puts = [given for _, op, given, _ in rig.metrics.calls if op == "PutMetricData"]
    (datum,) = puts[1]["MetricData"]
    assert (datum["Value"], datum["Unit"]) == (1.0, "None")
    assert "Timestamp" not in datum, "the time at which it arrives counts"
    asked = [given for _, op, given, _ in rig.metrics.calls if op == "DescribeAlarms"]
    assert {tuple(a["AlarmTypes"]) for a in asked} == {("MetricAlarm",)}
    assert {name for a in asked for name in a["AlarmNames"]} == {
        alarm_name(ALARM, EAST), alarm_name(ALARM, WEST),
    }  # fmt: skip
    assert rig.cluster.calls == [], "the recovery cluster has no part in it"
    assert "service2  us-west-2" in capsys.readouterr().out
    assert run(rig, "back", ALARM, "--yes") == 0
    assert at_rest(rig, ALARM) == (False, False)


def test_an_evacuation_with_every_switch(rig: TakeOverRig) -> None:
    assert run(rig, "evacuate", EAST, "--yes") == 0
    assert rig.active("service1") == [WEST]
    assert rig.answering(ALARM) == rig.answering(HEALTH) == WEST
    assert run(rig, "status", "--check") == 0
    assert run(rig, "evacuate", WEST, "--yes") == 0
    assert rig.active("service1") == [EAST]
    assert at_rest(rig, ALARM) == at_rest(rig, HEALTH) == (False, False)


@pytest.mark.parametrize("how", ["refuses", "hangs"])
def test_a_dead_primary_is_left_behind(without_arc: TakeOverRig, how: str) -> None:
    rig = without_arc
    if how == "refuses":
        rig.kill(EAST)
    else:
        rig.regions[EAST].hang = True
        rig.metrics.hanging = {f"{EAST} PutMetricData", f"{EAST} DescribeAlarms"}
    started = time.monotonic()
    assert run(rig, "evacuate", EAST, "--yes") == 0
    assert time.monotonic() - started < 10
    assert rig.answering(ALARM) == rig.answering(HEALTH) == WEST


def test_a_dead_standby_is_left_behind_and_cleared_later(
    without_arc: TakeOverRig, capsys: pytest.CaptureFixture[str]
) -> None:
    rig = without_arc
    assert run(rig, *MOVE) == 0
    rig.metrics.hanging = {f"{WEST} PutMetricData", f"{WEST} DescribeAlarms"}
    assert run(rig, "move", ALARM, "--to", EAST, "--yes") == 0
    assert rig.answering(ALARM) == EAST
    assert at_rest(rig, ALARM) == (True, True)
    rig.metrics.hanging = set()
    assert run(rig, "status", "--check") == 4
    assert "both regions are taken over" in capsys.readouterr().out
    assert run(rig, "move", ALARM, "--to", EAST, "--yes") == 0
    assert at_rest(rig, ALARM) == (False, False)


def test_a_service_that_route_53_has_moved_is_held(without_arc: TakeOverRig) -> None:
    rig = without_arc
    rig.kill(EAST)
    assert rig.answering(HEALTH) == WEST
    assert run(rig, "move", HEALTH, "--to", WEST, "--yes") == 0
    assert at_rest(rig, HEALTH) == (True, False)
    assert run(rig, "move", HEALTH, "--to", EAST, "--yes") == 4, "it does not answer"


def test_a_dead_cluster_does_not_stop_what_has_alarms(rig: TakeOverRig) -> None:
    for endpoint in rig.arc.values():
        endpoint.refuse()
    assert run(rig, *MOVE, "--deadline", "1") == 0
    assert run(rig, "evacuate", EAST, "--yes", "--deadline", "1") == 5
    assert rig.answering(HEALTH) == WEST
    assert rig.active("service1") == [EAST]


@pytest.mark.parametrize(
    ("status", "code", "exit_code"),
    [
        (400, "AccessDeniedException", 1),
        (403, "AccessDenied", 1),
        (400, "InvalidParameterValueException", 1),
        (403, "ExpiredTokenException", 4),
        (400, "ThrottlingException", 5),
        (500, "InternalServiceFault", 5),
    ],
)
def test_what_cloudwatch_answers_is_understood(
    rig: TakeOverRig, status: int, code: str, exit_code: int
) -> None:
    """5: an error of the server leaves open whether the data point counts."""
    rig.metrics.errors = {f"{r} PutMetricData": (status, code) for r in (EAST, WEST)}
    assert run(rig, *MOVE, "--deadline", "1") == exit_code
    assert rig.answering(ALARM) == EAST


def test_a_throttled_publication_is_made_again(rig: TakeOverRig) -> None:
    class Once(dict[str, tuple[int, str]]):
        """The first call is refused."""

        def __getitem__(self, key: str) -> tuple[int, str]:
            return self.pop(key)

    rig.metrics.errors = Once({f"{WEST} PutMetricData": (400, "ThrottlingException")})
    assert run(rig, *MOVE) == 0
    assert at_rest(rig, ALARM) == (True, False)


def test_what_something_else_answers_is_no_answer(
    rig: TakeOverRig, capsys: pytest.CaptureFixture[str]
) -> None:
    rig.metrics.login_page = True
    assert run(rig, *MOVE) == 4
    assert "the answer is not CloudWatch's" in capsys.readouterr().out


def test_without_credentials_nothing_is_published(
    without_arc: TakeOverRig,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert run(without_arc, *MOVE) == 4
    assert "set AWS_ACCESS_KEY_ID" in capsys.readouterr().out
    assert run(without_arc, "status") == 4
    assert without_arc.metrics.calls == []


def test_a_process_that_is_killed_between_two_positions_is_resumed(
    without_arc: TakeOverRig, tmp_path: Path
) -> None:
    rig = without_arc
    rig.metrics.hanging = {f"{WEST} PutMetricData"}
    words = [sys.executable, "-m", "failover", *MOVE, "--recovery-file", str(rig.recovery_file)]
    with subprocess.Popen(
        words,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1])},
        stdout=subprocess.DEVNULL,
    ) as process:
        end = time.monotonic() + 20
        while WEST not in rig.metrics.told():
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert rig.answering(ALARM) == EAST
    rig.metrics.hanging = set()
    assert run(rig, *MOVE) == 0
    assert at_rest(rig, ALARM) == (True, False)


def test_status_by_the_real_protocol(rig: TakeOverRig, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(rig, "status", "--check", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["active"] == {"service1": [EAST], ALARM: [EAST], HEALTH: [EAST]}
    rig.metrics.hanging = {f"{EAST} DescribeAlarms"}
    started = time.monotonic()
    assert run(rig, "status", "--check") == 4
    assert time.monotonic() - started < 6
    assert "could not be read in us-east-1: no answer" in capsys.readouterr().out
