"""The writer and the ledger's check against a small todo API in two regions, over TLS.

Both are run as the programs that they are.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from loadtest_todo_world import Rows, TodoWorld
from loadtest_world import REGIONS, wait_until

ROOT = Path(__file__).resolve().parents[2]
EAST, WEST = REGIONS


@pytest.fixture
def world(tmp_path: Path) -> Iterator[TodoWorld]:
    with TodoWorld(tmp_path) as running:
        yield running


def environment(world: TodoWorld) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "API_URL": world.url,
        "CA_FILE": str(world.folder / "ca.pem"),
        "NAMESERVER": world.nameserver,
        "TOKENS_FILE": str(world.tokens_file),
    }


class Writing:
    """`python -m loadtest.writer`, until `result` is asked for. Leaves no process behind."""

    def __init__(self, world: TodoWorld, *arguments: str) -> None:
        self.ledger = world.folder / "ledger.jsonl"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "loadtest.writer", "--ledger", str(self.ledger), *arguments],
            cwd=world.folder,
            env=environment(world),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.exit_code: int | None = None

    def __enter__(self) -> Writing:
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.communicate()

    def result(self) -> dict[str, Any]:
        self._process.send_signal(signal.SIGINT)
        out, err = self._process.communicate(timeout=30)
        self.exit_code = self._process.returncode
        assert out, err
        document: dict[str, Any] = json.loads(out)
        return document

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(10)


def check(world: TodoWorld, *arguments: str) -> tuple[int, dict[str, Any]]:
    """`python -m loadtest.ledger`: its exit code and its result."""
    file = world.folder / f"check-{len(list(world.folder.glob('check-*')))}.json"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "loadtest.ledger", "--json", str(file)),
            *("--ledger", str(world.folder / "ledger*.jsonl"), "--confirm-after", "0.2"),
            *arguments,
        ],
        cwd=world.folder,
        env=environment(world),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert file.exists(), done.stderr
    return done.returncode, json.loads(file.read_text())


def written(world: TodoWorld, region: str, more: int) -> None:
    before = world.changes[region]
    wait_until(lambda: world.changes[region] >= before + more, f"{more} changes in {region}")


def findings(result: dict[str, Any]) -> dict[str, int]:
    return {k: result[k] for k in ("missing", "reverted", "resurrected", "duplicated")}


NOTHING = {"missing": 0, "reverted": 0, "resurrected": 0, "duplicated": 0}


def test_a_planned_move_under_writes_loses_and_doubles_nothing(world: TodoWorld) -> None:
    with Writing(world, "--rate", "150") as writing:
        written(world, EAST, 100)
        world.drain()
        world.answers_to_lose = 3
        world.bad_gateways = 3
        refused = world.east.total
        wait_until(lambda: world.east.total >= refused + 20, "refused attempts")
        world.open(WEST)
        written(world, WEST, 100)
        during = check(world)
        result = writing.result()
    assert writing.exit_code == 0
    assert set(result["operations"]) == {"acknowledged"}
    assert result["attempts"]["refused"] > 0
    assert result["reasons"]["repeated: HTTP 502"] == 3
    # DNS keeps the old answer for its TTL of one second: that is the gap seen here.
    assert 0.0 < result["write_gap_seconds"] < 3.0
    assert set(result["regions"]) == set(REGIONS)
    code, after = check(world)
    assert (code, findings(after)) == (0, NOTHING)
    assert after["acknowledged"] == result["operations"]["acknowledged"]
    assert after["rows"] == len(world.served())
    assert after["others"] == 0
    # The check made while the writer went on found nothing either.
    assert (during[0], findings(during[1])) == (0, NOTHING)


def test_lost_answers_are_applied_once(world: TodoWorld) -> None:
    with Writing(world, "--rate", "200") as writing:
        for _ in range(10):
            written(world, EAST, 10)
            world.call(lambda: setattr(world, "answers_to_lose", 2))
        written(world, EAST, 20)
        result = writing.result()
    assert writing.exit_code == 0
    assert result["attempts"]["repeated"] >= 18
    assert result["operations"]["acknowledged"] == world.changes[EAST]
    assert check(world)[0] == 0


def test_what_a_lossy_failover_loses_is_counted_exactly_and_once(world: TodoWorld) -> None:
    with Writing(world, "--rate", "200", "--workers", "8") as writing:
        written(world, EAST, 200)
        world.call(lambda: setattr(world, "is_replicating", False))
        written(world, EAST, 100)
        left, kept = world.fail_over(WEST)
        written(world, WEST, 60)
        writing.result()
    lost_volume = differences(world.folder / "lost.jsonl", left, kept)
    code, result = check(world, "--event", "the kill", "--differences", str(lost_volume))
    assert (code, result["event"]) == (1, "the kill")
    found: dict[str, set[str]] = {}
    for finding in result["findings"]:
        found.setdefault(finding["kind"], set()).add(finding["id"])
    assert found == {
        "missing": {i for t, i in left.keys() - kept.keys()},
        "resurrected": {i for t, i in kept.keys() - left.keys()},
        "reverted": {i for t, i in left.keys() & kept.keys() if left[t, i] != kept[t, i]},
    }
    assert result["lost_volume"]["confirmed"] == len(result["findings"])
    assert result["lost_volume"]["unconfirmed"] == []
    # The next check reports nothing of it again.
    known = str(world.folder / "check-0.json")
    code, again = check(world, "--known", known)
    assert (code, findings(again)) == (0, NOTHING)
    assert again["known"] == len(result["findings"])


def differences(file: Path, lost: Rows, serving: Rows) -> Path:
    """What only a lost volume has, as the check reads it."""
    kinds = {(True, False): "missing", (True, True): "different", (False, True): "deleted"}
    lines = [
        {
            "kind": kinds[place in lost, place in serving],
            "key": {"tenant": place[0], "id": place[1]},
            "lost": lost.get(place),
            "serving": serving.get(place),
        }
        for place in lost.keys() | serving.keys()
        if lost.get(place) != serving.get(place)
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def test_a_service_that_forgets_keys_is_found_out(world: TodoWorld) -> None:
    world.forgets_keys = True
    with Writing(world, "--rate", "100") as writing:
        written(world, EAST, 30)
        world.call(lambda: setattr(world, "answers_to_lose", 10))
        written(world, EAST, 40)
        writing.result()
    code, result = check(world)
    assert code == 1
    assert result["duplicated"] > 0
    assert findings(result) == {**NOTHING, "duplicated": result["duplicated"]}


def test_a_killed_writer_leaves_unknown_outcomes_and_no_false_alarm(world: TodoWorld) -> None:
    with Writing(world, "--rate", "200") as writing:
        written(world, EAST, 50)
        world.call(lambda: setattr(world, "answers_to_lose", 10_000))
        written(world, EAST, 10)
        writing.kill()
    code, result = check(world)
    assert (code, findings(result)) == (0, NOTHING)
    assert result["unknown"] > 0


def test_a_dead_token_endpoint_is_passed_over_and_short_tokens_are_renewed(
    world: TodoWorld,
) -> None:
    document = json.loads(world.tokens_file.read_text())
    document[EAST]["token_url"] = f"https://{world.east.address}:1/oauth2/token"
    world.tokens_file.write_text(json.dumps(document))
    world.token_life = 1.0
    with Writing(world, "--rate", "50") as writing:
        wait_until(lambda: world.tokens_given[WEST] >= 3, "three tokens")
        result = writing.result()
    assert writing.exit_code == 0
    assert result["tokens"][f"failed {EAST}"] == 1
    assert result["tokens"][f"fetched {WEST}"] == world.tokens_given[WEST]
    assert not any("401" in reason for reason in result["reasons"])


def test_two_tenants_are_checked_apart(world: TodoWorld) -> None:
    world.tokens_file.write_text(world.tenants_file.read_text())
    with Writing(world, "--rate", "100", "--workers", "4") as writing:
        written(world, EAST, 60)
        writing.result()
    place = next(p for p in world.served() if p[0] == "b")
    for rows in world.rows.values():
        del rows[place]
    code, result = check(world)
    assert code == 1
    assert result["missing"] == result["by_tenant"]["b"]["missing"] == 1
    assert result["by_tenant"]["a"]["missing"] == 0
    assert result["by_tenant"]["a"]["acknowledged"] > 0


def test_an_operation_that_is_not_acknowledged_in_time_is_unknown(world: TodoWorld) -> None:
    world.is_open = False
    with Writing(world, "--rate", "20", "--workers", "2", "--deadline", "0.3") as writing:
        wait_until(lambda: world.east.total >= 20, "refused attempts")
        result = writing.result()
    assert writing.exit_code == 1
    assert set(result["operations"]) == {"unknown"}
    assert check(world)[0] == 3


def test_unusable_arguments_are_one_clear_message(world: TodoWorld) -> None:
    for module in ("writer", "ledger"):
        done = subprocess.run(
            [sys.executable, "-m", f"loadtest.{module}", "--ledger", "x.jsonl"],
            cwd=world.folder,
            env={**environment(world), "TOKENS_FILE": ""},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 2
        assert done.stderr == "the clients are missing: --tokens-file or TOKENS_FILE\n"
