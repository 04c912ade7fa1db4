"""todo in the lab: who may do what, with which token, and what the switches do not allow."""

from __future__ import annotations

import base64
import json
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import RunningLab
from test_lab_from_outside import aws_update

pytestmark = pytest.mark.lab


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: Any


def token(lab: RunningLab, region: str, client: str = "tokens", scope: str = "") -> str:
    """An access token from a region's pool, by curl as any client would."""
    entry = lab.face[client][region]
    done = lab.run(
        "curl", "--silent", "--cacert", lab.face["ca_file"], "--max-time", "10",
        "--user", f"{entry['client_id']}:{entry['client_secret']}",
        "--data", f"grant_type=client_credentials&scope={scope}", entry["token_url"],
    )  # fmt: skip
    return str(json.loads(done.stdout)["access_token"])


def call(
    lab: RunningLab, method: str, path: str, bearer: str | None = None, *options: str
) -> Answer:
    """One request through the external API."""
    header = ("--header", f"Authorization: Bearer {bearer}") if bearer else ()
    done = lab.curl(
        f"{lab.face['api_url']}/todo{path}", "--include", "--request", method, *header, *options
    )
    head, _, body = done.stdout.replace("\r\n", "\n").partition("\n\n")
    lines = head.split("\n")
    headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines[1:])}
    return Answer(int(lines[0].split()[1]), headers, json.loads(body) if body.strip() else None)


def body_option(document: Any) -> tuple[str, ...]:
    return ("--header", "Content-Type: application/json", "--data", json.dumps(document))


@pytest.fixture(scope="module")
def bearer(lab: RunningLab) -> str:
    return token(lab, "us-east-1")


def test_a_row_lives_its_life(lab: RunningLab, bearer: str) -> None:
    created = call(lab, "POST", "/todos", bearer, *body_option({"task": "buy milk"}))
    assert created.status == 201
    assert created.body["region"] == "us-east-1"
    path = f"/todos/{created.body['id']}"
    read = call(lab, "GET", path, bearer)
    assert (read.status, read.headers["etag"]) == (200, created.headers["etag"])
    stale = call(lab, "PATCH", path, bearer, "--header", 'If-Match: "0"',
                 "--header", "Content-Type: application/merge-patch+json",
                 "--data", '{"status": "done"}')  # fmt: skip
    assert stale.status == 412
    done = call(lab, "PATCH", path, bearer, "--header", f"If-Match: {read.headers['etag']}",
                "--header", "Content-Type: application/merge-patch+json",
                "--data", '{"status": "done"}')  # fmt: skip
    assert (done.status, done.body["status"]) == (200, "done")
    assert call(lab, "DELETE", path, bearer).status == 204
    assert call(lab, "GET", path, bearer).status == 404


def test_the_same_key_creates_once(lab: RunningLab, bearer: str) -> None:
    key = ("--header", f'Idempotency-Key: "{uuid.uuid4()}"')
    first = call(lab, "POST", "/todos", bearer, *key, *body_option({"task": "once"}))
    again = call(lab, "POST", "/todos", bearer, *key, *body_option({"task": "once"}))
    other = call(lab, "POST", "/todos", bearer, *key, *body_option({"task": "twice"}))
    assert (first.status, again.status, other.status) == (201, 201, 422)
    assert first.body["id"] == again.body["id"]


@pytest.mark.parametrize("issued_in", ["us-east-1", "us-west-2"])
def test_tokens_of_both_pools_work_in_both_regions(lab: RunningLab, issued_in: str) -> None:
    bearer = token(lab, issued_in)
    for region in lab.face["regions"].values():
        done = lab.curl(
            f"{region['pinned']['todo']}/todos", "--fail",
            "--header", f"Authorization: Bearer {bearer}",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


def forged(bearer: str, **changes: Any) -> str:
    """The token with another header or payload and the old signature."""
    head, payload, signature = bearer.split(".")

    def decoded(part: str) -> dict[str, Any]:
        return dict(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))))

    def encoded(document: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()

    new_head = {**decoded(head), **({"alg": "none"} if changes.get("alg") == "none" else {})}
    claims = {**decoded(payload), **{k: v for k, v in changes.items() if k != "alg"}}
    return ".".join((encoded(new_head), encoded(claims), signature if "alg" not in changes else ""))


def test_bad_tokens_get_no_data(lab: RunningLab, bearer: str) -> None:
    head, payload, signature = bearer.split(".")
    flipped = ("A" if signature[0] != "A" else "B") + signature[1:]
    for bad in (
        None,
        "nonsense",
        f"{head}.{payload}.{flipped}",
        forged(bearer, scope="api/operate"),
        forged(bearer, alg="none"),
        forged(bearer, token_use="id"),
        forged(bearer, exp=1),
    ):
        answer = call(lab, "GET", "/todos", bad)
        assert answer.status == 401
        assert "items" not in (answer.body or {})


def test_each_method_wants_its_own_scope(lab: RunningLab) -> None:
    reader = token(lab, "us-east-1", scope="api/read")
    writer = token(lab, "us-east-1", scope="api/upsert-delete")
    operator = token(lab, "us-east-1", "operator", "api/operate")
    assert call(lab, "GET", "/todos", reader).status == 200
    assert call(lab, "POST", "/todos", reader, *body_option({"task": "x"})).status in (401, 403)
    assert call(lab, "GET", "/todos", writer).status in (401, 403)
    assert call(lab, "GET", "/_ops/depth", reader).status in (401, 403)
    depth = call(lab, "GET", "/_ops/depth", operator)
    assert (depth.status, depth.body["writable"]) == (200, True)


def test_the_passive_region_reads_and_does_not_write(lab: RunningLab, bearer: str) -> None:
    west = lab.face["regions"]["us-west-2"]["pinned"]["todo"]
    auth = ("--header", f"Authorization: Bearer {bearer}")
    assert lab.curl(f"{west}/todos", "--fail", *auth).returncode == 0
    refused = lab.curl(
        f"{west}/todos", "--include", "--request", "POST", *auth, *body_option({"task": "no"})
    )
    assert " 503 " in refused.stdout.split("\r\n")[0]
    assert "retry-after" in refused.stdout.lower()


def test_arc_refuses_traffic_where_the_database_is_not(lab: RunningLab) -> None:
    """The order of a move holds even when somebody goes past the tool."""
    todo = lab.recovery["services"]["todo"]
    east, west = lab.recovery["regions"]
    endpoint = lab.face["arc_endpoints"][3]
    traffic, database = todo["routing_controls"], todo["database"]["routing_controls"]
    for pairs in (
        ((traffic[east], "Off"), (traffic[west], "On")),
        ((database[east], "Off"), (database[west], "On")),
        ((traffic[east], "Off"), (traffic[west], "On"), (database[west], "On")),
    ):
        done = aws_update(lab, endpoint, *pairs)
        assert done.returncode != 0
        assert "ConflictException" in done.stderr


def test_secrets_are_for_this_user_only(lab: RunningLab) -> None:
    for name in ("lab.json", "env", "tokens.json"):
        assert (lab.directory / name).stat().st_mode & 0o077 == 0, name
    recovery = Path(lab.face["recovery_file"]).read_text()
    for client in ("tokens", "operator"):
        for entry in lab.face[client].values():
            assert entry["client_secret"] not in recovery
