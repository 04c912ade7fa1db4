"""API Gateway's `COGNITO_USER_POOLS` authorizer.

Sources: AWS docs "Control access to REST APIs using Amazon Cognito user pools as an authorizer"
and "Integrate a REST API with an Amazon Cognito user pool": a method with scopes takes an access
token and is satisfied by one scope of its list; a method without takes an ID token; up to 1,000
pools, also of other regions. Gateway responses: "Gateway response types", UNAUTHORIZED is 401.

Assumed, because no page says it: a token without a needed scope gives 401 and not 403 (reported by
users; the docs say "not authorized"); the text for an expired token (seen, undocumented); the form
of `exp` and `iat` in the claims (seen in example events); `Bearer` in any case.

JWS verification is PyJWT's, after a check that every part is canonical base64url. A token that was
found good is remembered, whole, until it expires, so that one which differs in a single character
is never taken for it.

Downside: nothing revokes a token before its time, as with API Gateway.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt

from lab.apigateway.authorizer import Refusal
from lab.apigateway.definition import Authorization
from lab.cognito.configuration import Pool, pools_of
from lab.cognito.keys import Public
from lab.cognito.service import key_store
from lab.model import Deployment

EXPIRED = Refusal("The incoming token has expired")
UNAUTHORIZED = Refusal()
_REMEMBERED = 2048
_DATES = frozenset(("exp", "iat"))
_OPTIONS: Any = {  # the clock is ours, and what `aud` must be depends on the kind of token
    "verify_exp": False,
    "verify_iat": False,
    "verify_nbf": False,
    "verify_aud": False,
    "require": ["exp", "iat", "iss", "token_use"],
}


@dataclass(frozen=True, slots=True)
class _Verified:
    pool: Pool
    expires: float
    is_access: bool
    scopes: frozenset[str]
    audience: Any
    claims: Mapping[str, str]


class CognitoAuthorizer:
    """Knows the public keys of all pools of `deployment`, whichever region they are in.

    `state_dir`: the lab's state directory. A key set that is not there yet is looked for again
    when a token asks for it. Raises CognitoConfigError.
    """

    def __init__(
        self, deployment: Deployment, state_dir: Path, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._pools = pools_of(deployment)
        self._keys = key_store(state_dir)
        self._clock = clock
        self._by_kid: dict[str, tuple[Pool, Public]] = {}
        self._verified: dict[str, _Verified] = {}
        self._load()

    async def authorize(
        self, authorization: Authorization, token: str
    ) -> Mapping[str, Any] | Refusal:
        """The claims, all values as text, or a refusal."""
        return self.verdict(authorization, token)

    def verdict(self, authorization: Authorization, token: str) -> Mapping[str, str] | Refusal:
        """As `authorize`, at once."""
        if token[:7].lower() == "bearer ":
            token = token[7:].strip()
        found = self._verified.get(token) or self._verify(token)
        if found is None or found.pool.arn not in authorization.provider_arns:
            return UNAUTHORIZED
        if found.expires <= self._clock():
            self._verified.pop(token, None)
            return EXPIRED
        if not _fits(found, authorization.scopes):
            return UNAUTHORIZED
        return found.claims

    def _verify(self, token: str) -> _Verified | None:
        try:
            if not _is_canonical(token):
                return None
            header = jwt.get_unverified_header(token)
            known = self._key(header.get("kid"))
            if known is None:
                return None
            pool, public = known
            claims = jwt.decode(
                token, public.key, algorithms=["RS256"], issuer=pool.issuer, options=_OPTIONS
            )
        except (jwt.PyJWTError, ValueError, RecursionError):
            return None
        expires, use, scope = claims["exp"], claims["token_use"], claims.get("scope", "")
        if type(expires) is not int or not isinstance(scope, str):
            return None
        verified = _Verified(
            pool=pool,
            expires=expires,
            is_access=use == "access",
            scopes=frozenset(scope.split()),
            audience=claims.get("aud") if use == "id" else None,
            claims={name: _text(name, value) for name, value in claims.items()},
        )
        self._remember(token, verified)
        return verified

    def _remember(self, token: str, verified: _Verified) -> None:
        if len(self._verified) >= _REMEMBERED:
            del self._verified[next(iter(self._verified))]
        self._verified[token] = verified

    def _key(self, kid: Any) -> tuple[Pool, Public] | None:
        if not isinstance(kid, str):
            return None
        if kid not in self._by_kid and len(self._by_kid) < len(self._pools):
            self._load()
        return self._by_kid.get(kid)

    def _load(self) -> None:
        for pool in self._pools:
            public = self._keys.public(pool.id)
            if public is not None:
                self._by_kid[public.kid] = (pool, public)


def _is_canonical(token: str) -> bool:
    """Each part is base64url as RFC 7515 writes it. A lenient decoder passes over foreign
    characters and unused bits, so that an altered signature would still count. Raises ValueError.
    """
    parts = token.encode("ascii").split(b".")
    return len(parts) == 3 and all(
        base64.urlsafe_b64encode(base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))).rstrip(
            b"="
        )
        == part
        for part in parts
    )


def _fits(token: _Verified, scopes: tuple[str, ...]) -> bool:
    if scopes:
        return token.is_access and not token.scopes.isdisjoint(scopes)
    return isinstance(token.audience, str) and token.audience in token.pool.clients


def _text(name: str, value: Any) -> str:
    """A claim as it comes in `requestContext.authorizer.claims`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if name in _DATES and isinstance(value, int):
        return time.strftime("%a %b %d %H:%M:%S UTC %Y", time.gmtime(value))
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value)
