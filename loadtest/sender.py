"""One HTTP request at a time, with the TTL-honouring client and without exceptions to catch.

Shared by the Locust users, the writer and the ledger's check, so that all of them honour DNS and
verify TLS in the same way. It runs on gevent, but patches nothing: outside Locust call it from one
thread, from as many greenlets as you like.
"""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from geventhttpclient.response import HTTPParseError
from geventhttpclient.url import URL

from loadtest.client import Limits, TtlClientPool, TtlConnectionPool, failure_reason, tls_context
from loadtest.errors import InputError
from loadtest.resolver import (
    Resolver,
    literal_or,
    name_server_lookup,
    parse_name_servers,
    system_lookup,
)

RESOLVE_INTERVAL = 5.0


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, or why there is none."""

    status: int
    """0: there was no answer, for `reason`."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """By name in lower case."""
    body: bytes = b""
    reason: str = ""

    def document(self) -> dict[str, Any]:
        """The body as a JSON object; empty when it is none."""
        try:
            document = json.loads(self.body)
        except ValueError:
            return {}
        return document if isinstance(document, dict) else {}


class Sender:
    """Sends to one base URL; `path` is appended to it."""

    def __init__(self, pool: TtlClientPool, base_url: str) -> None:
        self._pool = pool
        self._url = URL(base_url)
        self._prefix = self._url.path.rstrip("/")

    def __call__(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes = b""
    ) -> Answer:
        """Never raises for what the network or the other side does."""
        client = self._pool.get_client(self._url)
        try:
            response = client.request(method, self._prefix + path, body, headers)
            content = bytes(response.read())
        except (OSError, HTTPParseError) as error:
            return Answer(0, reason=failure_reason(error))
        known = {name.lower(): value for name, value in response.headers}
        return Answer(response.status_code, known, content)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the programs that send without Locust."""
    parser.add_argument("--api-url", default=os.environ.get("API_URL", ""), help="default: API_URL")
    parser.add_argument("--service", default="todo", help="its path on the API (%(default)s)")
    parser.add_argument(
        "--tokens-file", default=os.environ.get("TOKENS_FILE", ""), help="default: TOKENS_FILE"
    )
    parser.add_argument(
        "--ca-file", default=os.environ.get("CA_FILE", ""), help="default: CA_FILE, or the system's"
    )
    parser.add_argument(
        "--nameserver",
        default=os.environ.get("NAMESERVER", ""),
        help="host:port of the name servers to ask; default: NAMESERVER, or the system resolver",
    )


class Network:
    """The client of a program without Locust. Raises `InputError` for unusable arguments."""

    def __init__(self, options: argparse.Namespace, limits: Limits | None = None) -> None:
        if not options.api_url:
            raise InputError(["the API's URL is missing: --api-url or API_URL"])
        self.counters: dict[str, Counter[str]] = {
            name: Counter() for name in ("sockets", "connections", "resolver")
        }
        self._limits = limits or Limits()
        self._base = options.api_url.rstrip("/") + f"/{options.service}"
        try:
            self._tls = tls_context(options.ca_file)
            lookup = (
                name_server_lookup(parse_name_servers(options.nameserver))
                if options.nameserver
                else system_lookup(RESOLVE_INTERVAL)
            )
        except (OSError, ValueError) as error:
            raise InputError([f"--ca-file or --nameserver: {error}"]) from error
        self._resolver = Resolver(literal_or(lookup), self.counters["resolver"])

    def api(self) -> Sender:
        """A sender to the service, with connections of its own."""
        return Sender(self.pool(self._limits), self._base)

    def pool(self, limits: Limits) -> TtlClientPool:
        def connections(host: str, port: int, is_https: bool) -> TtlConnectionPool:
            return TtlConnectionPool(
                host,
                port,
                self._resolver,
                limits,
                self._tls if is_https else None,
                self.counters["sockets"],
                self.counters["connections"],
            )

        return TtlClientPool(connections)
