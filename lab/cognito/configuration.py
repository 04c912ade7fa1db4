"""User pools as the deployment describes them. Pure.

Read from `AWS::Cognito::UserPool`, `UserPoolDomain`, `UserPoolResourceServer` and
`UserPoolClient` (CloudFormation template reference).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lab.model import Deployment, Resource

CLIENT_CREDENTIALS = "client_credentials"
_UNITS = {"seconds": 1, "minutes": 60, "hours": 3600, "days": 86400}
_SHORTEST, _LONGEST = 300, 86400
"""Of an access token, in seconds (`AWS::Cognito::UserPoolClient`, AccessTokenValidity)."""


class CognitoError(Exception):
    """Base of what goes wrong here; the tree is drawn in the package."""


class CognitoConfigError(CognitoError):
    def __init__(self, reasons: list[str]) -> None:
        self.reasons = tuple(reasons)
        super().__init__("user pools cannot be run:\n" + "\n".join(f"  - {r}" for r in reasons))


@dataclass(frozen=True, slots=True)
class Client:
    """An app client."""

    id: str
    name: str
    """Its logical id in the template."""
    scopes: tuple[str, ...]
    """AllowedOAuthScopes, `<resource server>/<scope>`."""
    validity: int
    """Of an access token, in seconds."""
    has_secret: bool
    may_use_credentials: bool
    """The client credentials grant is switched on."""


@dataclass(frozen=True, slots=True)
class Pool:
    id: str
    arn: str
    region: str
    domains: tuple[str, ...]
    """Host names of its token endpoint on AWS."""
    scopes: frozenset[str]
    """All custom scopes of its resource servers."""
    clients: Mapping[str, Client]
    """By client id."""

    @property
    def issuer(self) -> str:
        """The `iss` of its tokens."""
        return f"https://cognito-idp.{self.region}.amazonaws.com/{self.id}"


def pools_of(deployment: Deployment, region: str | None = None) -> tuple[Pool, ...]:
    """The user pools of one region or of all. Raises CognitoConfigError with every reason."""
    reasons: list[str] = []
    pools = []
    for resource in deployment.of_type("AWS::Cognito::UserPool", region=region):
        members = [r for r in deployment.resources if _pool_of(r) == resource.physical_id]
        pools.append(_pool(resource, members, reasons))
    ids = {p.physical_id for p in deployment.of_type("AWS::Cognito::UserPool")}
    for resource in deployment.resources:
        pool = _pool_of(resource)
        if pool is not None and pool not in ids:
            reasons.append(f"{resource.stack}: {resource.logical_id}: there is no user pool {pool}")
    if reasons:
        raise CognitoConfigError(reasons)
    return tuple(pools)


def _pool_of(resource: Resource) -> Any:
    if resource.type.startswith("AWS::Cognito::UserPool") and "UserPoolId" in resource.properties:
        return resource.properties["UserPoolId"]
    return None


def _pool(resource: Resource, members: list[Resource], reasons: list[str]) -> Pool:
    scopes = frozenset(scope for member in members for scope in _scopes(member))
    clients = [
        _client(member, scopes, reasons)
        for member in members
        if member.type == "AWS::Cognito::UserPoolClient"
    ]
    return Pool(
        id=resource.physical_id,
        arn=str(resource.attributes["Arn"]),
        region=resource.region,
        domains=tuple(domain for member in members for domain in _domains(member)),
        scopes=scopes,
        clients={client.id: client for client in clients},
    )


def _scopes(member: Resource) -> Iterator[str]:
    if member.type == "AWS::Cognito::UserPoolResourceServer":
        for scope in member.properties.get("Scopes", ()):
            yield f"{member.properties['Identifier']}/{scope['ScopeName']}"


def _domains(member: Resource) -> Iterator[str]:
    if member.type == "AWS::Cognito::UserPoolDomain":
        name = str(member.properties["Domain"]).lower()
        is_custom = "CustomDomainConfig" in member.properties
        yield name if is_custom else f"{name}.auth.{member.region}.amazoncognito.com"


def _client(member: Resource, known: frozenset[str], reasons: list[str]) -> Client:
    given = member.properties
    at = f"{member.stack}: {member.logical_id}"
    scopes = tuple(map(str, given.get("AllowedOAuthScopes", ())))
    unknown = sorted(set(scopes) - known)
    if unknown:
        reasons.append(f"{at}: no resource server has {', '.join(unknown)}")
    flows = given.get("AllowedOAuthFlows", ())
    if CLIENT_CREDENTIALS in flows and len(flows) > 1:
        reasons.append(f"{at}: client_credentials cannot be used together with other flows")
    has_secret = _is_true(given.get("GenerateSecret"))
    if CLIENT_CREDENTIALS in flows and not has_secret:
        reasons.append(f"{at}: client_credentials needs GenerateSecret")
    return Client(
        id=member.physical_id,
        name=member.logical_id,
        scopes=scopes,
        validity=_validity(at, given, reasons),
        has_secret=has_secret,
        may_use_credentials=CLIENT_CREDENTIALS in flows
        and _is_true(given.get("AllowedOAuthFlowsUserPoolClient")),
    )


def _is_true(value: Any) -> bool:
    return value is True or value == "true"


def _validity(at: str, given: Mapping[str, Any], reasons: list[str]) -> int:
    number = given.get("AccessTokenValidity", 1)
    unit = given.get("TokenValidityUnits", {}).get("AccessToken", "hours")
    try:
        seconds = int(number) * _UNITS[unit]
    except (ValueError, TypeError, KeyError):
        reasons.append(f"{at}: AccessTokenValidity {number!r} {unit!r} is not a time")
        return 3600
    if not _SHORTEST <= seconds <= _LONGEST:
        reasons.append(f"{at}: AccessTokenValidity {seconds} s is not 5 minutes to 1 day")
    return seconds
