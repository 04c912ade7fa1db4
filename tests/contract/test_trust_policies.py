"""infra/policies/trust: who may take the roles of the workflows: one repository's environments.

An environment is what required reviewers and allowed branches are attached to, so the condition on
`sub` must name one exactly: with a wildcard, any branch of the repository could take the role.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from iam_support import listed

ROOT = Path(__file__).resolve().parents[2]
TRUST: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text())
    for path in (ROOT / "infra/policies/trust").glob("*.json")
}
ISSUER = "token.actions.githubusercontent.com"
ROLES = {
    "trust-github-deploy": "DEPLOY_ROLE_ARN",
    "trust-github-observe": "OBSERVER_ROLE_ARN",
    "trust-github-failover": "OPERATOR_ROLE_ARN",
}
"""Policy -> the variable of the workflows with the role that has it."""

each = pytest.mark.parametrize("name", sorted(ROLES))


def statement(name: str) -> dict[str, Any]:
    (only,) = TRUST[name]["Statement"]
    return dict(only)


def environments(name: str) -> set[str]:
    subjects = listed(statement(name)["Condition"]["StringEquals"][f"{ISSUER}:sub"])
    found = [re.fullmatch(r"repo:OWNER/REPOSITORY:environment:([a-z-]+)", s) for s in subjects]
    assert all(found), subjects
    return {match[1] for match in found if match}


def environments_taking(variable: str) -> set[str]:
    """The environments of the jobs that take the role of that variable."""
    found = set()
    for path in (ROOT / ".github/workflows").glob("*.yml"):
        for job in yaml.safe_load(path.read_text())["jobs"].values():
            taken = [s.get("with", {}).get("role-to-assume", "") for s in job.get("steps", [])]
            if any(f"vars.{variable} " in role for role in taken):
                found.add(job["environment"])
    return found


def test_there_is_one_for_each_role() -> None:
    assert TRUST.keys() == ROLES.keys()


@each
def test_only_github_may_take_the_role_and_only_for_aws(name: str) -> None:
    policy = statement(name)

    assert TRUST[name]["Version"] == "2012-10-17"
    assert (policy["Effect"], policy["Action"]) == ("Allow", "sts:AssumeRoleWithWebIdentity")
    provider = f"arn:aws:iam::111122223333:oidc-provider/{ISSUER}"
    assert policy["Principal"] == {"Federated": provider}
    assert policy["Condition"].keys() == {"StringEquals"}
    assert policy["Condition"]["StringEquals"].keys() == {f"{ISSUER}:aud", f"{ISSUER}:sub"}
    assert policy["Condition"]["StringEquals"][f"{ISSUER}:aud"] == "sts.amazonaws.com"
    assert "*" not in json.dumps(policy)


@each
def test_exactly_the_environments_whose_jobs_take_the_role_may(name: str) -> None:
    assert environments(name) == environments_taking(ROLES[name])


def test_nobody_who_deploys_moves_and_nobody_who_looks_does_either() -> None:
    seen = [environments(name) for name in ROLES]
    assert sum(map(len, seen)) == len(set.union(*seen))


@each
def test_it_is_small_enough_for_a_role(name: str) -> None:
    """2,048 characters (IAM user guide, "IAM and AWS STS quotas")."""
    assert len(json.dumps(TRUST[name], separators=(",", ":"))) <= 2048
