"""Loopback networks of the tests' own servers, `127.100` to `127.249`.

Two test processes on one machine never get the same one: each claims some, as `lab up --network
auto` does (below 127.100), and goes round them, so that a test does not meet what the one before it
may have left behind.
"""

from __future__ import annotations

import random
from itertools import cycle, islice

from lab.lifecycle import claim
from lab.settings import Network

MOST = 30
"""So many networks at most are one process's."""

_turns: list[cycle[str]] = []


def free_network() -> str:
    """The first two octets of a network of this process, the one used longest ago."""
    if not _turns:
        prefixes = (f"127.{number}" for number in random.sample(range(100, 250), 150))
        claimed = list(islice((p for p in prefixes if claim(Network(p))), MOST))
        assert claimed, "every loopback network from 127.100 to 127.249 is in use"
        _turns.append(cycle(claimed))
    return next(_turns[0])
