"""Access tokens by client credentials, from whichever region's token endpoint answers.

A token of either region is good in both regions, so the endpoint of one is asked until it fails and
then that of the next. A token is renewed after three quarters of its life: the old one is still
good then, so requests go on with it while one of them renews it, and a dead endpoint costs nobody
a time-out. The downside: the first token of a run has to be waited for, and a token that is
withdrawn early is noticed only by its 401.

The file of clients (`TOKENS_FILE`):

    {"us-east-1": {"token_url": "https://…", "client_id": "…", "client_secret": "…"}, …}

or, for several tenants, `{"tenants": {"a": {…as above…}, "b": {…}}}`.
"""

from __future__ import annotations

import base64
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gevent import lock

from loadtest.client import Limits, TtlClientPool
from loadtest.errors import InputError, TokenError
from loadtest.sender import Answer, Sender

ONLY_TENANT = "default"
"""The name of the tenant of a file that names none. It is a label in reports and nothing more."""
RENEW_AT = 0.75
RETRY_INTERVAL = 1.0
"""Seconds between attempts to renew while no endpoint answers."""
LIMITS = Limits(connect=1.0, read=3.0, connection_age=0.0)
MEMBERS = ("token_url", "client_id", "client_secret")
FORM = b"grant_type=client_credentials"


@dataclass(frozen=True, slots=True)
class Client:
    """One application client of one region's user pool."""

    region: str
    token_url: str
    client_id: str
    client_secret: str

    @property
    def headers(self) -> dict[str, str]:
        """Of the token request: HTTP Basic, as in RFC 6749 section 2.3.1."""
        credentials = base64.b64encode(f"{self.client_id}:{self.client_secret}".encode()).decode()
        return {
            "Authorization": f"Basic {credentials}",
            "Content-Type": "application/x-www-form-urlencoded",
        }


Ask = Callable[[Client], Answer]


class Tokens:
    """The current token of one tenant. `counters`: `fetched <region>` and `failed <region>`."""

    def __init__(
        self,
        clients: Sequence[Client],
        ask: Ask,
        counters: Counter[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clients = list(clients)
        self._ask = ask
        self._counters = counters
        self._clock = clock
        self._value = ""
        self._renew_at = self._ends_at = float("-inf")
        self._lock = lock.BoundedSemaphore()

    def header(self) -> str:
        """The value for `Authorization`. Raises `TokenError` when nobody gives a token."""
        if self._clock() < self._renew_at:
            return self._value
        if self._clock() < self._ends_at and self._lock.locked():
            return self._value
        with self._lock:
            if self._clock() >= self._renew_at:
                self._renew()
            return self._value

    def reject(self, value: str) -> None:
        """The API did not accept `value`: the next `header` is another one."""
        if value == self._value:
            self._renew_at = self._ends_at = float("-inf")

    def _renew(self) -> None:
        reasons = []
        for client in list(self._clients):
            asked_at = self._clock()
            answer = self._ask(client)
            problem = self._take(answer, asked_at)
            if not problem:
                self._counters[f"fetched {client.region}"] += 1
                # Whoever answered is asked first from now on.
                self._clients.remove(client)
                self._clients.insert(0, client)
                return
            self._counters[f"failed {client.region}"] += 1
            reasons.append(f"{client.region}: {problem}")
        if self._clock() >= self._ends_at:
            raise TokenError(f"no token: {'; '.join(reasons)}")
        self._renew_at = self._clock() + RETRY_INTERVAL

    def _take(self, answer: Answer, asked_at: float) -> str:
        """Keeps the token of this answer; returns what is wrong with it, or nothing."""
        if answer.status != 200:
            return answer.reason or f"HTTP {answer.status}"
        document = answer.document()
        token, life = document.get("access_token"), document.get("expires_in")
        if not isinstance(token, str) or not isinstance(life, int | float):
            return "200 without access_token and expires_in"
        self._value = f"Bearer {token}"
        self._renew_at = asked_at + RENEW_AT * life
        self._ends_at = asked_at + life
        return ""


def asker(make_pool: Callable[[Limits], TtlClientPool]) -> Ask:
    """Asks token endpoints over the network, on a new connection each time."""
    pool = make_pool(LIMITS)

    def ask(client: Client) -> Answer:
        return Sender(pool, client.token_url)("POST", "", client.headers, FORM)

    return ask


def load_clients(path: str | Path, regions: Sequence[str] = ()) -> dict[str, tuple[Client, ...]]:
    """Reads the file: tenant → its clients, those of `regions` first and in that order.

    Raises `InputError` naming every fault.
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError([f"{path}: cannot be read: {error.strerror}"]) from error
    except ValueError as error:
        raise InputError([f"{path}: not JSON: {error}"]) from error
    problems: list[str] = []
    tenants = document.get("tenants") if isinstance(document, dict) else None
    if tenants is None:
        tenants = {ONLY_TENANT: document}
    if not isinstance(tenants, dict) or not tenants:
        raise InputError([f"{path}: tenants must be an object with at least one tenant"])
    found = {name: _clients(entry, name, regions, problems) for name, entry in tenants.items()}
    if problems:
        raise InputError(f"{path}: {problem}" for problem in problems)
    return found


def _clients(
    document: Any, tenant: str, regions: Sequence[str], problems: list[str]
) -> tuple[Client, ...]:
    if not isinstance(document, Mapping) or not document:
        problems.append(f"{tenant}: must be an object with a client per region")
        return ()
    order = [*(r for r in regions if r in document), *(r for r in document if r not in regions)]
    clients = []
    for region in order:
        entry = document[region]
        values = entry if isinstance(entry, Mapping) else {}
        missing = [name for name in MEMBERS if not isinstance(values.get(name), str)]
        if missing:
            problems.append(f"{tenant}, {region}: {', '.join(missing)} missing")
        else:
            clients.append(Client(region, *(values[name] for name in MEMBERS)))
    return tuple(clients)
