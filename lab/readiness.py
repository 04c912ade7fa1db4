"""Is a region of the lab ready to serve? Asked as a client would, through TLS, by pinned name.

Downside: one answer is taken for readiness; a service that fails every second time may pass.
"""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass

from infra.topology import Topology
from lab.process import wait_until
from lab.settings import HTTPS_PORT

PATIENCE_SECONDS = 20.0
"""What does not answer by then has failed."""


@dataclass(frozen=True, slots=True)
class Question:
    """One page of one service in one region."""

    region: str
    host: str
    path: str
    good: range
    """Statuses that will do."""

    @property
    def url(self) -> str:
        return f"https://{self.host}:{HTTPS_PORT}{self.path}"


def questions(topology: Topology, region: str) -> list[Question]:
    """What to ask in a region: the first page of each service, and what Route 53 will ask.

    Of services that share code only the first is asked for its first page: the others have the same
    package, and asking all would start a process for each. A service that moves by its health is
    asked for the checked path, since otherwise it would leave its region a second later.
    """
    by_code = {s.folder: s.name for s in list(topology.services.values())[::-1]}
    asked = [(name, "/", range(200, 201)) for name in by_code.values()]
    asked += [(s.name, s.checked_path, range(200, 400)) for s in topology.switched_by("health")]
    return [
        Question(region, topology.pinned_host(name, region), path, good)
        for name, path, good in asked
    ]


def first_fault(question: Question, address: str, context: ssl.SSLContext) -> str | None:
    """Ask at this address until the answer is good; what is wrong, if it never is."""
    fault = ""

    def answers() -> bool:
        nonlocal fault
        try:
            status = _get_status(question, address, context)
        except OSError as error:
            fault = str(error)
            return False
        fault = f"HTTP {status}"
        return status in question.good

    if wait_until(answers, PATIENCE_SECONDS, 0.05):
        return None
    return f"{question.url} does not answer: {fault}"


def _get_status(question: Question, address: str, context: ssl.SSLContext) -> int:
    with (
        socket.create_connection((address, HTTPS_PORT), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=question.host) as connection,
    ):
        request = (
            f"GET {question.path} HTTP/1.1\r\nHost: {question.host}\r\nConnection: close\r\n\r\n"
        )
        connection.sendall(request.encode())
        head = connection.recv(64)
    return int(head.split(b" ", 2)[1]) if head.startswith(b"HTTP/1.1 ") else 0
