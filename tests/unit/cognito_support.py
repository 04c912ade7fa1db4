"""Two regions' user pools, and a third pool that no authorizer lists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lab.apigateway.authorizer import COGNITO
from lab.apigateway.definition import Authorization
from lab.cognito import KeyStore
from lab.cognito.keys import Private
from lab.model import Deployment, Resource

EAST, WEST = "us-east-1", "us-west-2"
FOREIGN = f"{EAST}_Foreign01"
NOW = 1_790_000_000.0


def pool_id(region: str) -> str:
    return f"{region}_Pool00001"


def pool_arn(pool: str) -> str:
    return f"arn:aws:cognito-idp:{pool.partition('_')[0]}:111122223333:userpool/{pool}"


def issuer(pool: str) -> str:
    return f"https://cognito-idp.{pool.partition('_')[0]}.amazonaws.com/{pool}"


def client_id(region: str, name: str = "Application") -> str:
    return f"{name.lower()}{region.replace('-', '')}000000"[:26]


def resource(region: str, kind: str, logical_id: str, physical_id: str, **given: Any) -> Resource:
    attributes = {"Arn": pool_arn(physical_id)} if kind == "UserPool" else {}
    return Resource(
        f"users-{region}",
        region,
        logical_id,
        f"AWS::Cognito::{kind}",
        physical_id,
        given,
        attributes,
    )


def client(region: str, name: str, scopes: list[str], **given: Any) -> Resource:
    properties = {
        "UserPoolId": pool_id(region),
        "GenerateSecret": True,
        "AllowedOAuthFlows": ["client_credentials"],
        "AllowedOAuthFlowsUserPoolClient": True,
        "AllowedOAuthScopes": scopes,
        **given,
    }
    return resource(region, "UserPoolClient", name, client_id(region, name), **properties)


def resources(region: str) -> list[Resource]:
    pool = pool_id(region)
    scopes = [{"ScopeName": n, "ScopeDescription": n} for n in ("read", "upsert-delete", "operate")]
    return [
        resource(region, "UserPool", "Pool", pool),
        resource(
            region, "UserPoolDomain", "Domain", f"d-{region}", UserPoolId=pool, Domain=f"d-{region}"
        ),
        resource(
            region, "UserPoolResourceServer", "Api", "api",
            UserPoolId=pool, Identifier="api", Scopes=scopes,
        ),
        client(region, "Application", ["api/read", "api/upsert-delete"]),
        client(region, "Operator", ["api/operate", "api/read"]),
    ]  # fmt: skip


def deployment(*more: Resource) -> Deployment:
    foreign = resource(EAST, "UserPool", "Foreign", FOREIGN)
    return Deployment((*resources(EAST), *resources(WEST), foreign, *more), {})


def authorization(*scopes: str) -> Authorization:
    """A method that takes tokens of both regions' pools."""
    arns = (pool_arn(pool_id(EAST)), pool_arn(pool_id(WEST)))
    return Authorization("pools", COGNITO, arns, scopes)


def private(state_dir: Path, pool: str) -> Private:
    """A pool's own key, to sign what the lab would not."""
    return KeyStore(state_dir / "cognito").private(pool, ())


def claims(pool: str, **changes: Any) -> dict[str, Any]:
    """Those of a good access token of the application."""
    region = pool.partition("_")[0]
    return {
        "sub": client_id(region),
        "token_use": "access",
        "scope": "api/read api/upsert-delete",
        "auth_time": int(NOW),
        "iss": issuer(pool),
        "exp": int(NOW) + 3600,
        "iat": int(NOW),
        "version": 2,
        "jti": "018f0000-0000-7000-8000-000000000000",
        "client_id": client_id(region),
    } | changes
