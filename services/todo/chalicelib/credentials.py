"""Database credentials from Secrets Manager: one signed HTTPS call, cached, refreshed on demand.

The call is made by hand (Signature Version 4, AWS General Reference "Create a signed AWS API
request") because importing boto3 for it costs more than everything else that this function does
when it starts cold: see the measurement in docs/todo.md. The price: no credential sources other
than the environment variables that Lambda sets.

`AWS_ENDPOINT_URL_SECRETS_MANAGER` and `AWS_ENDPOINT_URL` are honoured as by every AWS SDK.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import urlsplit

from .errors import Unavailable

TIMEOUT = 2.0
"""Seconds, for connecting and for each read."""
REFRESH_INTERVAL = 10.0
"""Seconds between refreshes: a wrong password must not become a flood of calls."""
_TARGET = "secretsmanager.GetSecretValue"
_TYPE = "application/x-amz-json-1.1"


@dataclass(frozen=True, slots=True)
class Login:
    username: str
    password: str = field(repr=False)


class Credentials:
    """The login kept in one secret, `{"username": …, "password": …}`."""

    def __init__(
        self,
        secret_arn: str,
        fetch: Callable[[str], str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._arn = secret_arn
        self._fetch = fetch
        self._clock = clock
        self._login: Login | None = None
        self._fetched_at = 0.0

    def login(self) -> Login:
        """Raises Unavailable."""
        if self._login is None:
            self._login = _parsed(self._fetch(self._arn))
            self._fetched_at = self._clock()
        return self._login

    def refresh(self) -> bool:
        """Fetch the secret again at the next `login()`; False when that was done just now."""
        if self._clock() - self._fetched_at < REFRESH_INTERVAL:
            return False
        self._login = None
        return True


def _parsed(secret: str) -> Login:
    try:
        document = json.loads(secret)
        return Login(str(document["username"]), str(document["password"]))
    except (ValueError, KeyError, TypeError):
        raise Unavailable("the database secret does not hold username and password") from None


def secret_fetcher(
    region: str, environment: Mapping[str, str], tls: Callable[[], ssl.SSLContext]
) -> Callable[[str], str]:
    """A function that gives the SecretString of an ARN. It raises Unavailable."""
    url = (
        environment.get("AWS_ENDPOINT_URL_SECRETS_MANAGER")
        or environment.get("AWS_ENDPOINT_URL")
        or f"https://secretsmanager.{region}.amazonaws.com"
    )

    def fetch(arn: str) -> str:
        body = json.dumps({"SecretId": arn}).encode()
        for attempt in (1, 2):
            try:
                status, answer = _call(url, body, region, environment, tls)
            except (OSError, http.client.HTTPException) as error:
                status, answer = 0, str(error).encode()
            if status == 200:
                return str(json.loads(answer)["SecretString"])
            if attempt == 2 or (400 <= status < 500 and b"Throttling" not in answer):
                break
        name = answer[:200].decode("utf-8", "replace")
        raise Unavailable("the database secret cannot be read") from RuntimeError(
            f"GetSecretValue of {arn} at {url}: {status} {name}"
        )

    return fetch


def _call(
    url: str,
    body: bytes,
    region: str,
    environment: Mapping[str, str],
    tls: Callable[[], ssl.SSLContext],
) -> tuple[int, bytes]:
    parts = urlsplit(url)
    host = parts.netloc
    headers = signed_headers(host, body, region, environment, datetime.now(UTC))
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(host, timeout=TIMEOUT, context=tls())
    else:
        connection = http.client.HTTPConnection(host, timeout=TIMEOUT)
    try:
        connection.request("POST", "/", body, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def signed_headers(
    host: str, body: bytes, region: str, environment: Mapping[str, str], now: datetime
) -> dict[str, str]:
    """The headers of a GetSecretValue call with `body`, signed at `now` (UTC)."""
    moment = now.strftime("%Y%m%dT%H%M%SZ")
    headers = {
        "content-type": _TYPE,
        "host": host,
        "x-amz-date": moment,
        "x-amz-target": _TARGET,
    }
    token = environment.get("AWS_SESSION_TOKEN")
    if token:
        headers["x-amz-security-token"] = token
    names = ";".join(sorted(headers))
    canonical = "\n".join(
        ["POST", "/", "", *(f"{n}:{headers[n]}" for n in sorted(headers)), "", names, _sha(body)]
    )
    scope = f"{moment[:8]}/{region}/secretsmanager/aws4_request"
    signing_key = ("AWS4" + environment.get("AWS_SECRET_ACCESS_KEY", "")).encode()
    for part in scope.split("/"):
        signing_key = hmac.digest(signing_key, part.encode(), "sha256")
    text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{_sha(canonical.encode())}"
    signature = hmac.digest(signing_key, text.encode(), "sha256").hex()
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={environment.get('AWS_ACCESS_KEY_ID', '')}/{scope}, "
        f"SignedHeaders={names}, Signature={signature}"
    )
    return headers


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
