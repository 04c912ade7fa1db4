"""Asks all dependencies at the same time, each within the time-out.

TLS is verified against the system's certificate authorities, or those of SSL_CERT_FILE. Healthy is
an answer of 200 to 399 to GET; a redirect is not followed.

Downside: a host name that does not resolve can take longer than the time-out, since the resolver
takes none. Its thread is then left behind (one per check, a daemon), and the result says time-out.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Iterable
from functools import cache
from urllib.parse import urlsplit

from chalicelib.checks import Dependency, Result

_MAX_BODY = 65_536


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def check_all(dependencies: Iterable[Dependency], timeout: float) -> dict[str, Result]:
    """Name -> result, within `timeout` seconds in all."""
    deadline = time.monotonic() + timeout
    results: dict[str, Result] = {}
    threads: dict[str, threading.Thread] = {}
    for dependency in dependencies:
        thread = threading.Thread(
            target=lambda d=dependency: results.__setitem__(d.name, check(d, timeout)), daemon=True
        )
        threads[dependency.name] = thread
        thread.start()
    for thread in threads.values():
        thread.join(max(0.0, deadline - time.monotonic()))
    late = Result(False, timeout * 1000, f"no answer within {timeout:g} s")
    return {name: results.get(name, late) for name in threads}


def check(dependency: Dependency, timeout: float) -> Result:
    """One request, `timeout` seconds for each step of it. Never raises."""
    begun = time.perf_counter()
    try:
        is_ok, detail = _get(dependency, timeout)
    except TimeoutError:
        is_ok, detail = False, f"no answer within {timeout:g} s"
    except (OSError, http.client.HTTPException) as error:
        is_ok, detail = False, f"{type(error).__name__}: {error}"
    return Result(is_ok, (time.perf_counter() - begun) * 1000, detail)


def _get(dependency: Dependency, timeout: float) -> tuple[bool, str]:
    parts = urlsplit(dependency.url)
    host, port = str(parts.hostname), parts.port or 443
    connection = http.client.HTTPSConnection(host, port, timeout=timeout, context=_tls())
    try:
        plain = socket.create_connection((dependency.address or host, port), timeout)
        connection.sock = plain
        connection.sock = _tls().wrap_socket(plain, server_hostname=host)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("GET", target, headers={"User-Agent": "health", "Connection": "close"})
        response = connection.getresponse()
        response.read(_MAX_BODY)
        region = response.getheader("X-Region")
    finally:
        connection.close()
    detail = f"HTTP {response.status}" + (f" from {region}" if region else "")
    return 200 <= response.status < 400, detail
