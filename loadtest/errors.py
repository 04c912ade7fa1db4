"""What can go wrong in the load test, as one small tree:

LoadTestError
├── InputError            a file or an argument is wrong; carries every fault at once
├── TokenError            no token endpoint gave an access token
└── ResolveError          (also an OSError, so that Locust counts it as a failed request)
    ├── ResolverUnavailable   no name server gave a usable answer: the last answer may be kept
    └── NameNotFound          a name server said that there is no such address: nothing is kept
"""

from __future__ import annotations

from collections.abc import Iterable


class LoadTestError(Exception):
    """Base of all errors of this package."""


class InputError(LoadTestError):
    """A file or an argument cannot be used. `problems` holds all faults, not only the first."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class TokenError(LoadTestError):
    """No token endpoint gave an access token, and the last token has run out."""


class ResolveError(LoadTestError, OSError):
    """A host name has no address to connect to."""


class ResolverUnavailable(ResolveError):
    """No name server gave a usable answer (time-out, SERVFAIL, REFUSED, garbage)."""


class NameNotFound(ResolveError):
    """A name server answered that the name has no IPv4 address."""
