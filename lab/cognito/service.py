"""`UserPools`: the token endpoint and the published keys of one region's user pools, by HTTPS.

    POST /oauth2/token
    GET  /<pool id>/.well-known/jwks.json
    GET  /<pool id>/.well-known/openid-configuration

On AWS the first is at a pool's own domain and the others at `cognito-idp.<region>.amazonaws.com`.
Here one listener is both; a request under a pool's domain name is answered by that pool, one under
the address by whichever pool has the client.
"""

from __future__ import annotations

import ssl
import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
from aiohttp import web

from lab.cognito.configuration import Pool, pools_of
from lab.cognito.keys import KeyStore, Private
from lab.cognito.tokens import Grant, TokenRefused, access_claims, grant
from lab.model import Deployment

_MAX_BODY_BYTES = 65536
_NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}


def key_store(state_dir: Path) -> KeyStore:
    """Where the pools of the lab with this state directory keep what is theirs."""
    return KeyStore(state_dir / "cognito")


def prepare(deployment: Deployment, state_dir: Path) -> None:
    """Make the keys and client secrets of all pools that have none yet.

    To be done before the regions start, so that each finds the other's public keys. Raises
    CognitoConfigError, OSError.
    """
    keys = key_store(state_dir)
    for pool in pools_of(deployment):
        keys.private(pool.id, _with_secret(pool))


def client_credentials(
    deployment: Deployment, state_dir: Path
) -> dict[str, dict[str, dict[str, str]]]:
    """What the operator of the pools would read in the console: logical id of the client in the
    template -> region -> `client_id` and `client_secret`. Makes what is missing, as `prepare`."""
    keys = key_store(state_dir)
    result: dict[str, dict[str, dict[str, str]]] = {}
    for pool in pools_of(deployment):
        secrets = keys.private(pool.id, _with_secret(pool)).client_secrets
        for client in pool.clients.values():
            if client.has_secret:
                result.setdefault(client.name, {})[pool.region] = {
                    "client_id": client.id,
                    "client_secret": secrets[client.id],
                }
    return result


def _with_secret(pool: Pool) -> list[str]:
    return [client.id for client in pool.clients.values() if client.has_secret]


class UserPools:
    """The user pools of `region` in `deployment`.

    `state_dir`: the lab's state directory, of which `cognito/` is used. Raises CognitoConfigError.
    """

    def __init__(
        self,
        region: str,
        deployment: Deployment,
        state_dir: Path,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.region = region
        self._pools = pools_of(deployment, region)
        self._by_host = {host: pool for pool in self._pools for host in pool.domains}
        self._by_id = {pool.id: pool for pool in self._pools}
        self._keys = key_store(state_dir)
        self._clock = clock
        self._private: dict[str, Private] = {}
        self._secrets: dict[str, str] = {}
        self._counts: Counter[str] = Counter()
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int, ssl_context: ssl.SSLContext | None) -> int:
        """Listen; returns the port. Raises OSError if it is taken or the state is unreadable."""
        for pool in self._pools:
            private = self._keys.private(pool.id, _with_secret(pool))
            self._private[pool.id] = private
            self._secrets.update(private.client_secrets)
        application = web.Application(client_max_size=_MAX_BODY_BYTES)
        application.router.add_post("/oauth2/token", self._token)
        application.router.add_get("/{pool}/.well-known/jwks.json", self._jwks)
        application.router.add_get("/{pool}/.well-known/openid-configuration", self._openid)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port, ssl_context=ssl_context)
        await site.start()
        return int(self._runner.addresses[0][1])

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def status(self) -> dict[str, Any]:
        """The pools, tokens issued and refusals by code since the start."""
        return {
            "pools": {
                pool.id: {"clients": {c.name: c.id for c in pool.clients.values()}}
                for pool in self._pools
            },
            **self._counts,
        }

    def issue(self, given: Grant) -> str:
        """A signed access token."""
        claims = access_claims(given, self._clock(), uuid.uuid4())
        return signed(self._private[given.pool.id], claims)

    # --- requests

    async def _token(self, request: web.Request) -> web.Response:
        body = await request.read()
        own = self._by_host.get((request.host or "").partition(":")[0].lower())
        try:
            given = grant(
                (own,) if own else self._pools,
                self._secrets,
                request.headers.get("Content-Type", ""),
                request.headers.get("Authorization"),
                body,
            )
        except TokenRefused as refused:
            self._counts[refused.code] += 1
            return web.json_response({"error": refused.code}, status=400, headers=_NO_STORE)
        self._counts["issued"] += 1
        answer = {
            "access_token": self.issue(given),
            "expires_in": given.client.validity,
            "token_type": "Bearer",
        }
        return web.json_response(answer, headers=_NO_STORE)

    async def _jwks(self, request: web.Request) -> web.Response:
        return web.json_response(self._keys.jwks(self._pool(request).id))

    async def _openid(self, request: web.Request) -> web.Response:
        pool = self._pool(request)
        document: dict[str, Any] = {
            "issuer": pool.issuer,
            "jwks_uri": f"{pool.issuer}/.well-known/jwks.json",
            "id_token_signing_alg_values_supported": ["RS256"],
            "response_types_supported": ["code", "token"],
            "scopes_supported": ["openid", "email", "phone", "profile"],
            "subject_types_supported": ["public"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        }
        if pool.domains:
            document["token_endpoint"] = f"https://{pool.domains[0]}/oauth2/token"
        return web.json_response(document)

    def _pool(self, request: web.Request) -> Pool:
        pool = self._by_id.get(request.match_info["pool"])
        if pool is None:
            raise web.HTTPNotFound
        return pool


def signed(private: Private, claims: dict[str, Any]) -> str:
    """`claims` as a compact JWS, with the header that Cognito writes: `kid` and `alg` alone."""
    return jwt.encode(claims, private.key, "RS256", headers={"kid": private.kid, "typ": None})
