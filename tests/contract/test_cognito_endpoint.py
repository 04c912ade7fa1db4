"""The token endpoint over TLS, from the real template to a token that the authorizer takes."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest
import trustme

from infra.data_stacks import users_step
from infra.stacks import stack_list
from infra.topology import Service, Topology
from lab.apigateway.authorizer import COGNITO
from lab.apigateway.definition import Authorization
from lab.cognito import CognitoAuthorizer, UserPools, client_credentials, prepare
from lab.cognito.configuration import pools_of
from lab.model import Deployment
from lab.stacks import deploy

REGIONS = ("us-east-1", "us-west-2")
EAST, WEST = REGIONS
TOPOLOGY = Topology("example.test", REGIONS, {"todo": Service("todo", database="aurora")})


@dataclass(frozen=True)
class Rig:
    deployment: Deployment
    state: Path
    session: aiohttp.ClientSession
    urls: Mapping[str, str]
    pools: Mapping[str, UserPools]

    def secret(self, region: str, client: str = "Application") -> dict[str, str]:
        return client_credentials(self.deployment, self.state)[client][region]

    async def token(self, region: str, client: str = "Application", **form: str) -> dict[str, Any]:
        given = {"grant_type": "client_credentials", **self.secret(region, client), **form}
        async with self.session.post(f"{self.urls[region]}/oauth2/token", data=given) as answer:
            assert answer.status == 200, await answer.text()
            return dict(await answer.json())


@pytest.fixture(scope="module")
def deployment() -> Deployment:
    wanted = {users_step(region) for region in REGIONS}
    steps = [step for step in stack_list(TOPOLOGY) if step.name in wanted]
    return deploy(steps, TOPOLOGY, {})


@pytest.fixture
async def rig(deployment: Deployment, tmp_path: Path) -> AsyncIterator[Rig]:
    prepare(deployment, tmp_path)
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(client)
    pools = {region: UserPools(region, deployment, tmp_path) for region in REGIONS}
    urls = {
        region: f"https://127.0.0.1:{await part.start('127.0.0.1', 0, server)}"
        for region, part in pools.items()
    }
    timeout = aiohttp.ClientTimeout(total=10)
    connector = aiohttp.TCPConnector(ssl=client)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        yield Rig(deployment, tmp_path, session, urls, pools)
    for part in pools.values():
        await part.close()


def method(deployment: Deployment, *scopes: str) -> Authorization:
    arns = tuple(pool.arn for pool in pools_of(deployment))
    return Authorization("pools", COGNITO, arns, scopes)


@pytest.mark.parametrize("region", REGIONS)
async def test_token_as_published(rig: Rig, region: str) -> None:
    """A client that knows the published key set alone can verify the token."""
    answer = await rig.token(region)
    assert answer.keys() == {"access_token", "expires_in", "token_type"}
    assert (answer["expires_in"], answer["token_type"]) == (3600, "Bearer")
    (pool,) = pools_of(rig.deployment, region)
    base = f"{rig.urls[region]}/{pool.id}/.well-known"
    async with rig.session.get(f"{base}/jwks.json") as response:
        keys = jwt.PyJWKSet.from_dict(await response.json())
    async with rig.session.get(f"{base}/openid-configuration") as response:
        openid = await response.json()
    token = answer["access_token"]
    header = jwt.get_unverified_header(token)
    assert header == {"kid": keys.keys[0].key_id, "alg": "RS256"}
    claims = jwt.decode(token, keys[header["kid"]], ["RS256"], issuer=openid["issuer"])
    assert claims["iss"] == f"https://cognito-idp.{region}.amazonaws.com/{pool.id}"
    assert claims["sub"] == claims["client_id"] == rig.secret(region)["client_id"]
    assert claims["scope"] == "api/read api/upsert-delete"
    assert claims["exp"] - claims["iat"] == 3600
    assert "aud" not in claims
    assert openid["token_endpoint"].endswith(f".auth.{region}.amazoncognito.com/oauth2/token")


async def test_basic_authentication_and_own_domain(rig: Rig) -> None:
    secret = rig.secret(EAST)
    basic = aiohttp.encode_basic_auth(secret["client_id"], secret["client_secret"])
    (pool,) = pools_of(rig.deployment, EAST)
    async with rig.session.post(
        f"{rig.urls[EAST]}/oauth2/token",
        data={"grant_type": "client_credentials", "scope": "api/read"},
        headers={
            "Authorization": basic,
            "Host": pool.domains[0],
        },
    ) as answer:
        assert answer.status == 200
        assert answer.headers["Cache-Control"] == "no-store"
        token = (await answer.json())["access_token"]
    assert jwt.decode(token, options={"verify_signature": False})["scope"] == "api/read"


async def test_refusals(rig: Rig) -> None:
    url = f"{rig.urls[EAST]}/oauth2/token"
    wrong = {"grant_type": "client_credentials", **rig.secret(EAST), "client_secret": "no"}
    async with rig.session.post(url, data=wrong) as answer:
        assert (answer.status, await answer.json()) == (400, {"error": "invalid_client"})
    async with rig.session.post(url, json=wrong) as answer:
        assert (answer.status, await answer.json()) == (400, {"error": "invalid_request"})
    elsewhere = {"grant_type": "client_credentials", **rig.secret(WEST)}
    async with rig.session.post(url, data=elsewhere) as answer:
        assert (answer.status, await answer.json()) == (400, {"error": "invalid_client"})
    async with rig.session.post(url, data=b"a" * 1_000_000) as answer:
        assert answer.status in (400, 413)
    async with rig.session.get(url) as answer:
        assert answer.status == 405
    async with rig.session.get(f"{rig.urls[EAST]}/none/.well-known/jwks.json") as answer:
        assert answer.status == 404
    assert rig.pools[EAST].status()["invalid_client"] == 2


async def test_both_regions_take_it_with_the_other_dead(rig: Rig) -> None:
    tokens = {region: (await rig.token(region))["access_token"] for region in REGIONS}
    await rig.pools[EAST].close()
    after = CognitoAuthorizer(rig.deployment, rig.state)
    for region, token in tokens.items():
        found = await after.authorize(method(rig.deployment, "api/read"), f"Bearer {token}")
        assert isinstance(found, Mapping)
        assert found["client_id"] == rig.secret(region)["client_id"]


async def test_operator_and_application_have_their_own_scopes(rig: Rig) -> None:
    operator = (await rig.token(WEST, "Operator"))["access_token"]
    application = (await rig.token(WEST))["access_token"]
    authorizer = CognitoAuthorizer(rig.deployment, rig.state)

    async def may(token: str, scope: str) -> bool:
        verdict = await authorizer.authorize(method(rig.deployment, scope), token)
        return isinstance(verdict, Mapping)

    assert await may(operator, "api/operate")
    assert await may(operator, "api/read")
    assert not await may(operator, "api/upsert-delete")
    assert await may(application, "api/upsert-delete")
    assert not await may(application, "api/operate")
