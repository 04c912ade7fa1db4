"""Whom the authorizer lets in, with which claims, and everybody whom it does not."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jwt
import pytest
from cognito_support import (
    EAST,
    FOREIGN,
    NOW,
    WEST,
    authorization,
    claims,
    client_id,
    deployment,
    issuer,
    pool_id,
    private,
)
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from lab.apigateway.authorizer import Refusal
from lab.cognito import CognitoAuthorizer, prepare
from lab.cognito.service import signed

READ = authorization("api/read")
UNAUTHORIZED = Refusal("Unauthorized")
EXPIRED = Refusal("The incoming token has expired")


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("state")
    prepare(deployment(), folder)
    return folder


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def authorizer(state: Path, clock: Clock) -> CognitoAuthorizer:
    return CognitoAuthorizer(deployment(), state, clock=clock)


def token(state: Path, pool: str = pool_id(EAST), **changes: Any) -> str:
    return signed(private(state, pool), claims(pool, **changes))


def encoded(part: Mapping[str, Any] | bytes) -> str:
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


# --- let in


@pytest.mark.parametrize("region", [EAST, WEST])
@pytest.mark.parametrize("prefix", ["", "Bearer ", "bearer "])
async def test_token_of_either_region(
    authorizer: CognitoAuthorizer, state: Path, region: str, prefix: str
) -> None:
    found = await authorizer.authorize(READ, prefix + token(state, pool_id(region)))
    assert isinstance(found, Mapping)
    assert found["client_id"] == found["sub"] == client_id(region)
    assert found["iss"] == issuer(pool_id(region))


def test_claims_are_text(authorizer: CognitoAuthorizer, state: Path) -> None:
    groups = token(state, **{"cognito:groups": ["a", "b"], "verified": True})
    found = authorizer.verdict(READ, groups)
    assert isinstance(found, Mapping)
    assert all(isinstance(value, str) for value in found.values())
    assert found["version"] == "2"
    assert found["auth_time"] == str(int(NOW))
    assert found["exp"] == time.strftime("%a %b %d %H:%M:%S UTC %Y", time.gmtime(NOW + 3600))
    assert found["cognito:groups"] == "a,b"
    assert found["verified"] == "true"


def test_one_scope_is_enough(authorizer: CognitoAuthorizer, state: Path) -> None:
    either = authorization("api/operate", "api/upsert-delete")
    assert isinstance(authorizer.verdict(either, token(state)), Mapping)


def test_method_without_scopes_takes_an_id_token(
    authorizer: CognitoAuthorizer, state: Path
) -> None:
    good = token(state, token_use="id", aud=client_id(EAST))
    assert isinstance(authorizer.verdict(authorization(), good), Mapping)
    other_audience = token(state, token_use="id", aud="another")
    assert authorizer.verdict(authorization(), other_audience) == UNAUTHORIZED
    both = token(state, token_use="id", aud=[client_id(EAST)])
    assert authorizer.verdict(authorization(), both) == UNAUTHORIZED
    assert authorizer.verdict(authorization(), token(state, aud=client_id(EAST))) == UNAUTHORIZED


def test_keys_that_are_made_later_are_found(tmp_path: Path, clock: Clock) -> None:
    authorizer = CognitoAuthorizer(deployment(), tmp_path, clock=clock)
    late = token(tmp_path)
    assert isinstance(authorizer.verdict(READ, late), Mapping)


# --- time


def test_expiry_counts_for_a_remembered_token_too(
    authorizer: CognitoAuthorizer, state: Path, clock: Clock
) -> None:
    good = token(state)
    clock.now = NOW + 3599.9
    assert isinstance(authorizer.verdict(READ, good), Mapping)
    clock.now = NOW + 3600
    assert authorizer.verdict(READ, good) == EXPIRED
    assert authorizer.verdict(READ, good) == EXPIRED
    assert authorizer.verdict(READ, token(state, FOREIGN)) == UNAUTHORIZED


# --- not let in


def forgeries(state: Path) -> dict[str, str]:
    good = token(state)
    head, body, signature = good.split(".")
    kid = private(state, pool_id(EAST)).kid
    pem = private(state, pool_id(EAST)).key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )  # fmt: skip
    hs_head = encoded({"kid": kid, "alg": "HS256"})
    mac = hmac.new(pem, f"{hs_head}.{body}".encode(), hashlib.sha256).digest()
    more = encoded(claims(pool_id(EAST), scope="api/operate api/read"))
    flipped = bytearray(base64.urlsafe_b64decode(signature + "=="))
    flipped[100] ^= 1
    own_kid = {"kid": kid, "alg": "RS256", "jwk": {}, "jku": "http://127.0.0.1/"}
    west_key = private(state, pool_id(WEST))
    west_kid = {"kid": west_key.kid, "alg": "RS256"}
    none_heads = ["none", "None", "NONE", "nOnE", ""]
    return {
        "nothing": "",
        "bearer alone": "Bearer ",
        "garbage": "garbage",
        "dots": "..",
        "five parts": "a.b.c.d.e",
        "not ASCII": good + "é",
        "changed payload": f"{head}.{more}.{signature}",
        "changed signature": f"{head}.{body}.{encoded(bytes(flipped))}",
        "no signature": f"{head}.{body}.",
        "cut": good[:-1],
        "longer": good + "A",
        "foreign characters in the signature": f"{head}.{body}.!{signature}",
        "padded": good + "==",
        **{
            f"unused bits {i}": good[:-1] + c
            for i, c in enumerate(
                "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
            )
            if c != good[-1]
        },
        **{
            f"alg {alg!r}{end}": f"{encoded({'kid': kid, 'alg': alg})}.{body}.{end}"
            for alg in none_heads
            for end in ("", signature)
        },
        "HS256 with the public key": f"{hs_head}.{body}.{encoded(mac)}",
        "RS512": jwt.encode(
            claims(pool_id(EAST)), private(state, pool_id(EAST)).key, "RS512", headers={"kid": kid}
        ),
        "kid of another pool": f"{encoded(west_kid)}.{body}.{signature}",
        "another pool's key under this pool's kid": jwt.encode(
            claims(pool_id(EAST)), west_key.key, "RS256", headers={"kid": kid}
        ),
        "another pool's key and kid": signed(west_key, claims(pool_id(EAST))),
        "unknown kid": f"{encoded({'kid': 'unknown', 'alg': 'RS256'})}.{body}.{signature}",
        "no kid": f"{encoded({'alg': 'RS256'})}.{body}.{signature}",
        "kid is a list": f"{encoded({'kid': [kid], 'alg': 'RS256'})}.{body}.{signature}",
        "kid is an object": f"{encoded({'kid': {}, 'alg': 'RS256'})}.{body}.{signature}",
        "own key in the header": f"{encoded(own_kid)}.{body}.{signature}",
        "header is a list": f"{encoded(b'[]')}.{body}.{signature}",
        "header is deep": f"{encoded(b'[' * 100_000)}.{body}.{signature}",
        "header is not UTF-8": f"{encoded(bytes([255, 254]))}.{body}.{signature}",
        "huge": good + "A" * 1_000_000,
        "pool not listed": token(state, FOREIGN),
        "other issuer": token(state, iss="https://example.test"),
        "another pool's issuer": token(state, iss=issuer(pool_id(WEST))),
        "issuer is a list": jwt.PyJWS().encode(
            json.dumps(claims(pool_id(EAST), iss=[issuer(pool_id(EAST))])).encode(),
            private(state, pool_id(EAST)).key,
            "RS256",
            headers={"kid": kid},
        ),
        "ID token": token(state, token_use="id", aud=client_id(EAST)),
        "token_use is a list": token(state, token_use=["access"]),
        "wrong scope": token(state, scope="api/operate"),
        "scope is a part": token(state, scope="api/rea"),
        "scope goes on": token(state, scope="api/reads"),
        "no scope": token(state, scope=""),
        "scope is a list": token(state, scope=["api/read"]),
        "exp is text": token(state, exp="never"),
        "exp is true": token(state, exp=True),
        "exp is infinite": token(state, exp=float("inf")),
    }


def test_forged_tokens(authorizer: CognitoAuthorizer, state: Path) -> None:
    assert isinstance(authorizer.verdict(READ, token(state)), Mapping)
    let_in = {
        name
        for name, forged in forgeries(state).items()
        for start in ("", "Bearer ")
        if authorizer.verdict(READ, start + forged) != UNAUTHORIZED
    }
    assert let_in == set()


@pytest.mark.parametrize("missing", ["exp", "iat", "iss", "token_use", "scope"])
def test_missing_claim(authorizer: CognitoAuthorizer, state: Path, missing: str) -> None:
    given = claims(pool_id(EAST))
    del given[missing]
    forged = signed(private(state, pool_id(EAST)), given)
    assert authorizer.verdict(READ, forged) == UNAUTHORIZED


def test_an_expired_forgery_is_only_unauthorized(
    authorizer: CognitoAuthorizer, state: Path, clock: Clock
) -> None:
    good = token(state)
    clock.now = NOW + 7200
    assert authorizer.verdict(READ, good[:-5] + "AAAAA") == UNAUTHORIZED


def test_one_changed_character(state: Path) -> None:
    authorizer = CognitoAuthorizer(deployment(), state, clock=lambda: NOW)
    good = token(state)
    assert isinstance(authorizer.verdict(READ, good), Mapping)

    @given(at=st.integers(0, len(good) - 1), character=st.characters(codec="latin-1"))
    def refused(at: int, character: str) -> None:
        forged = good[:at] + character + good[at + 1 :]
        assert forged == good or authorizer.verdict(READ, forged) == UNAUTHORIZED

    refused()


def test_pool_of_the_region_alone_is_not_enough(authorizer: CognitoAuthorizer, state: Path) -> None:
    """The same token, remembered for one method, is weighed again for another."""
    good = token(state)
    assert isinstance(authorizer.verdict(READ, good), Mapping)
    assert authorizer.verdict(authorization("api/operate"), good) == UNAUTHORIZED
    assert authorizer.verdict(authorization(), good) == UNAUTHORIZED


def test_a_remembered_token_costs_well_under_a_millisecond(
    authorizer: CognitoAuthorizer, state: Path
) -> None:
    good = token(state)
    authorizer.verdict(READ, good)
    started = time.process_time()
    for _ in range(1000):
        authorizer.verdict(READ, good)
    assert time.process_time() - started < 0.5
