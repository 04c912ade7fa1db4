"""The pure parts behind a database's move: phases, epochs, tokens, answers, RDS documents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from failover_database_fakes import arn
from failover_fakes import EAST, WEST, document, make_recovery
from hypothesis import given
from hypothesis import strategies as st

from failover import cli, recovery
from failover.database import (
    DRAINING,
    OPEN,
    DatabaseLook,
    Depth,
    Fence,
    GlobalCluster,
    Heartbeat,
    Lag,
    Member,
    Operation,
)
from failover.database_plan import Mode, Phase, judge, next_fence, phase_of
from failover.errors import (
    CallRejected,
    CredentialsError,
    FailoverError,
    FenceRefusal,
    RdsRefusal,
    UsageError,
)
from failover.https import Reply
from failover.operator_routes import read_fence, refusal
from failover.ports import EndpointFailed
from failover.rds import judge as judge_rds
from failover.rds import read_global_cluster
from failover.tokens import secret_for

TODO = make_recovery(databases=("todo",)).services["todo"]
DATABASE = TODO.database
assert DATABASE is not None


def look(writer: str, *fences: Fence, towards: str | None = None) -> DatabaseLook:
    operation = Operation("switching-over", arn(writer), arn(towards), False) if towards else None
    members = tuple(Member(arn(r), r == writer, "connected") for r in (EAST, WEST))
    depths = {f"r{n}": Depth(False, True, fence) for n, fence in enumerate(fences)}
    return DatabaseLook(GlobalCluster("available", members, operation), depths=depths)


@pytest.mark.parametrize(
    ("seen", "phase"),
    [
        (DatabaseLook(), Phase.UNKNOWN),
        (look(EAST, Fence(4, EAST, OPEN)), Phase.AWAY),
        (look(EAST), Phase.AWAY),
        (look(EAST, Fence(4, EAST, OPEN), Fence(4, EAST, DRAINING)), Phase.DRAINED),
        (look(EAST, Fence(4, EAST, DRAINING), towards=WEST), Phase.MOVING),
        (look(EAST, Fence(4, EAST, DRAINING), towards=EAST), Phase.DRAINED),
        (look(WEST, Fence(4, EAST, DRAINING)), Phase.PROMOTED),
        (look(WEST, Fence(4, WEST, DRAINING)), Phase.PROMOTED),
        (look(WEST), Phase.PROMOTED),
        (look(WEST, Fence(4, EAST, OPEN), Fence(5, WEST, OPEN)), Phase.OPEN),
        (look(WEST, Fence(5, WEST, OPEN), towards=WEST), Phase.OPEN),
    ],
)
def test_how_far_a_move_has_come_is_read_off_rds_and_the_fence(
    seen: DatabaseLook, phase: Phase
) -> None:
    assert DATABASE is not None
    assert phase_of(seen, DATABASE, WEST) is phase


FENCES = st.builds(
    Fence, st.integers(1, 6), st.sampled_from([EAST, WEST]), st.sampled_from([OPEN, DRAINING])
)


@given(st.lists(FENCES, max_size=4), st.sampled_from([EAST, WEST]))
def test_the_next_fence_is_newer_than_every_one_seen_or_is_the_newest_itself(
    fences: list[Fence], target: str
) -> None:
    wanted = next_fence(fences, target)
    assert wanted.is_open_in(target)
    newest = max((f.age for f in fences), default=(0, False))
    assert wanted.epoch == newest[0] + 1 or wanted in fences


def test_a_lag_that_nobody_knows_is_refused_with_what_is_known() -> None:
    assert DATABASE is not None
    beat = Heartbeat(EAST, "2026-01-01T00:00:00Z", 9e9)
    seen = look(EAST, Fence(4, EAST, OPEN))
    late = DatabaseLook(
        seen.cluster, depths=seen.depths, lags={WEST: Lag(None, beat, more_than_ms=1500.0)}
    )
    reasons = "\n".join(judge(late, DATABASE, WEST, Mode.PLANNED).refusals)
    assert "more than 1500 ms; the last heartbeat that arrived was made in us-east-1" in reasons
    assert "no answer in time" in "\n".join(judge(seen, DATABASE, WEST, Mode.PLANNED).refusals)


@pytest.mark.parametrize(
    ("environment", "secret"),
    [
        ({}, None),
        ({"OPERATOR_CLIENT_SECRET": "a"}, "a"),
        ({"OPERATOR_CLIENT_SECRET": "a", "OPERATOR_CLIENT_SECRET_us_east_1": "b"}, "b"),
        ({"OPERATOR_CLIENT_SECRET": "a", "OPERATOR_CLIENT_SECRET_US_EAST_1": "c"}, "c"),
        ({"OPERATOR_CLIENT_SECRET_US_WEST_2": "d"}, None),
    ],
)
def test_the_secret_is_that_of_the_region_or_the_general_one(
    environment: dict[str, str], secret: str | None
) -> None:
    assert secret_for(EAST, environment) == secret


@pytest.mark.parametrize(
    ("status", "said", "kind"),
    [
        (409, {"fence": {"epoch": 5, "active_region": EAST, "state": OPEN}}, FenceRefusal),
        (409, {"detail": "over", "fence": "odd"}, FenceRefusal),
        (403, {"message": "Forbidden"}, CallRejected),
        (404, {}, CallRejected),
        (429, {}, EndpointFailed),
        (500, {}, EndpointFailed),
        (503, {"title": "not now", "applied": "no"}, EndpointFailed),
    ],
)  # fmt: skip
def test_what_an_operator_route_refuses(
    status: int, said: dict[str, Any], kind: type[Exception]
) -> None:
    error = refusal(Reply(status, b"", {"retry-after": "1"}), said)
    assert isinstance(error, kind)
    if isinstance(error, EndpointFailed):
        assert error.ambiguous is (said.get("applied") != "no")
        assert error.retry_after == 1.0


def test_an_answer_without_a_fence_is_no_answer() -> None:
    with pytest.raises(EndpointFailed):
        read_fence({"epoch": "4", "active_region": EAST, "state": OPEN})


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("InvalidGlobalClusterStateFault", RdsRefusal),
        ("DBClusterNotFoundFault", RdsRefusal),
        ("AccessDenied", CallRejected),
        ("ExpiredToken", CredentialsError),
        ("Throttling", EndpointFailed),
        ("InternalFailure", EndpointFailed),
    ],
)
def test_what_rds_refuses(code: str, kind: type[Exception]) -> None:
    error = judge_rds(code, "as scripted", EAST)
    assert type(error) is kind
    if isinstance(error, FailoverError):
        assert "as scripted" in str(error)
        assert EAST in str(error)


def test_an_empty_failover_state_is_no_operation() -> None:
    """RDS leaves it empty when nothing is scheduled or running (API reference, FailoverState)."""
    member = {"DBClusterArn": arn(EAST), "IsWriter": True, "SynchronizationStatus": "connected"}
    given: dict[str, Any] = {"Status": "available", "GlobalClusterMembers": [member]}
    for state in (None, {}, {"Status": ""}):
        cluster = read_global_cluster({**given, "FailoverState": state})
        assert cluster.operation is None
        assert cluster.writer(DATABASE) == EAST  # type: ignore[arg-type]
    state = {"Status": "failing-over", "ToDbClusterArn": arn(WEST), "IsDataLossAllowed": True}
    operation = read_global_cluster({**given, "FailoverState": state}).operation
    assert operation == Operation("failing-over", "", arn(WEST), True)


def test_tokens_of_the_recovery_file_have_no_secret() -> None:
    given = document("service1", databases=("todo",))
    given["tokens"] = {EAST: {"token_url": "https://pool.invalid/oauth2/token", "client_id": "x"}}
    assert recovery.parse(given, Path("f")).tokens[EAST].client_id == "x"
    given["tokens"][EAST]["client_secret"] = "s"
    given["tokens"][WEST] = {"token_url": "nowhere"}
    given["tokens"]["mars-1"] = {}
    with pytest.raises(UsageError) as caught:
        recovery.parse(given, Path("f"))
    reasons = "\n".join(caught.value.reasons)
    for text in ("does not belong into this file", "'nowhere'", "us-west-2.client_id", "mars-1"):
        assert text in reasons


@pytest.mark.parametrize(
    "words",
    [
        ("move", "todo", "--to", WEST, "--allow-data"),
        ("move", "todo", "--to", WEST, "--allow"),
        ("evacuate", EAST, "--allow-data-los"),
        ("back", "todo", "--allow-data-loss"),
        ("back", "todo", "--wait-for", "5"),
    ],
)
def test_data_loss_is_typed_in_full_or_not_at_all(words: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.build_parser().parse_args(words)
    assert caught.value.code == 2
