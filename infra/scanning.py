"""checkov over the templates: `python -m infra.scanning`, a part of `make lint`.

A finding is mended, or skipped where it stands by a comment in the template,

    Stage:
      # checkov:skip=CKV_AWS_120:why it does not apply here

so a reason belongs to one check of one resource. What is neither fails, and so does a skip that
suppresses nothing any more. `docs/infra.md` lists the skips; a test compares.

checkov runs in `.venv-checkov`, because it needs other versions of packages that are pinned here,
and without its platform: it calls nobody.

Downside: it reads the files, so what code adds to three of them (`infra.templates`) is not scanned.

Exit codes: 0 clean, 1 findings, 2 checkov is not there or did not answer.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.templates import TEMPLATES

CHECKOV = Path(__file__).parents[1] / ".venv-checkov/bin/checkov"
SECONDS = 300

_SKIP = re.compile(r"# checkov:skip=(\w+):\s*(.+)")
_RESOURCE = re.compile(r"  (\w+):\s*(#.*)?")


@dataclass(frozen=True, slots=True, order=True)
class Skip:
    """One check of one resource that is not wanted."""

    template: str
    resource: str
    """Its logical id."""
    check: str
    reason: str = ""

    @property
    def place(self) -> tuple[str, str, str]:
        return self.template, self.resource, self.check


def skips(folder: Path = TEMPLATES) -> list[Skip]:
    """All skips of all templates, in their order."""
    return [skip for path in sorted(folder.glob("*.yaml")) for skip in _skips(path)]


def _skips(path: Path) -> Iterator[Skip]:
    resource = ""
    for line in path.read_text().splitlines():
        if named := _RESOURCE.fullmatch(line):
            resource = named[1]
        if found := _SKIP.search(line):
            yield Skip(path.stem, resource, found[1], found[2].strip())


def faults(report: Mapping[str, Any], declared: Sequence[Skip]) -> list[str]:
    """What is wrong, one line each. `report`: checkov's, as JSON."""
    results = report["results"]
    found = [
        f"{'.'.join(_place(each)[:2])}: {each['check_id']} {each['check_name']}"
        for each in results["failed_checks"]
    ]
    found += [f"{name}: cannot be read" for name in results.get("parsing_errors", [])]
    used = {_place(each) for each in results.get("skipped_checks", [])}
    found += [
        f"{skip.template}.{skip.resource}: the skip of {skip.check} suppresses nothing"
        for skip in declared
        if skip.place not in used
    ]
    return found


def _place(record: Mapping[str, Any]) -> tuple[str, str, str]:
    resource = str(record["resource"]).rpartition(".")[2]
    return Path(record["file_path"]).stem, resource, str(record["check_id"])


def scanned(folder: Path = TEMPLATES) -> Mapping[str, Any]:
    """checkov's report. Raises OSError, TimeoutExpired or ValueError when there is none."""
    ended = subprocess.run(
        [
            CHECKOV, "--directory", folder, "--framework", "cloudformation", "--skip-download",
            "--compact", "--soft-fail", "--output", "json",
        ],
        capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    report: Mapping[str, Any] = json.loads(ended.stdout)
    if "results" not in report:
        raise ValueError(f"checkov has checked nothing: {ended.stdout[:200]}{ended.stderr[-500:]}")
    return report


def main() -> int:
    try:
        report = scanned()
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        sys.stderr.write(f"checkov: {error}\n  next: ./setup.sh checkov\n")
        return 2
    found = faults(report, skips())
    for line in found:
        sys.stdout.write(f"{line}\n")
    count = report["summary"]
    sys.stdout.write(f"checkov: {count['passed']} passed, {count['skipped']} skipped, ")
    sys.stdout.write(f"{len(found)} faults\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
