"""What can go wrong on construction and on start; the tree is drawn in the package's docstring.

Downside: a file for three classes; it keeps the pure modules free of each other.
"""

from __future__ import annotations

from collections.abc import Iterable


class Route53Error(Exception):
    """Base of everything that this package raises on purpose."""


class DeploymentRefused(Route53Error):
    """All faults of a deployment's zones, records and health checks, at once."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("Route 53 refuses this deployment:\n" + "\n".join(self.faults))


class CannotListen(Route53Error):
    """The name server's address cannot be bound."""
