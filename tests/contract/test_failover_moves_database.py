"""The whole tool, botocore and TLS included, against a scripted database of two regions."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from failover_database_rig import GLOBAL, SECRET, TODO, TOKEN, DatabaseRig, cluster_arn
from failover_rig import EAST, WEST, control_arn

from failover import cli

PLANNED = ("move", TODO, "--to", WEST, "--yes")


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DatabaseRig]:
    monkeypatch.chdir(tmp_path)
    for name, value in credentials().items():
        monkeypatch.setenv(name, value)
    with DatabaseRig(tmp_path) as rig:
        yield rig


def credentials() -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "OPERATOR_CLIENT_SECRET": "that of another pool",
        "OPERATOR_CLIENT_SECRET_US_WEST_2": SECRET,
    }


def run(rig: DatabaseRig, *words: str) -> int:
    return cli.main([*words, "--recovery-file", str(rig.recovery_file)])


def moved(rig: DatabaseRig, region: str = WEST, epoch: int = 8) -> bool:
    fence = {"epoch": epoch, "active_region": region, "state": "open"}
    return (
        (rig.database.writer, rig.database.fence) == (region, fence)
        and rig.active(TODO) == [region]
        and rig.cluster.states[control_arn("tododb", region)]
    )


def test_a_planned_move_by_the_real_protocols(
    rig: DatabaseRig, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(rig, *PLANNED) == 0
    assert moved(rig)
    (call,) = [c for c in rig.database.calls if c[1] == "SwitchoverGlobalCluster"]
    region, _, params = call
    assert region == EAST, "a switchover is called in the region of the primary"
    assert params["GlobalClusterIdentifier"] == GLOBAL
    assert params["TargetDbClusterIdentifier"] == cluster_arn(WEST)
    changes = [(r, m) for r, m, _ in rig.database.routes if m == "PUT"]
    assert changes == [(EAST, "PUT"), (WEST, "PUT")]
    ((region, form),) = rig.database.tokens
    assert region == WEST, "the target's pool, once"
    assert form["grant_type"] == ["client_credentials"]
    assert set(form["scope"][0].split()) == {"api/operate", "api/read"}
    login = base64.b64decode(form["authorization"][0].removeprefix("Basic ")).decode()
    assert login == f"client-us-west-2:{quote(SECRET, safe='')}"
    (update,) = rig.cluster.made("UpdateRoutingControlStates")
    assert len(update.body["UpdateRoutingControlStateEntries"]) == 4
    captured = capsys.readouterr()
    said = captured.out + captured.err + next((tmp_path / "journal").iterdir()).read_text()
    assert SECRET not in said
    assert TOKEN not in said


def test_an_unplanned_move_needs_nothing_of_the_old_region(
    rig: DatabaseRig, capsys: pytest.CaptureFixture[str]
) -> None:
    rig.kill(EAST)
    assert run(rig, "evacuate", EAST, "--yes") == 5
    assert rig.active(TODO) == [EAST]
    assert rig.active("service1") == [WEST]
    started = time.monotonic()
    assert run(rig, "evacuate", EAST, "--allow-data-loss", "--yes") == 0
    assert time.monotonic() - started < 5
    assert moved(rig)
    (call,) = [c for c in rig.database.calls if c[1] == "FailoverGlobalCluster"]
    assert call[0] == WEST
    assert call[2]["AllowDataLoss"] == "true"
    assert "WHAT HAS NOT BEEN REPLICATED WILL BE LOST" in capsys.readouterr().out


def test_an_old_region_that_hangs_holds_nobody_up(rig: DatabaseRig) -> None:
    for route in ("GET /_ops/depth", "GET /_ops/fence", "GET /_ops/lag", "PUT /_ops/fence"):
        rig.database.hanging.add(f"{route} {EAST}")
    started = time.monotonic()
    assert run(rig, "move", TODO, "--to", WEST, "--allow-data-loss", "--yes") == 0
    assert time.monotonic() - started < 10
    assert moved(rig)


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("InvalidGlobalClusterStateFault", 400, 4),
        ("ExpiredToken", 403, 4),
        ("AccessDenied", 403, 1),
    ],
)
def test_what_rds_refuses_opens_writes_again_and_has_its_exit_code(
    rig: DatabaseRig,
    capsys: pytest.CaptureFixture[str],
    code: str,
    status: int,
    expected: int,
) -> None:
    rig.database.errors["SwitchoverGlobalCluster"] = (status, code)
    assert run(rig, *PLANNED) == expected
    assert moved(rig, EAST, 8), "open where they were, in an epoch of its own"
    shown = capsys.readouterr().out
    assert code in shown
    assert "writes are open again in us-east-1 (epoch 8)" in shown


def test_a_throttled_rds_is_asked_again(rig: DatabaseRig) -> None:
    asked = []
    begin = rig.faces[EAST].result

    def result(action: str) -> str:
        if action == "SwitchoverGlobalCluster":
            asked.append(action)
        return begin(action)

    rig.faces[EAST].result = result  # type: ignore[method-assign]
    rig.database.errors["SwitchoverGlobalCluster"] = (400, "Throttling")
    rig.database.delay = 0.3

    class Once(dict[str, tuple[int, str]]):
        """The first call is refused."""

        def __getitem__(self, key: str) -> tuple[int, str]:
            return self.pop(key)

    rig.database.errors = Once(rig.database.errors)
    assert run(rig, *PLANNED) == 0
    assert moved(rig)
    assert asked == ["SwitchoverGlobalCluster"]


def test_without_a_secret_nothing_is_changed(
    rig: DatabaseRig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OPERATOR_CLIENT_SECRET")
    monkeypatch.delenv("OPERATOR_CLIENT_SECRET_US_WEST_2")
    assert run(rig, *PLANNED) == 4
    assert rig.database.actions() == []
    assert "neither OPERATOR_CLIENT_SECRET_US_WEST_2 nor OPERATOR_CLIENT_SECRET is set" in (
        capsys.readouterr().out
    )


def test_either_regions_pool_will_do(rig: DatabaseRig) -> None:
    rig.faces[WEST].pool.close()
    assert run(rig, *PLANNED) == 0
    assert [region for region, _ in rig.database.tokens] == [EAST]
    assert moved(rig)


def test_a_token_that_is_not_taken_is_replaced_once(rig: DatabaseRig) -> None:
    rig.database.issued = "too old"
    rig.database.accepted = {"new"}
    original = rig.faces[WEST].token

    def token(request: Any) -> None:
        original(request)
        rig.database.issued = "new"

    rig.faces[WEST].pool.close()
    rig.faces[EAST].pool.close()
    assert run(rig, *PLANNED) == 4, "no pool at all"
    rig.faces[WEST].pool = _pool(rig, token)
    assert run(rig, *PLANNED) == 0
    assert moved(rig)
    assert len(rig.database.tokens) <= 3


def _pool(rig: DatabaseRig, answer: Any) -> Any:
    from failover_database_rig import Listener

    face = rig.faces[WEST]
    pool = Listener(face.address, 0, answer)
    document = json.loads(rig.recovery_file.read_text())
    document["tokens"] = {
        WEST: {"token_url": f"http://{face.address}:{pool.port}/t", "client_id": "client"}
    }
    rig.recovery_file.write_text(json.dumps(document))
    return pool


def test_connections_that_the_gateway_closes_are_replaced(rig: DatabaseRig) -> None:
    rig.database.keep_alive = False
    assert run(rig, *PLANNED) == 0
    assert moved(rig)


def test_a_process_that_is_killed_while_rds_works_is_resumed(
    rig: DatabaseRig, tmp_path: Path
) -> None:
    rig.database.delay = 1.5
    words = [sys.executable, "-m", "failover", *PLANNED, "--recovery-file", str(rig.recovery_file)]
    with subprocess.Popen(
        words,
        cwd=tmp_path,
        env={**os.environ, **credentials(), "PYTHONPATH": str(Path(cli.__file__).parents[1])},
        stdout=subprocess.DEVNULL,
    ) as process:
        end = time.monotonic() + 20
        while "SwitchoverGlobalCluster" not in rig.database.actions():
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert rig.database.fence["state"] == "draining"
    assert rig.active(TODO) == [EAST]
    assert run(rig, *PLANNED) == 0
    assert moved(rig)
    assert rig.database.actions() == ["SwitchoverGlobalCluster"], "not begun a second time"


def test_status_by_the_real_protocols(rig: DatabaseRig, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(rig, "status", "--check") == 0
    assert "epoch 7, open in us-east-1" in capsys.readouterr().out
    rig.database.hanging = {f"GET /_ops/depth {WEST}"}
    started = time.monotonic()
    assert run(rig, "status", "--check") == 4
    assert time.monotonic() - started < 7
    assert rig.database.actions() == []
