"""The client credentials grant: who may have which access token, and what is in it. Pure.

Source: AWS docs "The token issuer endpoint" (request, response, errors) and "Understanding the
access token" (claims). An answer to a bad request is 400 with one of the documented error codes,
`invalid_client` too. A custom scope that exists but is not the client's gives `invalid_grant`, one
that does not exist `invalid_scope`.

Assumed: the order of the checks, and the answer to parameters that are given twice, to a secret
given both ways, and to a header that is no Basic authentication (`invalid_request`).
"""

from __future__ import annotations

import base64
import binascii
import hmac
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from lab.cognito.configuration import CLIENT_CREDENTIALS, Client, Pool

_GRANTS = frozenset(("authorization_code", "refresh_token", CLIENT_CREDENTIALS))
_FORM = "application/x-www-form-urlencoded"
_MOST_PARAMETERS = 100


class TokenRefused(Exception):
    """The token endpoint answers 400 `{"error": code}`."""

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(code)


@dataclass(frozen=True, slots=True)
class Grant:
    """A request that is allowed."""

    pool: Pool
    client: Client
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Request:
    client_id: str
    secret: str
    grant_type: str
    scopes: tuple[str, ...]


def grant(
    pools: Sequence[Pool],
    client_secrets: Mapping[str, str],
    content_type: str,
    authorization: str | None,
    body: bytes,
) -> Grant:
    """What this request to `/oauth2/token` may have.

    `pools`: those behind the host name that was asked. `client_secrets`: by client id.
    `content_type`, `authorization`: the headers. Raises TokenRefused.
    """
    request = _read(content_type, authorization, body)
    found = [(p, p.clients[request.client_id]) for p in pools if request.client_id in p.clients]
    if not found:
        raise TokenRefused("invalid_client")
    pool, client = found[0]
    expected = client_secrets.get(client.id, "") if client.has_secret else ""
    if not hmac.compare_digest(expected.encode(), request.secret.encode()):
        raise TokenRefused("invalid_client")
    if request.grant_type != CLIENT_CREDENTIALS or not client.may_use_credentials:
        raise TokenRefused("unauthorized_client")
    if any(scope not in pool.scopes for scope in request.scopes):
        raise TokenRefused("invalid_scope")
    if any(scope not in client.scopes for scope in request.scopes):
        raise TokenRefused("invalid_grant")
    return Grant(pool, client, request.scopes or client.scopes)


def _read(content_type: str, authorization: str | None, body: bytes) -> _Request:
    if content_type.partition(";")[0].strip().lower() != _FORM:
        raise TokenRefused("invalid_request")
    try:
        pairs = parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=_MOST_PARAMETERS,
        )
    except ValueError:
        raise TokenRefused("invalid_request") from None
    form = dict(pairs)
    if len(form) < len(pairs) or not form.get("grant_type"):
        raise TokenRefused("invalid_request")
    if form["grant_type"] not in _GRANTS:
        raise TokenRefused("unsupported_grant_type")
    client_id, secret = _client(authorization, form)
    return _Request(
        client_id, secret, form["grant_type"], tuple(dict.fromkeys(form.get("scope", "").split()))
    )


def _client(authorization: str | None, form: Mapping[str, str]) -> tuple[str, str]:
    """Client id and secret, from the header (client_secret_basic) or the form
    (client_secret_post)."""
    if authorization is None:
        if not form.get("client_id"):
            raise TokenRefused("invalid_request")
        return form["client_id"], form.get("client_secret", "")
    scheme, _, encoded = authorization.partition(" ")
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        raise TokenRefused("invalid_request") from None
    client_id, colon, secret = text.partition(":")
    if scheme.lower() != "basic" or not colon or "client_secret" in form:
        raise TokenRefused("invalid_request")
    if form.get("client_id", client_id) != client_id:
        raise TokenRefused("invalid_request")
    return client_id, secret


def access_claims(given: Grant, now: float, jti: uuid.UUID) -> dict[str, Any]:
    """The claims of the access token, in AWS's order. There is no `aud`."""
    issued = int(now)
    return {
        "sub": given.client.id,
        "token_use": "access",
        "scope": " ".join(given.scopes),
        "auth_time": issued,
        "iss": given.pool.issuer,
        "exp": issued + given.client.validity,
        "iat": issued,
        "version": 2,
        "jti": str(jti),
        "client_id": given.client.id,
    }
