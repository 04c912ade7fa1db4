"""Where the global database keeps its files in a lab directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lab.paths import LabPaths


@dataclass(frozen=True, slots=True)
class AuroraFiles:
    """All paths are absolute: mariadbd changes into its data directory."""

    paths: LabPaths

    @property
    def root(self) -> Path:
        return self.paths.root.resolve()

    @property
    def accounts(self) -> Path:
        return self.root / "state" / "aurora-accounts.json"

    @property
    def state(self) -> Path:
        return self.root / "state" / "aurora.json"

    @property
    def links(self) -> Path:
        """Faults of the replication link."""
        return self.root / "state" / "aurora-links.json"

    @property
    def init_sql(self) -> Path:
        """Statements of every start: accounts and the database, if they are missing."""
        return self.root / "state" / "aurora-init.sql"

    def data(self, region: str) -> Path:
        return self.root / "db" / region

    def certificate(self, region: str) -> Path:
        return self.paths.certificate(region).resolve()

    @property
    def ca(self) -> Path:
        return self.paths.ca.resolve()

    @property
    def snapshots(self) -> Path:
        return self.root / "snapshots"

    def template(self, version: str) -> Path:
        """An empty data directory, shared by all labs of a checkout."""
        return self.paths.build.resolve() / f"mariadb-{version}"
