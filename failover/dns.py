"""What DNS answers now, from the name servers of recovery.json or the system's resolver.

The zone's own name servers are the better witness: no cache stands between them and the switch.
The system's resolver shows what one client sees, up to a TTL later. Only IPv4 is looked at: the
failover records here are A aliases.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

from failover.ports import Resolver
from failover.recovery import Recovery

TIMEOUT = 1.0
"""Seconds for one name server."""
LONGEST_CHAIN = 8
"""CNAMEs followed before giving up."""
DNS_PORT = 53


class NameServerResolver:
    """Asks `name_servers` in turn, each once; never caches."""

    def __init__(self, name_servers: Sequence[str], timeout: float = TIMEOUT) -> None:
        self._servers = tuple(split_address(server) for server in name_servers)
        self._timeout = timeout

    def addresses(self, host: str) -> tuple[str, ...]:
        name = host
        for _ in range(LONGEST_CHAIN):
            found, alias = _records(self._ask(name))
            if found or alias is None:
                break
            name = alias
        if not found:
            raise OSError(f"DNS has no address for {host}")
        return found

    def _ask(self, host: str) -> Any:
        from dnslib import DNSRecord

        question = DNSRecord.question(host, "A")
        causes = []
        for server, port in self._servers:
            try:
                answer = DNSRecord.parse(question.send(server, port, timeout=self._timeout))
                if answer.header.tc:
                    answer = DNSRecord.parse(
                        question.send(server, port, tcp=True, timeout=self._timeout)
                    )
            except OSError as error:
                causes.append(f"{server}:{port}: {_cause(error)}")
                continue
            except ValueError as error:  # dnslib.DNSError
                causes.append(f"{server}:{port}: not a DNS answer: {error}")
                continue
            if answer.header.id != question.header.id:
                causes.append(f"{server}:{port}: the answer to another question")
            elif answer.header.rcode in (0, 3):
                return answer
            else:
                causes.append(f"{server}:{port}: rcode {answer.header.rcode}")
        raise OSError(f"no DNS answer for {host}: {'; '.join(causes)}")


class SystemResolver:
    """Asks the operating system. It may cache, and it has no time-out of its own."""

    def addresses(self, host: str) -> tuple[str, ...]:
        try:
            found = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)
        except socket.gaierror as error:
            raise OSError(f"DNS has no address for {host}: {error.strerror}") from None
        return tuple(dict.fromkeys(str(item[4][0]) for item in found))


def resolver_for(recovery: Recovery) -> Resolver:
    if recovery.name_servers:
        return NameServerResolver(recovery.name_servers)
    return SystemResolver()


def split_address(text: str) -> tuple[str, int]:
    """ "host", "host:port" or "[v6]:port" → (host, port); port 53 unless given."""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        return host, int(rest[1:] or DNS_PORT)
    host, colon, port = text.partition(":")
    return (host, int(port)) if colon and ":" not in port else (text, DNS_PORT)


def _records(answer: Any) -> tuple[tuple[str, ...], str | None]:
    """(addresses, last alias) of an answer."""
    from dnslib import QTYPE

    found = tuple(str(rr.rdata) for rr in answer.rr if rr.rtype == QTYPE.A)
    aliases = [str(rr.rdata) for rr in answer.rr if rr.rtype == QTYPE.CNAME]
    return found, aliases[-1] if aliases else None


def _cause(error: OSError) -> str:
    return (
        "no answer in time" if isinstance(error, TimeoutError) else (error.strerror or str(error))
    )
