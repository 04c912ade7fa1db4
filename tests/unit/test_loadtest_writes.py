"""One write and all that can happen to it; tokens. No sockets, no clock of the machine."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loadtest.errors import InputError, TokenError
from loadtest.operations import (
    ACKNOWLEDGED,
    CONTRADICTED,
    CREATE,
    DELETE,
    REFUSED,
    UNKNOWN,
    UPDATE,
    Operation,
)
from loadtest.rows import ReadingFailed, read_rows
from loadtest.sender import Answer
from loadtest.tokens import Client, Tokens, load_clients
from loadtest.writer import gaps
from loadtest.writes import Patience, Writer, authorized

WRITE = Operation("n.1", "a", CREATE, "n.1", "n.1 create", "todo", first_sent_at=1000.0)
CHANGE = replace(WRITE, name="n.2", op=UPDATE, task="n.2 update", id="id", base="r1")
REMOVE = replace(CHANGE, name="n.3", op=DELETE, task="", status="")
HERE = {"x-region": "us-east-1"}


def todo(task: str, revision: str = "r2", status: int = 200) -> Answer:
    document = {"id": "id", "task": task, "status": "todo", "revision": revision}
    return Answer(status, HERE, json.dumps(document).encode())


def problem(status: int, **members: Any) -> Answer:
    headers = {**HERE, "retry-after": "1"} if status == 503 else HERE
    return Answer(status, headers, json.dumps(members).encode())


STOPPED = problem(503, title="stopped", applied="no")
CUT = Answer(0, reason="ConnectionResetError")


class Service:
    """Gives the answers of a list, and keeps what it was asked."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers)
        self.asked: list[tuple[str, str, Mapping[str, str], bytes]] = []
        self.now = 1000.0
        self.attempts: list[tuple[str, str]] = []
        self.pauses: list[float] = []

    def __call__(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        self.asked.append((method, path, headers, body))
        self.now += 0.01
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]

    def carry_out(self, operation: Operation, patience: Patience | None = None) -> Operation:
        writer = Writer(
            self,
            patience or Patience(deadline=5.0, pause=0.1),
            lambda kind, reason: self.attempts.append((kind, reason)),
            self._sleep,
            lambda: self.now,
            lambda low, high: high,
        )
        return writer.carry_out(operation)

    def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


def test_a_create_is_repeated_with_its_key_until_it_is_acknowledged() -> None:
    service = Service(CUT, problem(502), STOPPED, todo("n.1 create", "r1", 201))
    outcome = service.carry_out(WRITE)
    assert (outcome.state, outcome.id, outcome.revision) == (ACKNOWLEDGED, "id", "r1")
    assert (outcome.region, outcome.attempts) == ("us-east-1", 4)
    assert outcome.acked_at == service.now
    assert {headers["Idempotency-Key"] for _, _, headers, _ in service.asked} == {"n.1"}
    assert len({body for *_, body in service.asked}) == 1
    assert service.attempts == [
        ("repeated", "ConnectionResetError"),
        ("repeated", "HTTP 502"),
        ("refused", "stopped"),
    ]
    # Retry-After of a second is honoured up to the pause only.
    assert service.pauses == [0.1, 0.1, 0.1]


def test_a_shorter_retry_after_is_honoured() -> None:
    answer = Answer(503, {**HERE, "retry-after": "2"}, STOPPED.body)
    service = Service(answer, todo("n.1 create", "r1", 201))
    service.carry_out(WRITE, Patience(deadline=60.0, pause=10.0))
    assert service.pauses == [2.0]


@pytest.mark.parametrize(
    ("operation", "answers", "state"),
    [
        # The answer was lost, the change was made: the repeat is refused, the row tells.
        (CHANGE, [CUT, problem(412), todo("n.2 update")], ACKNOWLEDGED),
        (CHANGE, [problem(412), todo("n.2 update")], ACKNOWLEDGED),
        (CHANGE, [CUT, problem(412), todo("older", "r0")], CONTRADICTED),
        (CHANGE, [problem(412), problem(404)], CONTRADICTED),
        (CHANGE, [problem(404)], CONTRADICTED),
        # A reader that lags behind: asked again.
        (CHANGE, [CUT, problem(412), todo("n.1 create", "r1"), problem(412), todo("n.2 update")],
         ACKNOWLEDGED),
        (CHANGE, [CUT, problem(412), CUT, problem(412), todo("n.2 update")], ACKNOWLEDGED),
        (REMOVE, [CUT, problem(404)], ACKNOWLEDGED),
        (REMOVE, [STOPPED, problem(404)], CONTRADICTED),
        (REMOVE, [problem(404)], CONTRADICTED),
        (REMOVE, [problem(412), todo("older", "r0")], CONTRADICTED),
        (REMOVE, [Answer(204, HERE)], ACKNOWLEDGED),
        # A 404 of something on the way says nothing.
        (REMOVE, [Answer(404), Answer(204, HERE)], ACKNOWLEDGED),
        (WRITE, [problem(400)], REFUSED),
        (WRITE, [problem(422)], REFUSED),
        (WRITE, [todo("somebody else's", "r1", 201)], REFUSED),
        # Not the service's answer: no region, no row.
        (WRITE, [Answer(201), todo("n.1 create", "r1", 201)], ACKNOWLEDGED),
        (WRITE, [Answer(201, HERE, b"[]"), todo("n.1 create", "r1", 201)], ACKNOWLEDGED),
        (WRITE, [CUT], UNKNOWN),
        (CHANGE, [STOPPED], UNKNOWN),
    ],
)  # fmt: skip
def test_outcomes(operation: Operation, answers: list[Answer], state: str) -> None:
    outcome = Service(*answers).carry_out(operation)
    assert outcome.state == state
    assert (outcome.acked_at is not None) == (state == ACKNOWLEDGED)
    assert bool(outcome.reason) == (state != ACKNOWLEDGED)


def test_the_deadline_counts_from_the_first_attempt() -> None:
    service = Service(STOPPED)
    outcome = service.carry_out(WRITE)
    assert outcome.reason == "stopped"
    assert 5.0 <= service.now - 1000.0 <= 5.2
    assert outcome.attempts == len(service.attempts) + 1


def test_an_answer_that_leaves_open_whether_it_was_applied_is_not_refused() -> None:
    service = Service(problem(503, applied="unknown"), problem(404))
    assert service.carry_out(REMOVE).state == ACKNOWLEDGED
    assert service.attempts == [("repeated", "HTTP 503, perhaps applied")]


def test_the_longest_gap_comes_first() -> None:
    found = gaps([3.0, 1.0, 1.1, 1.5])
    assert [gap["at"] for gap in found] == [1.5, 1.1, 1.0]
    assert found[0]["seconds"] == 1.5
    assert gaps([1.0]) == []


# Tokens

EAST = Client("us-east-1", "https://east/oauth2/token", "id", "secret")
WEST = Client("us-west-2", "https://west/oauth2/token", "id", "secret")


class Pools:
    """Two token endpoints."""

    def __init__(self) -> None:
        self.now = 0.0
        self.dead: set[str] = set()
        self.counters: Counter[str] = Counter()
        self.asked: list[str] = []
        self.tokens = Tokens([EAST, WEST], self.ask, self.counters, lambda: self.now)

    def ask(self, client: Client) -> Answer:
        self.asked.append(client.region)
        if client.region in self.dead:
            return Answer(0, reason="TimeoutError")
        document = {"access_token": f"token{len(self.asked)}", "expires_in": 100}
        return Answer(200, {}, json.dumps(document).encode())


def test_a_token_is_kept_for_three_quarters_of_its_life() -> None:
    pools = Pools()
    assert pools.tokens.header() == "Bearer token1"
    pools.now = 74.9
    assert pools.tokens.header() == "Bearer token1"
    pools.now = 75.0
    assert pools.tokens.header() == "Bearer token2"


def test_the_other_region_is_asked_when_one_is_dead_and_then_stays_first() -> None:
    pools = Pools()
    pools.dead = {"us-east-1"}
    pools.tokens.header()
    pools.now = 80.0
    pools.tokens.header()
    assert pools.asked == ["us-east-1", "us-west-2", "us-west-2"]
    assert pools.counters == {"failed us-east-1": 1, "fetched us-west-2": 2}


def test_the_old_token_serves_while_no_endpoint_answers() -> None:
    pools = Pools()
    pools.tokens.header()
    pools.dead = {"us-east-1", "us-west-2"}
    pools.now = 80.0
    assert pools.tokens.header() == "Bearer token1"
    pools.now = 80.5
    pools.tokens.header()
    assert len(pools.asked) == 3
    pools.now = 100.0
    with pytest.raises(TokenError, match="us-east-1: TimeoutError; us-west-2: TimeoutError"):
        pools.tokens.header()


def test_a_refused_token_is_replaced_and_a_missing_one_is_no_answer() -> None:
    pools = Pools()
    send = authorized(Service(Answer(401)), pools.tokens)
    assert send("GET", "/todos", {}, b"").status == 401
    assert pools.tokens.header() == "Bearer token2"
    pools.dead = {"us-east-1", "us-west-2"}
    pools.tokens.reject("Bearer token1")
    assert pools.tokens.header() == "Bearer token2"
    pools.tokens.reject("Bearer token2")
    assert send("GET", "/todos", {}, b"").reason == "no token"


def test_clients_of_one_or_several_tenants(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    entry = {"token_url": "u", "client_id": "i", "client_secret": "s"}
    file.write_text(json.dumps({"us-east-1": entry, "us-west-2": entry}))
    (clients,) = load_clients(file, ["us-west-2", "us-east-1"]).values()
    assert [client.region for client in clients] == ["us-west-2", "us-east-1"]
    file.write_text(json.dumps({"tenants": {"a": {"x": entry}, "b": {"x": entry}}}))
    assert set(load_clients(file)) == {"a", "b"}
    for text, message in (
        ("{", "not JSON"),
        ("[]", "must be an object"),
        ('{"tenants": {}}', "at least one tenant"),
        ('{"x": {}, "y": 1}', "default, y: token_url, client_id, client_secret missing"),
    ):
        file.write_text(text)
        with pytest.raises(InputError, match=message):
            load_clients(file)


# Reading all rows


def test_all_pages_are_read_and_hiccups_are_waited_out() -> None:
    def page(task: str, **more: str) -> Answer:
        item = {"id": task, "task": task, "status": "todo", "revision": "r"}
        return Answer(200, HERE, json.dumps({"items": [item], **more}).encode())

    service = Service(page("1", next_page_token="x="), STOPPED, page("2"))
    rows = read_rows(service, "a", service._sleep, 5.0, lambda: service.now)
    assert [row.id for row in rows] == ["1", "2"]
    assert [path for _, path, *_ in service.asked][1:] == [
        "/todos?page_size=100&page_token=x%3D"
    ] * 2


@pytest.mark.parametrize(
    ("answer", "message"),
    [(STOPPED, "HTTP 503 for 5 s"), (CUT, "Reset"), (problem(403), "403")],
)
def test_reading_gives_up_in_time(answer: Answer, message: str) -> None:
    service = Service(answer)
    with pytest.raises(ReadingFailed, match=message):
        read_rows(service, "a", service._sleep, 5.0, lambda: service.now)
    assert service.now <= 1005.5
