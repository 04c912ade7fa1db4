"""The client credentials grant: requests and refusals, and what the deployment may say."""

from __future__ import annotations

import base64
import stat
import uuid
from pathlib import Path
from urllib.parse import urlencode

import pytest
from cognito_support import (
    EAST,
    NOW,
    WEST,
    client,
    client_id,
    deployment,
    issuer,
    pool_id,
    resource,
)

from lab.cognito import CognitoConfigError, KeyStore, client_credentials, prepare
from lab.cognito.configuration import pools_of
from lab.cognito.tokens import Grant, TokenRefused, access_claims, grant

FORM = "application/x-www-form-urlencoded"
ID = client_id(EAST)
SECRET = "s" * 51
OTHER_FLOW = client(EAST, "Website", ["api/read"], AllowedOAuthFlows=["code"])
SWITCHED_OFF = client(EAST, "Off", ["api/read"], AllowedOAuthFlowsUserPoolClient=False)
SHORT = client(
    EAST,
    "Short",
    ["api/read"],
    AccessTokenValidity=5,
    TokenValidityUnits={"AccessToken": "minutes"},
)
POOLS = pools_of(deployment(OTHER_FLOW, SWITCHED_OFF, SHORT), EAST)
SECRETS = {c: SECRET for pool in POOLS for c in pool.clients}


def basic(client: str = ID, secret: str = SECRET) -> str:
    return "Basic " + base64.b64encode(f"{client}:{secret}".encode()).decode()


def ask(authorization: str | None = None, content_type: str = FORM, **form: str) -> Grant:
    body = urlencode({"grant_type": "client_credentials", **form})
    return grant(POOLS, SECRETS, content_type, authorization, body.encode())


def refusal(
    authorization: str | None = None, content_type: str = FORM, body: str = "", **form: str
) -> str:
    text = body or urlencode({"grant_type": "client_credentials", **form})
    with pytest.raises(TokenRefused) as caught:
        grant(POOLS, SECRETS, content_type, authorization, text.encode())
    return caught.value.code


def test_basic_and_post() -> None:
    assert ask(basic()) == ask(client_id=ID, client_secret=SECRET) == ask(basic(), client_id=ID)
    assert ask(basic()).client.id == ID
    assert ask(basic(), content_type=f"{FORM}; charset=UTF-8").client.id == ID


def test_scopes() -> None:
    assert ask(basic()).scopes == ("api/read", "api/upsert-delete")
    assert ask(basic(), scope="").scopes == ("api/read", "api/upsert-delete")
    assert ask(basic(), scope="api/read").scopes == ("api/read",)
    assert ask(basic(), scope="api/read  api/read").scopes == ("api/read",)
    assert refusal(basic(), scope="api/operate") == "invalid_grant"
    assert refusal(basic(), scope="api/read api/operate") == "invalid_grant"
    assert refusal(basic(), scope="api/unknown") == "invalid_scope"
    assert refusal(basic(), scope="api/operate api/unknown") == "invalid_scope"
    assert refusal(basic(), scope="openid") == "invalid_scope"


@pytest.mark.parametrize(
    ("header", "form"),
    [
        (basic(secret="wrong"), {}),
        (basic(secret=""), {}),
        (basic(secret=SECRET + "é"), {}),
        (basic(client="nobody"), {}),
        (basic(client=client_id(WEST)), {}),
        (None, {"client_id": ID}),
        (None, {"client_id": ID, "client_secret": "wrong"}),
        (None, {"client_id": "nobody", "client_secret": SECRET}),
    ],
)
def test_invalid_client(header: str | None, form: dict[str, str]) -> None:
    expected = "invalid_request" if header and "é" in base64.b64decode(header[6:]).decode() else ""
    assert refusal(header, **form) == (expected or "invalid_client")


def test_invalid_request() -> None:
    assert refusal(basic(), content_type="application/json") == "invalid_request"
    assert refusal(basic(), content_type="") == "invalid_request"
    assert refusal(basic(), body="scope=api/read") == "invalid_request"
    assert refusal(basic(), body="grant_type=") == "invalid_request"
    assert refusal(basic(), body="grant_type=client_credentials&scope=a&scope=b") == (
        "invalid_request"
    )
    assert refusal(basic(), body="grant_type=client_credentials&scope=%ff") == "invalid_request"
    assert refusal(basic(), body="grant_type=client_credentials&scope=é") == "invalid_request"
    assert refusal(basic(), body="a=&" * 200) == "invalid_request"
    assert refusal() == "invalid_request"
    assert refusal("Bearer abc") == "invalid_request"
    assert refusal("Basic") == "invalid_request"
    assert refusal("Basic " + base64.b64encode(b"no colon").decode()) == "invalid_request"
    assert refusal(basic(), client_secret=SECRET) == "invalid_request"
    assert refusal(basic(), client_id="another") == "invalid_request"


def test_grants() -> None:
    assert refusal(basic(), grant_type="password") == "unsupported_grant_type"
    assert refusal(basic(), grant_type="authorization_code") == "unauthorized_client"
    assert refusal(basic(OTHER_FLOW.physical_id)) == "unauthorized_client"
    assert refusal(basic(SWITCHED_OFF.physical_id)) == "unauthorized_client"


def test_claims() -> None:
    jti = uuid.UUID(int=7)
    assert access_claims(ask(basic()), NOW + 0.9, jti) == {
        "sub": ID,
        "token_use": "access",
        "scope": "api/read api/upsert-delete",
        "auth_time": int(NOW),
        "iss": issuer(pool_id(EAST)),
        "exp": int(NOW) + 3600,
        "iat": int(NOW),
        "version": 2,
        "jti": str(jti),
        "client_id": ID,
    }
    short = access_claims(ask(basic(SHORT.physical_id)), NOW, jti)
    assert short["exp"] == int(NOW) + 300


def test_every_fault_of_a_deployment_is_reported() -> None:
    wrong = deployment(
        client(EAST, "A", ["api/unknown"]),
        client(EAST, "B", ["api/read"], AllowedOAuthFlows=["client_credentials", "code"]),
        client(EAST, "C", ["api/read"], GenerateSecret=False),
        client(EAST, "D", ["api/read"], AccessTokenValidity=48),
        client(EAST, "E", ["api/read"], AccessTokenValidity="soon"),
        resource(EAST, "UserPoolDomain", "Lost", "lost", UserPoolId="none", Domain="lost"),
    )
    with pytest.raises(CognitoConfigError) as caught:
        pools_of(wrong)
    assert len(caught.value.reasons) == 6
    assert "no resource server has api/unknown" in str(caught.value)
    assert "there is no user pool none" in str(caught.value)


# --- what is kept


def test_made_once_and_private(tmp_path: Path) -> None:
    prepare(deployment(), tmp_path)
    before = client_credentials(deployment(), tmp_path)
    files = {p.name: (p.read_bytes(), stat.S_IMODE(p.stat().st_mode)) for p in files_of(tmp_path)}
    prepare(deployment(), tmp_path)
    assert client_credentials(deployment(), tmp_path) == before
    assert {p.name: p.read_bytes() for p in files_of(tmp_path)} == {
        n: b for n, (b, _) in files.items()
    }
    assert {mode for name, (_, mode) in files.items() if not name.endswith("jwks.json")} == {0o600}
    assert stat.S_IMODE((tmp_path / "cognito").stat().st_mode) == 0o700
    assert before.keys() == {"Application", "Operator"}
    assert before["Application"].keys() == {EAST, WEST}
    secrets = {c["client_secret"] for regions in before.values() for c in regions.values()}
    assert len(secrets) == 4
    assert all(len(secret) == 51 for secret in secrets)


def test_another_lab_has_other_secrets(tmp_path: Path) -> None:
    one = client_credentials(deployment(), tmp_path / "one")
    two = client_credentials(deployment(), tmp_path / "two")
    ids = {(n, r): c["client_id"] for n, regions in one.items() for r, c in regions.items()}
    for (name, region), known in ids.items():
        assert two[name][region]["client_id"] == known
        assert two[name][region]["client_secret"] != one[name][region]["client_secret"]


def test_a_client_that_is_added_leaves_the_others_alone(tmp_path: Path) -> None:
    keys = KeyStore(tmp_path)
    before = keys.private("pool", ["a"])
    after = keys.private("pool", ["a", "b"])
    assert after.kid == before.kid
    assert after.client_secrets["a"] == before.client_secrets["a"]
    assert keys.private("pool", ["b"]).client_secrets["b"] == after.client_secrets["b"]
    public = keys.public("pool")
    assert public is not None
    assert public.key.public_numbers() == before.key.public_key().public_numbers()
    assert keys.public("none") is None


def files_of(state: Path) -> list[Path]:
    return sorted((state / "cognito").iterdir())
