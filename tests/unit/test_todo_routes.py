"""The routes of the todo service over the memory repository, called with the gateway's events."""

import base64
import json
import sys
from pathlib import Path

import pymysql
import pytest

sys.path.append(str(Path(__file__).parents[2] / "services/todo/testing"))
from todo_testing import CLIENT_A, CLIENT_A_WEST, CLIENT_B, in_memory, load

model, validation = load("chalicelib.model", "chalicelib.validation")
ID = "01932c07-8c1e-7d2a-9f3b-2f6d1c0e4a55"
LIST, ONE = "/todos", "/todos/{id}"
new_id = model.uuid7_maker()


@pytest.fixture
def call():
    return in_memory()


def create(call, task="x", **more):
    answer = call("POST", LIST, {"task": task}, **more)
    assert answer.status == 201, answer
    return answer


def problem(answer, status):
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-region"] == "us-east-1"
    assert answer.json["status"] == status
    return answer.json


def places(answer):
    return {
        entry.get("pointer") or entry.get("parameter") or entry.get("header")
        for entry in answer.json["errors"]
    }


def test_the_shallow_answer_needs_no_token(call):
    answer = call("GET", "/", client=None)
    assert (answer.status, answer.json) == (200, {"service": "todo", "region": "us-east-1"})
    assert answer.headers["x-region"] == "us-east-1"


def test_a_created_todo_is_found_where_the_answer_says(call):
    made = create(call, "water the plants")
    assert made.headers["location"] == f"todos/{made.json['id']}"
    assert made.headers["etag"] == f'"{made.json["revision"]}"'
    found = call("GET", ONE, path={"id": made.json["id"].upper()})
    assert found.json == made.json
    assert found.headers["etag"] == made.headers["etag"]
    assert found.headers["cache-control"] == "no-store"
    assert made.json["status"] == "todo"
    assert made.json["region"] == "us-east-1"
    assert made.json["created_at"].endswith("Z")


def test_head_answers_without_a_body(call):
    made = create(call)
    answer = call("HEAD", ONE, path={"id": made.json["id"]})
    assert (answer.status, answer.body) == (200, "")
    assert answer.headers["etag"] == made.headers["etag"]


def test_unchanged_is_304(call):
    made = create(call)
    path = {"id": made.json["id"]}
    tag = made.headers["etag"]
    for given in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        answer = call("GET", ONE, path=path, headers={"If-None-Match": given})
        assert (answer.status, answer.body) == (304, "")
    assert call("GET", ONE, path=path, headers={"If-None-Match": '"other"'}).status == 200


def test_a_lost_update_is_412(call):
    made = create(call)
    path = {"id": made.json["id"]}
    mine = {"If-Match": made.headers["etag"]}
    assert call("PATCH", ONE, {"status": "wip"}, path=path, headers=mine).status == 200
    for method, document in (("PATCH", {"status": "done"}), ("PUT", {"task": "y"})):
        problem(call(method, ONE, document, path=path, headers=mine), 412)
    problem(call("DELETE", ONE, path=path, headers=mine), 412)
    weak = {"If-Match": f"W/{call('GET', ONE, path=path).headers['etag']}"}
    problem(call("DELETE", ONE, path=path, headers=weak), 412)
    assert call("DELETE", ONE, path=path).status == 204
    problem(call("GET", ONE, path=path), 404)


def test_put_creates_only_once_with_if_none_match(call):
    path, once = {"id": ID}, {"If-None-Match": "*"}
    assert call("PUT", ONE, {"task": "x"}, path=path, headers=once).status == 201
    problem(call("PUT", ONE, {"task": "y"}, path=path, headers=once), 412)
    answer = call("PUT", ONE, {"task": "y", "status": "done"}, path=path)
    assert (answer.status, answer.json["task"]) == (200, "y")
    assert call("PUT", ONE, {"task": "y"}, path=path).json["status"] == "todo"


def test_patch_takes_both_types_and_refuses_null(call):
    path = {"id": create(call).json["id"]}
    for content_type in ("application/merge-patch+json", "application/json; charset=UTF-8"):
        headers = {"Content-Type": content_type}
        assert call("PATCH", ONE, {"task": "z"}, path=path, headers=headers).status == 200
    answer = call("PATCH", ONE, {"task": None, "status": None}, path=path)
    problem(answer, 400)
    assert places(answer) == {"#/task", "#/status"}
    assert call("PATCH", ONE, {}, path=path).json["task"] == "z"


def test_a_repeat_with_the_key_gets_the_first_answer(call):
    headers = {"Idempotency-Key": '"k 1"'}
    first = create(call, headers=headers)
    again = create(call, headers=headers)
    assert again.body == first.body
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    problem(call("POST", LIST, {"task": "other"}, headers=headers), 422)
    assert create(call, headers={"Idempotency-Key": "bare:key-1"}).json["id"] != first.json["id"]
    assert create(call, headers={"Idempotency-Key": '"bare:key-1"'}).headers["idempotency-replayed"]


def test_the_key_is_of_the_payload_not_of_its_spelling(call):
    headers = {"Idempotency-Key": "k"}
    create(call, headers=headers)
    body = '{ "status": "todo",\n "task": "\\u0078" }'
    assert call("POST", LIST, body=body, headers=headers).headers["idempotency-replayed"] == "true"


def test_an_application_is_one_tenant_in_both_regions(call):
    made = create(call, headers={"Idempotency-Key": "k"}, client=CLIENT_A)
    again = create(call, headers={"Idempotency-Key": "k"}, client=CLIENT_A_WEST)
    assert again.json == made.json
    assert call("GET", ONE, path={"id": made.json["id"]}, client=CLIENT_A_WEST).status == 200


def test_another_tenant_gets_404_and_no_data(call):
    made = create(call, "secret")
    path = {"id": made.json["id"]}
    for method, document in (("GET", None), ("PATCH", {"task": "x"}), ("DELETE", None)):
        answer = call(method, ONE, document, path=path, client=CLIENT_B)
        problem(answer, 404)
        assert "secret" not in answer.body
    assert call("GET", LIST, client=CLIENT_B).json == {"items": []}
    token = _first_page(call)["next_page_token"]
    problem(call("GET", LIST, query={"page_token": [token]}, client=CLIENT_B), 400)


@pytest.mark.parametrize("client", ["stranger", None])
def test_a_client_without_tenant_is_403(call, client):
    for method, resource, document in (
        ("GET", LIST, None),
        ("POST", LIST, {"task": "x"}),
        ("GET", ONE, None),
        ("PUT", ONE, {"task": "x"}),
        ("PATCH", ONE, {}),
        ("DELETE", ONE, None),
    ):
        problem(call(method, resource, document, path={"id": ID}, client=client), 403)


def _first_page(call):
    for _ in range(3):
        create(call)
    return call("GET", LIST, query={"page_size": ["2"]}).json


def test_pages_end_without_a_token(call):
    page = _first_page(call)
    assert len(page["items"]) == 2
    rest = call("GET", LIST, query={"page_token": [page["next_page_token"]]}).json
    ids = [item["id"] for item in page["items"] + rest["items"]]
    assert ids == sorted(set(ids))
    assert len(ids) in (3, 4)
    assert "next_page_token" not in rest


def test_a_page_is_capped(call):
    for _ in range(validation.MAX_PAGE + 1):
        create(call)
    for size in ("101", "9" * 5000):
        assert len(call("GET", LIST, query={"page_size": [size]}).json["items"]) == 100


def test_a_token_is_refused_when_it_was_touched_or_comes_from_another_list(call):
    token = _first_page(call)["next_page_token"]
    flipped = ("A" if token[0] != "A" else "B") + token[1:]
    for bad in (flipped, token[:-1], token + "A", "", "é", "=" * 32, "A" * 32, "../../etc/passwd"):
        answer = call("GET", LIST, query={"page_token": [bad]})
        problem(answer, 400)
        assert places(answer) == {"page_token"}
    problem(call("GET", LIST, query={"page_token": [token], "status": ["done"]}), 400)


def test_every_fault_of_a_request_is_named(call):
    answer = call(
        "PUT",
        ONE,
        path={"id": "1"},
        query={"dry": ["1"]},
        body='{"task": 5, "status": "later", "id": "x", "a/b": 1, "task": 6}',
        headers={"If-Match": "bare", "Content-Type": "application/json"},
    )
    problem(answer, 400)
    assert places(answer) == {
        "id",
        "dry",
        "If-Match",
        "#",
        "#/task",
        "#/status",
        "#/id",
        "#/a~1b",
    }
    answer = call(
        "GET",
        LIST,
        query={"status": ["x"], "page_size": ["0"], "page_token": ["?"], "sort": ["id"]},
    )
    problem(answer, 400)
    assert places(answer) == {"status", "page_size", "page_token", "sort"}
    twice = call("GET", LIST, query={"page_size": ["1", "2"]})
    assert places(twice) == {"page_size"}


def test_the_wrong_type_is_415_and_the_rest_is_named_too(call):
    answer = call("POST", LIST, body='{"task": ""}', headers={"Content-Type": "text/plain"})
    problem(answer, 415)
    assert places(answer) == {"Content-Type", "#/task"}
    assert answer.headers["accept"] == "application/json"
    charset = {"Content-Type": "application/json; charset=latin1"}
    problem(call("POST", LIST, {"task": "x"}, headers=charset), 415)


def test_a_body_that_is_too_long_is_413(call):
    problem(call("POST", LIST, body=json.dumps({"task": "x" * 40_000})), 413)


def test_a_body_may_be_base64(call):
    body = base64.b64encode('{"task": "é🌱"}'.encode()).decode()
    assert call("POST", LIST, body=body, base64=True).json["task"] == "é🌱"


@pytest.mark.parametrize("character", ['"', "\\", "'", "🌱", "\n", "é"])
def test_no_statement_reaches_the_size_that_pins_a_connection(call, character):
    """RDS Proxy pins a connection at a statement above 16 KB."""
    repository = load("chalicelib.repository")
    body = create(call, character * model.MAX_TASK).body
    row = json.loads(body)
    quiet = pymysql.connections.Connection(defer_connect=True, ssl_disabled=True)
    quiet.server_status = 0
    cursor = quiet.cursor()
    longest = "t" * 64
    statements = (
        (repository._KEEP_ANSWER, (longest, "k" * 128, "h" * 64, 201, body, row["created_at"])),
        (
            repository._INSERT,
            (
                longest,
                ID,
                row["task"],
                "done",
                row["created_at"],
                row["created_at"],
                row["revision"],
                "ap-northeast-1",
                2**53,
            ),
        ),
    )
    for sql, values in statements:
        assert len(cursor.mogrify(sql, values).encode()) < 16_000


def test_the_operator_moves_the_fence(call):
    wanted = {"epoch": 1, "active_region": "us-east-1", "state": "draining"}
    assert call("GET", "/_ops/fence").json["state"] == "open"
    for _ in range(2):
        answer = call("PUT", "/_ops/fence", wanted)
        assert (answer.status, answer.json["state"]) == (200, "draining")
    refused = call("POST", LIST, {"task": "x"})
    document = problem(refused, 503)
    assert document["applied"] == "no"
    assert document["fence"] == wanted
    assert refused.headers["retry-after"] == "1"
    assert call("GET", LIST).status == 200
    assert call("GET", "/_ops/depth").json["writable"] is False
    assert problem(call("PUT", "/_ops/fence", {**wanted, "state": "open"}), 409)["fence"]
    assert call("PUT", "/_ops/fence", {**wanted, "epoch": 2, "state": "open"}).status == 200
    assert call("GET", "/_ops/depth").json["writable"] is True
    problem(call("PUT", "/_ops/fence", wanted), 409)
    create(call)


def test_faults_of_a_wanted_fence_are_all_named(call):
    answer = call("PUT", "/_ops/fence", {"epoch": True, "state": "shut", "by": "me"})
    problem(answer, 400)
    assert places(answer) == {"#/epoch", "#/active_region", "#/state", "#/by"}
    for epoch in (0, -1, 1.0, "1", 2**53, None):
        answer = call(
            "PUT", "/_ops/fence", {"epoch": epoch, "active_region": "us-east-1", "state": "open"}
        )
        assert places(answer) == {"#/epoch"}


def test_operator_routes_need_no_tenant_and_take_no_parameters(call):
    for resource in ("/_ops/depth", "/_ops/lag", "/_ops/fence"):
        assert call("GET", resource, client="operator").status == 200
        problem(call("GET", resource, query={"x": ["1"]}), 400)


HOSTILE_TEXT = [
    "' OR '1'='1",
    "'; DROP TABLE todo; --",
    "\\'; DELETE FROM todo; #",
    "%s %d %(x)s {0}",
    "/*!50000 SLEEP(9) */",
    "${jndi:ldap://x}",
    "<script>",
    "\x00",
    "a\x00b",
    "\ud800",
    "\x7f",
    "../../etc/passwd",
    "x" * 1_000_000,
    "𝕏" * 300_000,
    "\u202e",
    "0x3f",
    "NULL",
    "*",
]
HOSTILE_BODIES = [
    "",
    "null",
    "true",
    "0",
    '"x"',
    "[]",
    "[{}]",
    "{",
    "{}}",
    "{'task': 'x'}",
    "\ufeff{}",
    "nul",
    '{"task": "x"} {}',
    '{"task": NaN}',
    '{"task": Infinity}',
    '{"task": 1e999}',
    '{"task": ' + "9" * 5000 + "}",
    '{"task": -' + "9" * 20_000 + "}",
    '{"task": 1e-' + "9" * 400 + "}",
    "[" * 30_000,
    '{"task":' * 4000 + "1" + "}" * 4000,
    '{"a":' * 3000,
    '{"task": "x", "task": "y"}',
    '{"task": "\\u0000"}',
    '{"task": "\\ud800"}',
    '{"task": "\\udc00x"}',
    '{"\\ud800": 1}',
    '{"": 1}',
    '{"task": {"$ne": 1}}',
    '{"task": ["x"]}',
    '{"__proto__": {}}',
    '{"task": "x", "tenant": "b"}',
    '{"task": "x", "id": "' + ID + '"}',
    '{"task": "' + "x" * 2001 + '"}',
    "x" * 1_000_000,
    "{" + ",".join(f'"k{n}": 0' for n in range(2500)) + "}",
    "\x00",
    "\ud800",
]
HOSTILE_BYTES = [
    b"\xff\xfe",
    b'{"task": "\xc0\x80"}',
    b'{"task": "\xed\xa0\x80"}',
    b"\x80" * 1000,
    b'{"task": "x"}\x00',
    b"\x1f\x8b\x08",
    '{"task": "x"}'.encode("utf-16"),
]


def hostile_calls():
    """(method, resource, options) of requests of which none may succeed."""
    yield from (("GET", ONE, {"path": {"id": text}}) for text in HOSTILE_TEXT)
    for name in ("status", "page_size", "page_token"):
        yield from (("GET", LIST, {"query": {name: [text]}}) for text in HOSTILE_TEXT)
    yield from (("GET", LIST, {"query": {text: ["x"]}}) for text in HOSTILE_TEXT)
    for method, resource in (("POST", LIST), ("PUT", ONE), ("PATCH", ONE), ("PUT", "/_ops/fence")):
        path = {"id": ID}
        for body in HOSTILE_BODIES:
            yield method, resource, {"path": path, "body": body}
        for raw in HOSTILE_BYTES:
            body = base64.b64encode(raw).decode()
            yield method, resource, {"path": path, "body": body, "base64": True}
        yield method, resource, {"path": path, "body": "not base64!", "base64": True}
    for text in HOSTILE_TEXT:
        if text not in ("*", "NULL", "0x3f"):
            headers = {"Idempotency-Key": text}
            yield "POST", LIST, {"body": '{"task": "x"}', "headers": headers}
        if text != "*":
            yield "DELETE", ONE, {"path": {"id": ID}, "headers": {"If-Match": text}}


def test_hostile_requests_get_4xx_only_and_change_nothing(call, capsys):
    kept = create(call, "kept").json
    for method, resource, options in hostile_calls():
        answer = call(method, resource, **options)
        assert 400 <= answer.status < 500, (method, resource, str(options)[:200], answer)
        assert len(answer.body) < 20_000
        assert "Traceback" not in answer.body
    assert call("GET", LIST).json == {"items": [kept]}
    assert "ERROR" not in capsys.readouterr().out


@pytest.mark.parametrize("text", [t for t in HOSTILE_TEXT if len(t) < 100 and t.isprintable()])
def test_hostile_text_is_a_task_like_any_other(call, text):
    made = create(call, text)
    assert call("GET", ONE, path={"id": made.json["id"]}).json["task"] == text
