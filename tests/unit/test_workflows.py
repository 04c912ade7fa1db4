"""The workflows of GitHub: their form, their order, what they may, and that what they run exists.

Nothing is run: GitHub's behaviour is taken from its documentation ("Workflow syntax for GitHub
Actions", "Security hardening for GitHub Actions", "Deployments and environments").
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import check_jsonschema
import jsonschema
import pytest
import yaml
from command_support import ROOT, commands_of, parsed

FOLDER = ROOT / ".github/workflows"
SCHEMAS = Path(check_jsonschema.__file__).parent / "builtin_schemas"
REVIEWED = {"production", "failover"}
"""Environments with required reviewers, as docs/delivery.md sets them up."""
VARIABLES = {
    "STANDBY_REGION": "us-west-2", "PRIMARY_REGION": "us-east-1", "RECOVERY_JSON": "{}",
}  # fmt: skip


class _Loader(yaml.SafeLoader):
    """`on` is a key, not true (YAML 1.2, as GitHub reads it)."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in rules if not tag.endswith(":bool")]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("true|false"), list("tf"))

WORKFLOWS: dict[str, dict[str, Any]] = {
    path.stem: yaml.load(path.read_text(), Loader=_Loader)
    for path in sorted(FOLDER.iterdir())
}
each = pytest.mark.parametrize("name", sorted(WORKFLOWS))


def jobs(name: str) -> dict[str, dict[str, Any]]:
    return dict(WORKFLOWS[name]["jobs"])


def steps() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Where, the job, the step; for every step of every workflow."""
    for name in WORKFLOWS:
        for job_name, job in jobs(name).items():
            for step in job.get("steps", []):
                yield f"{name}.{job_name}", job, step


def runs(name: str, job: str) -> list[str]:
    """The programs' words of a job, in order, as text without `.venv/bin/`."""
    scripts = [step["run"] for step in jobs(name)[job]["steps"] if "run" in step]
    words = [w for script in scripts for w in commands_of(script, VARIABLES)]
    return [" ".join(each).replace(".venv/bin/", "") for each in words]


# ---- form


def test_there_are_three() -> None:
    assert WORKFLOWS.keys() == {"test", "deploy", "failover"}


@each
@pytest.mark.parametrize(
    "schema", ["vendor/github-workflows", "custom/github-workflows-require-timeout"]
)
def test_it_is_a_workflow_by_the_schema(name: str, schema: str) -> None:
    document = json.loads((SCHEMAS / f"{schema}.json").read_text())

    validator = jsonschema.validators.validator_for(document)(document)

    assert [error.message for error in validator.iter_errors(WORKFLOWS[name])] == []


def test_every_action_is_pinned_to_a_commit_with_its_version_beside_it() -> None:
    for path in FOLDER.iterdir():
        for line in path.read_text().splitlines():
            if "uses:" in line and "uses: ./" not in line:
                assert re.search(r"uses: [\w./-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+$", line), line


def test_one_action_has_one_version() -> None:
    used = {
        line.strip().removeprefix("- ")
        for path in FOLDER.iterdir()
        for line in path.read_text().splitlines()
        if "uses: " in line and "@" in line
    }
    assert len(used) == len({line.partition("@")[0] for line in used})


# ---- what may be read by a shell


def test_no_expression_is_inside_a_command() -> None:
    """A shell would run what somebody typed into a form or wrote into a branch's name."""
    for at, _, step in steps():
        assert "${{" not in step.get("run", ""), at
        assert "shell" not in step, at


def test_every_variable_of_a_command_is_given_to_it() -> None:
    for at, job, step in steps():
        workflow = WORKFLOWS[at.partition(".")[0]]
        given = {*workflow.get("env", {}), *job.get("env", {}), *step.get("env", {})}
        named = set(re.findall(r"\$(\w+)", step.get("run", "")))
        assert named <= given, at
        # Unquoted, a shell would split and expand it.
        assert not re.search(r'(?<!["\w])\$\w', step.get("run", "")), at


def test_every_command_exists_and_takes_these_words() -> None:
    found = [w for _, _, step in steps() for w in commands_of(step.get("run", ""), VARIABLES)]

    assert found
    for words in found:
        parsed(words)


# ---- who may what


@each
def test_a_workflow_may_read_the_code_and_nothing_else(name: str) -> None:
    assert WORKFLOWS[name]["permissions"] == {"contents": "read"}


def test_only_jobs_that_take_a_role_may_prove_who_they_are() -> None:
    for name in WORKFLOWS:
        for job_name, job in jobs(name).items():
            taken = [s for s in job.get("steps", []) if "configure-aws" in s.get("uses", "")]
            expected = {"contents": "read", "id-token": "write"} if taken else None
            assert job.get("permissions") == expected, (name, job_name)
            assert bool(taken) is ("environment" in job), (name, job_name)


def test_no_key_is_stored_and_only_the_move_gets_a_secret() -> None:
    for at, _, step in steps():
        text = json.dumps(step)
        assert "aws-access-key" not in text
        assert "secrets." not in text or step["run"].endswith("failover_run.py act"), at
    for name, workflow in WORKFLOWS.items():
        assert "secrets." not in json.dumps(workflow.get("env", {})), name


def test_the_checkout_leaves_no_token_behind() -> None:
    for at, _, step in steps():
        if "actions/checkout@" in step.get("uses", ""):
            assert step["with"]["persist-credentials"] is False, at


@pytest.mark.parametrize("name", ["deploy", "failover"])
def test_runs_of_one_kind_do_not_overlap_and_are_not_cut_off(name: str) -> None:
    assert WORKFLOWS[name]["concurrency"] == {"group": name, "cancel-in-progress": False}


# ---- order


def before(name: str, job: str) -> set[str]:
    """Every job that has ended well before this one begins."""
    needed = jobs(name)[job].get("needs", [])
    direct = {needed} if isinstance(needed, str) else set(needed)
    return direct.union(*(before(name, other) for other in direct))


def test_a_pull_request_and_a_push_run_the_whole_gate() -> None:
    assert runs("test", "test") == [".ci/run"]
    assert {"push", "pull_request", "workflow_call"} <= WORKFLOWS["test"]["on"].keys()
    assert jobs("deploy")["test"] == {"uses": "./.github/workflows/test.yml"}
    assert WORKFLOWS["deploy"]["on"]["push"] == {"branches": ["main"]}
    assert WORKFLOWS["test"]["on"]["push"] == {"branches-ignore": ["main"]}


def test_a_release_goes_from_tests_by_the_standby_and_a_person_to_the_rest() -> None:
    assert before("deploy", "standby") == {"test"}
    assert before("deploy", "verify-standby") == {"test", "standby"}
    assert before("deploy", "rest") == {"test", "standby", "verify-standby"}
    assert jobs("deploy")["rest"]["environment"] in REVIEWED
    assert jobs("deploy")["standby"]["environment"] not in REVIEWED

    assert runs("deploy", "standby") == [
        "./setup.sh deploy",
        "infra verify us-west-2 --idle",
        "infra deploy --only-region us-west-2",
    ]
    assert runs("deploy", "verify-standby") == [
        "./setup.sh deploy", "infra verify us-west-2 --wait 120",
    ]  # fmt: skip
    assert runs("deploy", "rest") == [
        "./setup.sh deploy",
        "infra deploy",
        "infra verify us-east-1 --wait 120",
        "infra verify us-west-2 --wait 120",
        "infra export",
    ]
    last = jobs("deploy")["rest"]["steps"][-1]
    assert last["with"]["path"] == "recovery.json"


def test_a_copy_of_the_repository_without_an_account_only_tests() -> None:
    assert jobs("deploy")["standby"]["if"] == "vars.DEPLOY_ROLE_ARN != ''"


def test_a_move_is_planned_for_all_to_see_and_then_approved() -> None:
    assert before("failover", "act") == {"plan"}
    assert jobs("failover")["act"]["environment"] in REVIEWED
    assert jobs("failover")["plan"]["environment"] not in REVIEWED
    assert runs("failover", "plan")[-1] == "python .github/failover_run.py plan"
    assert runs("failover", "act")[-1] == "python .github/failover_run.py act"
    journal = jobs("failover")["act"]["steps"][-1]
    assert (journal["with"]["path"], journal["if"]) == ("journal", "always()")


def test_a_move_starts_by_hand_only_and_asks_for_everything_in_a_form() -> None:
    assert WORKFLOWS["failover"]["on"].keys() == {"workflow_dispatch"}
    inputs = WORKFLOWS["failover"]["on"]["workflow_dispatch"]["inputs"]
    environment = WORKFLOWS["failover"]["env"]
    for name in inputs:
        variable = name.upper().replace("-", "_")
        assert environment[variable] == f"${{{{ inputs.{name} }}}}"


def test_credentials_of_a_move_do_not_come_from_the_primary_region() -> None:
    for job in jobs("failover").values():
        (given,) = [s["with"] for s in job["steps"] if "configure-aws" in s.get("uses", "")]
        assert given["aws-region"] == "${{ vars.RECOVERY_REGION }}"
