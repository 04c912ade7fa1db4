"""Chalice behind its wrapper: a stand-in for Chalice that does to the account what Chalice does."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from infra_aws_fakes import FakeAws, topology
from infra_services_fakes import ACCOUNT, error

from infra.applications import Applications, digest_of
from infra.errors import ApplicationError, UnexpectedAnswerError
from infra.naming import TAG_SOURCE
from infra.stacks import Application

CHALICE = '''
import json, os, pathlib, sys
verb, stage = sys.argv[1], sys.argv[3]
here = pathlib.Path(".chalice")
deployed = json.loads((here / "deployed" / f"{stage}.json").read_text())
config = json.loads((here / "config.json").read_text())
note = {"verb": verb, "stage": stage, "region": os.environ["AWS_DEFAULT_REGION"],
        "deployed": deployed["resources"], "config": config}
pathlib.Path(os.environ["CHALICE_NOTE"]).write_text(json.dumps(note))
print("chalice at work")
sys.exit(int(os.environ.get("CHALICE_EXIT", "0")))
'''


LOG = f"arn:aws:logs:us-west-2:{ACCOUNT}:log-group:services"


class PulledPlug(BaseException):
    """The machine is gone; nothing is tidied up."""


class Rig:
    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.aws, self.lines = FakeAws(), list[str]()
        source = folder / "services" / "a"
        (source / ".chalice").mkdir(parents=True)
        (source / "app.py").write_text("app = 1\n")
        self.config = source / ".chalice" / "config.json"
        self.config.write_text(json.dumps({"version": "2.0", "app_name": "a", "stages": {}}))
        script = folder / "chalice.py"
        script.write_text(CHALICE)
        self.note_file = folder / "note.json"
        monkeypatch.setenv("CHALICE_NOTE", str(self.note_file))
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")  # what a shell may have
        self.applications = Applications(
            self.aws, topology(), folder / "services", folder / ".infra", self.say,
            chalice=(sys.executable, str(script)),
        )  # fmt: skip
        self.step = Application("application-a-us-west-2", "a", "a", "us-west-2",
                                {"SERVICE_NAME": "a"}, access_log=LOG)  # fmt: skip

    def say(self, line: str) -> None:
        self.lines.append(line)
        # What Chalice would have made, before it is looked for.
        if "chalice deploy" in line:
            if not self.aws.functions:
                self.make()
            self.reset()

    def reset(self) -> None:
        """What a deployment by Chalice may do to the settings, at worst."""
        for api in self.aws.apis.values():
            if api["name"] == "a" and api.get("stage", {}) is None:
                api["stage"] = {}
            api["off"] = api["closed"] = False

    def make(self, region: str = "us-west-2", name: str = "a-us-west-2", api: str = "api1") -> None:
        arn = f"arn:aws:lambda:{region}:{ACCOUNT}:function:{name}"
        handler = name.removeprefix("a-us-west-2").removeprefix("-") or "api_handler"
        role = f"arn:aws:iam::{ACCOUNT}:role/a-us-west-2-{handler}"
        self.aws.functions[region, name] = {"FunctionName": name, "FunctionArn": arn, "Role": role}
        self.aws.tags_of[arn] = {"aws-chalice": f"version=1.34.0:stage={region}:app=a"}
        if api:
            uri = f"arn:aws:apigateway:{region}:lambda:path/x/functions/{arn}/invocations"
            self.aws.apis[region, api] = {"name": "a", "uri": uri}

    @property
    def api(self) -> dict[str, Any]:
        return self.aws.apis["us-west-2", "api1"]

    def told(self) -> list[str]:
        names = ("update_rest_api", "update_stage", "tag_resource")
        return [name for _, _, name, _ in self.aws.calls if name in names]

    def deploy(self) -> Mapping[str, str]:
        return self.applications.deploy(self.step, {})

    @property
    def note(self) -> dict[str, Any]:
        note: dict[str, Any] = json.loads(self.note_file.read_text())
        return note


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    return Rig(tmp_path, monkeypatch)


def test_the_region_comes_from_the_stage_and_the_clone_stays_as_it_is(rig: Rig) -> None:
    before = rig.config.read_text()

    assert rig.deploy() == {"RestAPIId": "api1"}

    assert (rig.note["verb"], rig.note["stage"]) == ("deploy", "us-west-2")
    assert rig.note["region"] == "us-west-2"
    stage = rig.note["config"]["stages"]["us-west-2"]
    assert stage["environment_variables"] == {"SERVICE_NAME": "a"}
    assert stage["api_gateway_endpoint_type"] == "REGIONAL"
    assert rig.config.read_text() == before
    assert (rig.applications.work_dir / ".gitignore").read_text() == "*\n"


def test_an_unknown_stage_is_refused(rig: Rig) -> None:
    step = Application("application-a-eu-west-1", "a", "a", "eu-west-1", {"SERVICE_NAME": "a"})

    with pytest.raises(ApplicationError, match="known are us-east-1, us-west-2"):
        rig.applications.deploy(step, {})

    assert not rig.note_file.exists()


def test_what_chalice_knows_is_made_again_from_the_account(rig: Rig) -> None:
    rig.make()
    rig.make(name="a-us-west-2-migrate", api="")

    rig.deploy()

    kinds = {(r["resource_type"], r["name"]) for r in rig.note["deployed"]}
    assert kinds == {
        ("iam_role", "api_handler_role"),
        ("iam_role", "migrate_role"),
        ("lambda_function", "api_handler"),
        ("lambda_function", "migrate"),
        ("rest_api", "rest_api"),
    }
    (api,) = (r for r in rig.note["deployed"] if r["resource_type"] == "rest_api")
    assert api["rest_api_id"] == "api1"


def test_an_api_of_the_same_name_that_is_not_ours_is_not_taken_over(rig: Rig) -> None:
    rig.aws.apis["us-west-2", "theirs"] = {"name": "a", "uri": "arn:…:function:other/invocations"}

    assert rig.deploy() == {"RestAPIId": "api1"}

    assert rig.note["deployed"] == []


def test_two_apis_for_one_function_need_a_person(rig: Rig) -> None:
    rig.make()
    rig.make(api="api2")

    with pytest.raises(ApplicationError, match="2 REST APIs named a in us-west-2") as caught:
        rig.deploy()

    assert "get-base-path-mappings --domain-name a.shop.example-domain.com" in (
        caught.value.next_step
    )


def test_a_function_of_that_name_that_chalice_did_not_make_is_left_alone(rig: Rig) -> None:
    rig.make()
    rig.aws.tags_of.clear()

    with pytest.raises(ApplicationError, match="has not made for the service a"):
        rig.deploy()


def test_what_is_the_same_is_not_deployed_again(rig: Rig) -> None:
    rig.deploy()
    rig.note_file.unlink()

    assert rig.deploy() == {"RestAPIId": "api1"}
    assert not rig.note_file.exists()
    assert rig.lines[-1] == "application-a-us-west-2 (us-west-2): unchanged"

    (rig.config.parents[1] / "app.py").write_text("app = 2\n")
    rig.deploy()
    assert rig.note["verb"] == "deploy"


def test_what_chalice_cannot_set_is_set_after_it(rig: Rig) -> None:
    rig.deploy()

    assert rig.told() == ["update_rest_api", "update_stage", "tag_resource"]
    assert rig.api["closed"]
    assert rig.api["stage"]["accessLogSettings"]["destinationArn"] == LOG
    assert rig.lines[-1] == (
        "application-a-us-west-2 (us-west-2): REST API: execute-api address off, requests per "
        "second, requests at once, access log, fields of the access log"
    )

    (rig.config.parents[1] / "app.py").write_text("app = 2\n")
    rig.deploy()
    assert rig.api["closed"]
    assert rig.lines[-1].endswith("REST API: execute-api address off, requests per second")


def test_settings_that_are_as_wanted_are_only_looked_at(rig: Rig) -> None:
    rig.deploy()
    rig.aws.calls.clear()

    rig.deploy()

    assert rig.told() == []
    assert rig.applications.settings(rig.step, {rig.step.name: {"RestAPIId": "api1"}}) == ()


def test_settings_that_were_changed_by_hand_are_set_back_without_chalice(rig: Rig) -> None:
    rig.deploy()
    rig.note_file.unlink()
    rig.api["stage"]["accessLogSettings"]["format"] = "$context.requestId"
    outputs = {rig.step.name: {"RestAPIId": "api1"}}
    assert rig.applications.settings(rig.step, outputs) == ("fields of the access log",)

    assert rig.deploy() == {"RestAPIId": "api1"}

    assert not rig.note_file.exists()
    assert rig.applications.settings(rig.step, outputs) == ()


def test_wherever_a_run_is_cut_the_next_one_leaves_no_address_open(rig: Rig) -> None:
    """Between API and stage all settings look as wanted, and the address still answers."""
    rig.deploy()
    cut, whole = 0, False
    while not whole:
        rig.reset()  # by hand, in force
        rig.aws.calls.clear()

        def pull(*call: Any, cut: int = cut) -> None:
            if len(rig.aws.calls) > cut:
                raise PulledPlug

        rig.aws.hook = pull
        with contextlib.suppress(PulledPlug):
            rig.deploy()
            whole = True
        rig.aws.hook = None
        rig.deploy()
        assert rig.api["closed"], cut
        cut += 1
    assert cut > 6


def test_an_api_whose_stage_is_gone_is_deployed_again(rig: Rig) -> None:
    rig.deploy()
    rig.note_file.unlink()
    rig.api["stage"] = None

    rig.deploy()

    assert rig.note["verb"] == "deploy"
    assert rig.api["stage"]["methodSettings"]["*/*"]["throttlingRateLimit"] == 5000


def test_an_api_that_chalice_left_without_a_stage_is_said(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.make()
    rig.api["stage"] = None
    monkeypatch.setattr(rig, "reset", lambda: None)

    with pytest.raises(ApplicationError, match="its REST API has no stage api"):
        rig.deploy()


def test_a_log_that_is_refused_ends_the_step_and_the_next_run_tries_again(rig: Rig) -> None:
    def refuse(service: str, region: str, name: str, params: Mapping[str, Any]) -> None:
        if name == "update_stage":
            raise error("BadRequestException", "CloudWatch Logs role ARN must be set in account")

    rig.aws.hook = refuse
    with pytest.raises(UnexpectedAnswerError, match="CloudWatch Logs role ARN must be set"):
        rig.deploy()

    rig.aws.hook = None
    rig.deploy()
    assert rig.api["closed"]


def test_a_failure_shows_what_chalice_said(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHALICE_EXIT", "2")

    with pytest.raises(ApplicationError, match="failed with exit code 2:\n    chalice at work"):
        rig.deploy()

    assert all(TAG_SOURCE not in tags for tags in rig.aws.tags_of.values())


def test_a_run_that_is_told_to_stop_ends_chalice(rig: Rig) -> None:
    rig.applications.chalice = (sys.executable, "-c", "import time; time.sleep(60)")
    rig.applications.stopping.set()

    with pytest.raises(Exception, match="interrupted"):
        rig.deploy()


def test_deleting_takes_what_is_there_and_what_is_not_is_no_error(rig: Rig) -> None:
    rig.applications.delete(rig.step)
    assert not rig.note_file.exists()

    rig.make()
    rig.applications.delete(rig.step)
    assert rig.note["verb"] == "delete"
    names = [p["logGroupName"] for _, _, n, p in rig.aws.calls if n == "delete_log_group"]
    assert names == ["/aws/lambda/a-us-west-2"] * 2


def test_outputs_are_asked_of_the_account(rig: Rig) -> None:
    assert rig.applications.outputs(rig.step) == {}
    rig.make()
    assert rig.applications.outputs(rig.step) == {"RestAPIId": "api1"}


def test_the_digest_names_sources_and_not_what_tools_leave(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("1")
    first = digest_of(tmp_path)
    (tmp_path / ".chalice" / "deployed").mkdir(parents=True)
    (tmp_path / ".chalice" / "deployed" / "x.json").write_text("{}")

    assert digest_of(tmp_path) == first
    (tmp_path / "app.py").write_text("2")
    assert digest_of(tmp_path) != first
