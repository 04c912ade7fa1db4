"""`infra verify`: what is asked, what is a fault, and how it is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
from infra_aws_fakes import topology

from infra.cli import main
from infra.topology import Service
from infra.verifying import (
    DEEP,
    GATEWAY,
    NO_SUCH_PATH,
    ROUTE,
    SERVICE,
    USERS,
    Answer,
    Question,
    Row,
    as_json,
    faults,
    idle_questions,
    ok,
    questions,
    said,
    table,
    watch,
)

EAST, WEST = "us-east-1", "us-west-2"
OF_A_SERVICE = Question(SERVICE, "a", "a.us-west-2.x.com", "/", (WEST,))
OF_THE_API = Question(GATEWAY, "api", "api.us-west-2.x.com", "/")
OF_A_ROUTE = Question(ROUTE, "a", "api.us-west-2.x.com", "/a/", (EAST, WEST), "a.x.com")
OF_USERS = Question(USERS, "a", "a.x.com", "/", (EAST,), "a.x.com")
OF_DEEP = Question(DEEP, "health", "health.us-west-2.x.com", "/deep", (WEST,))
WELL = Answer(200, WEST, 40)
WOULD_SAY = f"the external API would say 403 ({NO_SUCH_PATH}) of a path that it does not have"


def test_every_service_and_the_external_api_are_asked_at_their_pinned_names() -> None:
    declared = topology(a=Service("a"), second=Service("second", code="health"))

    found = [(q.kind, q.host + q.path, q.allowed) for q in questions(declared, WEST)]

    below = "us-west-2.shop.example-domain.com"
    assert found == [
        (SERVICE, f"a.{below}/", (WEST,)),
        (SERVICE, f"second.{below}/", (WEST,)),
        (DEEP, f"second.{below}/deep", (WEST,)),
        (GATEWAY, f"api.{below}/", ()),
        (ROUTE, f"api.{below}/a/", (EAST, WEST)),
        (ROUTE, f"api.{below}/second/", (EAST, WEST)),
    ]


def test_whether_a_region_is_idle_is_asked_at_the_names_of_users() -> None:
    declared = topology(a=Service("a"))

    (asked,) = idle_questions(declared, WEST)
    assert (asked.host, asked.allowed) == ("a.shop.example-domain.com", (EAST,))


@pytest.mark.parametrize(
    ("question", "answer", "expected"),
    [
        (OF_A_SERVICE, WELL, []),
        (OF_A_SERVICE, replace(WELL, region=EAST), ["answered by us-east-1 instead of us-west-2"]),
        (OF_A_SERVICE, replace(WELL, region=""), ["no X-Region"]),
        (OF_A_SERVICE, replace(WELL, status=204), ["status 204 instead of 200"]),
        (
            OF_A_SERVICE,
            Answer(403, "", 5, gateway_error="ForbiddenException"),
            ["status 403 instead of 200 (ForbiddenException)"],
        ),
        (OF_A_SERVICE, replace(WELL, milliseconds=3001), ["3001 ms, more than 3 s"]),
        (OF_A_SERVICE, Answer(error="connection refused"), ["connection refused"]),
        (OF_A_ROUTE, replace(WELL, region=EAST), []),
        (
            OF_A_ROUTE,
            replace(WELL, region="eu-west-1"),
            ["answered by eu-west-1 instead of us-east-1 or us-west-2"],
        ),
        (OF_A_ROUTE, Answer(504), ["status 504 instead of 200"]),
        (
            OF_A_ROUTE,
            Answer(500, "eu-west-1"),
            ["status 500 instead of 200",
             "answered by eu-west-1 instead of us-east-1 or us-west-2"],
        ),
        (OF_A_ROUTE, Answer(skipped="a.x.com does not exist yet"), []),
        (OF_THE_API, Answer(403, gateway_error=NO_SUCH_PATH), []),
        (
            OF_THE_API,
            Answer(403, gateway_error="ForbiddenException"),
            [f"status 403 (ForbiddenException); {WOULD_SAY}"],
        ),
        (OF_THE_API, WELL, [f"status 200; {WOULD_SAY}"]),
        (OF_DEEP, Answer(503, WEST, 40, detail="status 503: 1 of 3"), []),
        (OF_DEEP, Answer(error="connection refused"), []),
        (OF_USERS, replace(WELL, region=EAST), []),
        (OF_USERS, WELL, ["users are served from us-west-2"]),
        (OF_USERS, replace(WELL, status=500), ["users are served from us-west-2"]),
        (OF_USERS, Answer(504), []),
        (OF_USERS, Answer(error="connection refused"), []),
        (OF_USERS, Answer(skipped="a.x.com does not exist yet"), []),
    ],
)  # fmt: skip
def test_what_is_a_fault(question: Question, answer: Answer, expected: list[str]) -> None:
    assert list(faults(question, answer, 3)) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"status": "ok"}', "status 503: ok"),
        (b'{"status": 503, "detail": "1 of 3 do not work"}', "status 503: 1 of 3 do not work"),
        (b"{}", "status 503: no detail"),
        (b"[]", "status 503"),
        (b"<html>", "status 503"),
    ],
)
def test_what_deep_says_in_a_line(body: bytes, expected: str) -> None:
    assert said(503, body) == expected


ROWS = [
    Row(OF_A_SERVICE, replace(WELL, region=EAST), ("answered by us-east-1 instead of us-west-2",)),
    Row(OF_DEEP, Answer(503, WEST, 40, detail="status 503: 1 of 3 do not work"), ()),
    Row(OF_THE_API, Answer(error="connection refused"), ("connection refused",)),
    Row(OF_A_ROUTE, Answer(skipped="a.x.com does not exist yet"), ()),
]


def test_the_table_has_every_reason_at_once() -> None:
    assert table(WEST, ROWS).splitlines() == [
        "ASKED                        STATUS  ANSWERED BY  MS",
        "a.us-west-2.x.com/           200     us-east-1    40  "
        "answered by us-east-1 instead of us-west-2",
        "health.us-west-2.x.com/deep  503     us-west-2    40  status 503: 1 of 3 do not work",
        "api.us-west-2.x.com/         -       -            0   connection refused",
        "api.us-west-2.x.com/a/       -       -            -   a.x.com does not exist yet",
        "",
        "us-west-2 is not as it should be:",
        "  - a.us-west-2.x.com/: answered by us-east-1 instead of us-west-2",
        "  - api.us-west-2.x.com/: connection refused",
    ]
    assert table(WEST, ROWS[1:2]).endswith("us-west-2: all 0 answer as they should")


def test_the_same_for_a_program() -> None:
    document = json.loads(as_json(WEST, ROWS))

    assert (document["region"], document["ok"]) == (WEST, False)
    assert document["asked"][1] == {
        "kind": "deep", "service": "health", "url": "https://health.us-west-2.x.com/deep",
        "required": False, "status": 503, "region": WEST, "milliseconds": 40,
        "detail": "status 503: 1 of 3 do not work", "skipped": False, "faults": [],
    }  # fmt: skip
    assert not ok(ROWS)
    assert ok(ROWS[1:2])


# ---- waiting


@dataclass
class Slow:
    """Answers well from the `wells`th question of a kind on; time passes only by sleeping."""

    wells: dict[str, int]
    now: float = 0.0
    asked: list[str] = field(default_factory=list)

    def ask(self, question: Question) -> Answer:
        self.asked.append(question.host)
        due = self.wells.get(question.host, 0)
        return WELL if self.asked.count(question.host) > due else Answer(503, WEST, 1)

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert 0 <= seconds <= 2
        self.now += seconds


def service(name: str) -> Question:
    return Question(SERVICE, name, name, "/", (WEST,))


def waited(slow: Slow, wait: float) -> list[Row]:
    clock: Callable[[], float] = slow.clock
    return watch(slow, [service("a"), service("b")], 3, wait, clock, slow.sleep)


def test_only_what_was_wrong_is_asked_again() -> None:
    slow = Slow({"b": 2})

    assert ok(waited(slow, 60))
    assert slow.asked == ["a", "b", "b", "b"]
    assert slow.now == 4


def test_waiting_ends_and_the_order_of_the_rows_stays() -> None:
    slow = Slow({"a": 100})

    rows = waited(slow, 3)

    assert [row.question.host for row in rows] == ["a", "b"]
    assert not ok(rows)
    assert slow.now == 3


def test_without_waiting_everything_is_asked_once() -> None:
    slow = Slow({"a": 100})

    assert not ok(waited(slow, 0))
    assert slow.asked == ["a", "b"]


# ---- the command line


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["verify", "eu-west-1"], "eu-west-1 is no region of topology.toml; known are us-east-1"),
        (["deploy", "--only-region", "eu-west-1"], "eu-west-1 is no region of topology.toml"),
        (["verify", "us-east-1", "--ca-file", "no/such.pem"], "no/such.pem: No such file"),
    ],
)
def test_what_cannot_be_used(
    words: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["--name-server", "host"], ["--timeout", "-1"], ["--wait", "9999"]]
)
def test_options_that_are_no_values(words: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["verify", "us-east-1", *words])
    assert caught.value.code == 2
