"""Loopback networks of the tests' own servers, `127.100` to `127.249`.

Two test processes on one machine never get the same one: a network is claimed by a UDP socket on
one of its addresses, which the system gives to one process only and takes back when that ends. A
process goes round a few, so that a test does not meet what the one before it may have left behind.
Labs (`lab up --network auto`) choose below 127.100.
"""

from __future__ import annotations

import atexit
import random
import socket
from itertools import count

MOST = 30
"""So many networks at most are one process's."""
_PORT = 40404

_claims: dict[str, socket.socket] = {}
_turns = count()


def free_network() -> str:
    """The first two octets of a network of this process, the one used longest ago."""
    if not _claims:
        _claim()
    prefixes = list(_claims)
    return prefixes[next(_turns) % len(prefixes)]


def _claim() -> None:
    for number in random.sample(range(100, 250), 150):
        prefix = f"127.{number}"
        claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            claim.bind((f"{prefix}.255.254", _PORT))
        except OSError:
            claim.close()
            continue
        _claims[prefix] = claim
        atexit.register(claim.close)
        if len(_claims) == MOST:
            return
    assert _claims, "every loopback network from 127.100 to 127.249 is in use"
