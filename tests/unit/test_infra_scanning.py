"""checkov's findings: each one is mended or skipped where it stands, with a reason, and listed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from infra.scanning import Skip, faults, skips
from infra.templates import TEMPLATES

PAGE = (Path(__file__).parents[2] / "docs/infra.md").read_text()


def record(template: str, resource: str, check: str) -> dict[str, Any]:
    return {
        "file_path": f"/{template}.yaml",
        "resource": f"AWS::Some::Thing.{resource}",
        "check_id": check,
        "check_name": "Ensure something",
    }


def report(failed: list[dict[str, Any]], skipped: list[dict[str, Any]]) -> dict[str, Any]:
    return {"results": {"failed_checks": failed, "skipped_checks": skipped}}


def test_a_skip_belongs_to_the_resource_in_which_it_stands(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "Resources:\n"
        "  First:\n    # checkov:skip=CKV_AWS_1:Because of this\n    Type: X\n"
        "  Second:  # another\n    Type: X\n    # checkov:skip=CKV_AWS_2: Because of that\n"
    )

    assert skips(tmp_path) == [
        Skip("a", "First", "CKV_AWS_1", "Because of this"),
        Skip("a", "Second", "CKV_AWS_2", "Because of that"),
    ]


def test_a_finding_is_a_fault() -> None:
    found = faults(report([record("a", "First", "CKV_AWS_1")], []), [])

    assert found == ["a.First: CKV_AWS_1 Ensure something"]


def test_a_skip_that_suppresses_something_is_none() -> None:
    skipped = [record("a", "First", "CKV_AWS_1")]

    assert faults(report([], skipped), [Skip("a", "First", "CKV_AWS_1")]) == []


def test_a_skip_that_suppresses_nothing_is_a_fault() -> None:
    skipped = [record("a", "Second", "CKV_AWS_1")]

    assert faults(report([], skipped), [Skip("a", "First", "CKV_AWS_1")]) == [
        "a.First: the skip of CKV_AWS_1 suppresses nothing"
    ]


def test_a_template_that_checkov_cannot_read_is_a_fault() -> None:
    results = {"failed_checks": [], "skipped_checks": [], "parsing_errors": ["/a.yaml"]}

    assert faults({"results": results}, []) == ["/a.yaml: cannot be read"]


def test_every_skip_of_the_templates_has_a_reason_and_a_resource_that_exists() -> None:
    for skip in skips():
        assert len(skip.reason.split()) >= 6, skip
        assert f"\n  {skip.resource}:\n" in (TEMPLATES / f"{skip.template}.yaml").read_text()


def test_the_page_lists_the_skips_with_their_reasons_and_no_other() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `([\w-]+)\.(\w+)` \| (.+) \|$", PAGE, re.MULTILINE)

    listed = sorted(Skip(template, name, check, why) for check, template, name, why in rows)
    assert listed == sorted(skips())
