"""A gateway of either region with the real authorizer in front of a protected method."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from apigateway_support import EAST, POOL_ARN, REGIONS, WEST, two_regions

from lab.cognito import CognitoAuthorizer, KeyStore
from lab.cognito.service import signed
from lab.model import Deployment, Resource

SERVICE1 = "service1.example.test"
POOL = POOL_ARN.rpartition("/")[2]
ISSUER = f"https://cognito-idp.us-east-1.amazonaws.com/{POOL}"
DEPLOYMENT = Deployment(
    (Resource("u", "us-east-1", "Pool", "AWS::Cognito::UserPool", POOL, {}, {"Arn": POOL_ARN}),), {}
)


def token(state: Path, **changes: Any) -> str:
    now = int(time.time())
    claims = {
        "sub": "me", "client_id": "me", "token_use": "access", "scope": "api/read",
        "iss": ISSUER, "iat": now, "exp": now + 60, "version": 2,
    }  # fmt: skip
    return signed(KeyStore(state / "cognito").private(POOL, ()), claims | changes)


@pytest.mark.parametrize("address", [EAST, WEST], ids=["east", "west"])
async def test_answers_of_the_gateway(tmp_path: Path, address: str) -> None:
    good = token(tmp_path)
    old = token(tmp_path, exp=int(time.time()) - 1)
    async with two_regions(authorizer=CognitoAuthorizer(DEPLOYMENT, tmp_path)) as lab:

        async def ask(authorization: str | None) -> Any:
            headers = {} if authorization is None else {"Authorization": authorization}
            return await lab.request("/private", host=SERVICE1, address=address, headers=headers)

        for refused, message in (
            (None, "Unauthorized"),
            ("", "Unauthorized"),
            ("Basic bWU6eW91", "Unauthorized"),
            (good[:-3] + "AAA", "Unauthorized"),
            (token(tmp_path, scope="api/operate"), "Unauthorized"),
            (token(tmp_path, token_use="id", aud="me"), "Unauthorized"),
            (old, "The incoming token has expired"),
            (good + "A" * 8000, "Unauthorized"),
        ):
            answer = await ask(refused)
            assert (answer.status, answer.json) == (401, {"message": message}), refused
            assert answer.headers["x-amzn-ErrorType"] == "UnauthorizedException"
        assert (await ask(good + "A" * 20_000)).status == 431
        assert all(lab.functions[region].traces == [] for region in REGIONS)
        for accepted in (good, f"Bearer {good}"):
            answer = await ask(accepted)
            assert answer.status == 200
            claims = answer.json["event"]["requestContext"]["authorizer"]["claims"]
            assert (claims["client_id"], claims["version"]) == ("me", "2")
