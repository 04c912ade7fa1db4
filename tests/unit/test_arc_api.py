"""One request, one answer, without sockets: validation, order of checks, nothing changed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.arc.api import ArcApi, Endpoint, Fault, Policy, Request
from lab.arc.errors import ArcStateError
from lab.arc.replicas import Replicas
from lab.arc.rules import (
    ClusterConfig,
    ClusterState,
    Entry,
    RoutingControl,
    RuleConfig,
    RuleType,
    SafetyRule,
)
from lab.arc.wire import OPERATIONS, STATUS, Answer
from lab.settings import ARC_REGIONS

PANEL = "arn:aws:route53-recovery-control::111122223333:controlpanel/" + "0f" * 16
P, S = f"{PANEL}/routingcontrol/{'a' * 16}", f"{PANEL}/routingcontrol/{'b' * 16}"
MIN = SafetyRule(
    f"{PANEL}/safetyrule/{'1' * 16}", "service1-at-least-one", PANEL, (P, S), (),
    RuleConfig(RuleType.ATLEAST, 1, False), 0,
)  # fmt: skip
SIGNED = (
    "AWS4-HMAC-SHA256 Credential={key}/20261120/{region}/{service}/aws4_request, "
    "SignedHeaders=content-type;host;x-amz-date;x-amz-target, Signature=" + "0a" * 32
)
UPDATE = "UpdateRoutingControlStates"


class Cluster:
    """An ArcApi whose effects are recorded."""

    def __init__(self, policy: Policy | None = None) -> None:
        controls = {arn: RoutingControl(arn, name, PANEL) for arn, name in ((P, "p"), (S, "s"))}
        self.endpoints = {region: Endpoint() for region in ARC_REGIONS}
        self.replicas = Replicas(ARC_REGIONS, ClusterState(frozenset({P}), {P: 1.0}), 5.0)
        self.saved: list[ClusterState] = []
        self.changed: list[tuple[Entry, ...]] = []
        self.events: list[dict[str, Any]] = []
        self.disk_is_full = False
        self.api = ArcApi(
            ClusterConfig("arn:cluster", {PANEL: "service1"}, controls, (MIN,)),
            self.replicas,
            self.endpoints,
            policy or Policy(),
            self._save,
            lambda entries: self.changed.append(tuple(entries)),
            self.events.append,
        )

    def _save(self, state: ClusterState) -> None:
        if self.disk_is_full:
            raise ArcStateError("no space left on device")
        self.saved.append(state)

    def send(
        self,
        operation: str,
        body: object,
        *,
        region: str = "us-east-1",
        now: float = 100.0,
        key: str = "lab",
        **changed: str,
    ) -> Answer:
        headers = {
            "X-Amz-Target": "ToggleCustomerAPI." + operation,
            "X-Amz-Date": "20261120T120000Z",
            "Authorization": SIGNED.format(
                key=key, region="us-east-1", service="route53-recovery-cluster"
            ),
            **{name.replace("_", "-"): value for name, value in changed.items()},
        }
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.api.answer(region, Request("POST", "/v1", headers, raw), now)

    def untouched(self) -> bool:
        state = ClusterState(frozenset({P}), {P: 1.0})
        return not self.saved and not self.changed and self.replicas.latest == state


def code(answer: Answer) -> str:
    return str(json.loads(answer.body)["__type"]).partition("#")[2]


def batch(**states: str) -> dict[str, Any]:
    arns = {"p": P, "s": S}
    return {
        "UpdateRoutingControlStateEntries": [
            {"RoutingControlArn": arns[name], "RoutingControlState": state}
            for name, state in states.items()
        ]
    }


def fields(answer: Answer) -> list[str]:
    error = json.loads(answer.body)
    assert (code(answer), error["reason"]) == ("ValidationException", "fieldValidationFailed")
    return [field["name"] for field in error["fields"]]


@pytest.mark.semantics(6)
def test_update_answers_an_empty_object_and_is_saved_before_it_is_told() -> None:
    cluster = Cluster()
    answer = cluster.send(UPDATE, batch(p="Off", s="On"))
    assert (answer.status, answer.body) == (200, b"{}")
    assert cluster.saved == [ClusterState(frozenset({S}), {P: 100.0, S: 100.0})]
    assert cluster.changed == [(Entry(P, False), Entry(S, True))]
    assert [event["kind"] for event in cluster.events] == ["routing_control_updated"]


@pytest.mark.semantics(1)
@pytest.mark.parametrize(
    ("method", "path", "target"),
    [
        ("POST", "/v1", "ToggleCustomerAPI.DescribeCluster"),
        ("POST", "/v1", "GetRoutingControlState"),
        ("POST", "/v1", None),
        ("POST", "/v2", "ToggleCustomerAPI.GetRoutingControlState"),
        ("GET", "/v1", "ToggleCustomerAPI.GetRoutingControlState"),
    ],
)
def test_unknown_operations(method: str, path: str, target: str | None) -> None:
    headers = {"X-Amz-Target": target} if target else {}
    answer = Cluster().api.answer("us-east-1", Request(method, path, headers, b"{}"), 0.0)
    assert answer.status == 400
    assert json.loads(answer.body)["reason"] == "unknownOperation"


@pytest.mark.semantics(2)
@pytest.mark.parametrize(
    "body", [b"{", b"\xff", b"[]", b"3", b"[" * 100_000, b'{"a": ' + b"9" * 9999]
)
@pytest.mark.parametrize("operation", sorted(OPERATIONS))
def test_what_is_no_json_object_cannot_be_parsed(operation: str, body: bytes) -> None:
    answer = Cluster().send(operation, body)
    assert code(answer) == "ValidationException"
    assert json.loads(answer.body)["reason"] == "cannotParse"


@pytest.mark.semantics(3)
@pytest.mark.parametrize("state", ["ON", "on", "OFF", "", "On ", True, 1, {}, ["On"]])
def test_states_are_exactly_on_and_off(state: object) -> None:
    body = {"RoutingControlArn": P, "RoutingControlState": state}
    assert fields(Cluster().send("UpdateRoutingControlState", body)) == ["RoutingControlState"]


@pytest.mark.semantics(4)
@pytest.mark.parametrize("arn", [None, "", "a" * 256, "arn with blanks", P + "\n", "ärn", 7, []])
def test_arns_are_checked(arn: object) -> None:
    body = {"RoutingControlArn": arn}
    assert fields(Cluster().send("GetRoutingControlState", body)) == ["RoutingControlArn"]


@pytest.mark.semantics(4)
def test_every_fault_of_a_request_is_reported_at_once() -> None:
    cluster = Cluster()
    body = {
        "UpdateRoutingControlStateEntries": [
            {"RoutingControlArn": P, "RoutingControlState": "ON"},
            {"RoutingControlState": "On"},
            "service1",
            {"RoutingControlArn": P, "RoutingControlState": "Off"},
        ],
        "SafetyRulesToOverride": [MIN.arn, "not an arn"],
    }
    prefix = "UpdateRoutingControlStateEntries."
    assert fields(cluster.send(UPDATE, body)) == [
        prefix + "0.RoutingControlState",
        prefix + "1.RoutingControlArn",
        prefix + "2",
        prefix + "3.RoutingControlArn",
        "SafetyRulesToOverride.1",
    ]
    assert cluster.untouched()


@pytest.mark.semantics(4)
@pytest.mark.parametrize("entries", [None, [], {}, "x"])
def test_a_batch_needs_entries(entries: object) -> None:
    body = {"UpdateRoutingControlStateEntries": entries, "SafetyRulesToOverride": "x"}
    assert fields(Cluster().send(UPDATE, body)) == [
        "UpdateRoutingControlStateEntries",
        "SafetyRulesToOverride",
    ]


@pytest.mark.semantics(16)
@pytest.mark.parametrize("size", [0, -1, True, 1.5, "3", 2**31])
def test_max_results_is_a_whole_number_of_at_least_one(size: object) -> None:
    assert fields(Cluster().send("ListRoutingControls", {"MaxResults": size})) == ["MaxResults"]


@pytest.mark.semantics(16)
def test_a_token_is_good_only_for_the_list_that_gave_it_out() -> None:
    cluster = Cluster()
    first = json.loads(cluster.send("ListRoutingControls", {"MaxResults": 1}).body)
    token = first["NextToken"]
    second = json.loads(cluster.send("ListRoutingControls", {"NextToken": token}).body)
    listed = first["RoutingControls"] + second["RoutingControls"]
    assert [control["RoutingControlArn"] for control in listed] == [P, S]
    assert "NextToken" not in second
    for bad in ("x", token[:-2], "bnVsbA==", "WzAsIG51bGxd", "WzksIG51bGxd", "W1sxXSwgbnVsbF0="):
        assert fields(cluster.send("ListRoutingControls", {"NextToken": bad})) == ["NextToken"]
    other = {"NextToken": token, "ControlPanelArn": PANEL}
    assert fields(cluster.send("ListRoutingControls", other)) == ["NextToken"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": ""},
        {"Authorization": "Bearer abc"},
        {"Authorization": SIGNED.format(key="lab", region="us-east-1", service="route53")},
        {"Authorization": SIGNED.replace("host;", "").format(
            key="lab", region="us-east-1", service="route53-recovery-cluster")},
        {"X_Amz_Date": "20261121T000000Z"},
    ],
)  # fmt: skip
def test_requests_have_to_be_signed_for_this_service(headers: dict[str, str]) -> None:
    answer = Cluster().send("ListRoutingControls", {}, **headers)
    assert (answer.status, code(answer)) == (403, "AccessDeniedException")


@pytest.mark.parametrize("strict", [False, True])
def test_a_signature_for_another_region_is_seen_and_if_asked_refused(strict: bool) -> None:
    cluster = Cluster(Policy(check_region=strict))
    for _ in range(3):
        answer = cluster.send("ListRoutingControls", {}, region="ap-southeast-2")
        assert answer.status == (403 if strict else 200)
    assert [event["kind"] for event in cluster.events] == ["foreign_region_signed"]


@pytest.mark.semantics(30)
def test_overrides_need_a_permission_of_their_own() -> None:
    cluster = Cluster(Policy(without_override=frozenset({"AKIAOPERATOR"})))
    forced = {**batch(p="Off"), "SafetyRulesToOverride": [MIN.arn]}
    refused = cluster.send(UPDATE, forced, key="AKIAOPERATOR")
    assert (refused.status, code(refused)) == (403, "AccessDeniedException")
    assert cluster.untouched()
    assert cluster.send(UPDATE, batch(p="Off", s="On"), key="AKIAOPERATOR").status == 200
    assert (
        cluster.send(UPDATE, {**batch(s="Off"), "SafetyRulesToOverride": [MIN.arn]}).status == 200
    )


@pytest.mark.semantics(27, 28)
def test_a_refused_batch_changes_nothing_and_says_which_rule() -> None:
    cluster = Cluster()
    answer = cluster.send(UPDATE, batch(s="Off", p="Off"))
    error = json.loads(answer.body)
    assert (answer.status, code(answer)) == (409, "ConflictException")
    assert (error["resourceId"], error["resourceType"]) == (MIN.arn, "SafetyRule")
    assert "service1-at-least-one" in error["message"]
    assert cluster.untouched()
    assert [(e["kind"], e["rule"]) for e in cluster.events] == [
        ("update_refused", "service1-at-least-one")
    ]


@pytest.mark.semantics(13, 14)
@pytest.mark.parametrize("fault", [Fault.REFUSE, Fault.HANG, Fault.UNAVAILABLE])
def test_writes_need_three_reachable_endpoints(fault: Fault) -> None:
    cluster = Cluster()
    for down, region in enumerate(ARC_REGIONS[:3], start=1):
        cluster.endpoints[region].fault = fault
        assert cluster.api.has_quorum is (down < 3)
    answer = cluster.send(UPDATE, batch(p="Off", s="On"), region="ap-northeast-1")
    assert (answer.status, code(answer)) == (503, "EndpointTemporarilyUnavailableException")
    assert cluster.untouched()
    read = cluster.send("GetRoutingControlState", {"RoutingControlArn": P}, region="ap-northeast-1")
    assert json.loads(read.body)["RoutingControlState"] == "On"
    cluster.endpoints["us-east-1"].fault = Fault.NONE
    assert cluster.send(UPDATE, batch(p="Off", s="On"), region="ap-northeast-1").status == 200


@pytest.mark.semantics(15)
def test_throttling_counts_writes_per_endpoint_and_no_reads() -> None:
    cluster = Cluster()
    for _ in range(9):
        assert cluster.send("ListRoutingControls", {}).status == 200
    answers = [cluster.send(UPDATE, batch(p="On")) for _ in range(4)]
    assert [answer.status for answer in answers] == [200, 200, 200, 429]
    assert answers[3].headers["Retry-After"] == "1"
    assert code(answers[3]) == "ThrottlingException"
    assert cluster.send(UPDATE, batch(p="On"), region="us-west-2").status == 200
    assert cluster.send(UPDATE, batch(p="On"), now=101.0).status == 200


@pytest.mark.semantics(18)
def test_a_change_that_cannot_be_saved_is_not_made() -> None:
    cluster = Cluster()
    cluster.disk_is_full = True
    answer = cluster.send(UPDATE, batch(p="Off", s="On"))
    assert (answer.status, code(answer)) == (500, "InternalServerException")
    assert answer.headers["Retry-After"] == "1"
    assert cluster.untouched()


@pytest.mark.semantics(8)
@pytest.mark.parametrize("all_400", [False, True])
def test_statuses_are_the_models_or_all_400(all_400: bool) -> None:
    cluster = Cluster(Policy(all_400=all_400))
    unknown = {"RoutingControlArn": P[:-1]}
    answers = {
        "ResourceNotFoundException": cluster.send("GetRoutingControlState", unknown),
        "ConflictException": cluster.send(UPDATE, batch(p="Off")),
        "AccessDeniedException": cluster.send(UPDATE, {}, Authorization=""),
        "ValidationException": cluster.send(UPDATE, {}),
        "ServiceLimitExceededException": cluster.send(
            UPDATE,
            {
                "UpdateRoutingControlStateEntries": [
                    {"RoutingControlArn": f"{P}{n}", "RoutingControlState": "On"} for n in range(11)
                ]
            },
        ),
        "ThrottlingException": cluster.send(UPDATE, {}),
    }
    cluster.endpoints["us-east-1"].fault = Fault.ERROR
    answers["InternalServerException"] = cluster.send("ListRoutingControls", {})
    cluster.endpoints["us-east-1"].fault = Fault.UNAVAILABLE
    answers["EndpointTemporarilyUnavailableException"] = cluster.send("ListRoutingControls", {})
    assert answers.keys() == STATUS.keys()
    for name, answer in answers.items():
        assert code(answer) == name
        always = name == "InternalServerException" or not all_400
        assert answer.status == (STATUS[name] if always else 400)


MEMBERS = [
    "RoutingControlArn",
    "RoutingControlState",
    "UpdateRoutingControlStateEntries",
    "SafetyRulesToOverride",
    "ControlPanelArn",
    "MaxResults",
    "NextToken",
]
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
JSON = st.recursive(
    SCALARS | st.sampled_from([P, "On"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(MEMBERS), inner),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(OPERATIONS)), st.dictionaries(st.text(), JSON) | JSON)
def test_whatever_is_sent_gets_an_answer_of_the_model(operation: str, body: object) -> None:
    answer = Cluster().send(operation, body)
    assert answer.status in (200, 400, 402, 404, 409)
    if answer.status != 200:
        assert code(answer) in STATUS
