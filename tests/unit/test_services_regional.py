"""The shared layer: region, problem documents, logs, tracing."""

import importlib
import json
import logging
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from chalice import BadRequestError, NotFoundError, Response
from hypothesis import given, settings
from hypothesis import strategies as st
from services_support import REQUEST_ID, Context, call, event, regional

PROBLEM = "application/problem+json"
SECRET = "password-in-an-exception"


@pytest.fixture
def app() -> Iterator[Any]:
    with regional() as package:
        yield sample(package)


def sample(package: Any) -> Any:
    app = package.App("sample")

    @app.route("/")
    def root() -> dict[str, str]:
        return {"service": app.service, "region": app.region}

    @app.route("/json", methods=["POST"])
    def body() -> Any:
        return app.current_request.json_body

    @app.route("/problem")
    def problem() -> None:
        raise package.Problem(
            422, "2 faults", headers={"Retry-After": "1"}, errors=[{"pointer": "/task"}]
        )

    @app.route("/missing")
    def missing() -> None:
        raise NotFoundError("no such thing")

    @app.route("/broken")
    def broken() -> None:
        raise RuntimeError(SECRET)

    @app.route("/not-json")
    def not_json() -> object:
        return object()

    @app.route("/own-error")
    def own_error() -> Response:
        return Response({"Code": 1, "reason": "mine"}, status_code=409)

    return app


def broken_check() -> None:
    raise RuntimeError(SECRET)


def test_the_deep_check_names_all_that_does_not_work_and_no_secret(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with regional() as package:
        app = package.App("sample")
        app.deep({"table": lambda: "7 rows", "queue": broken_check, "cache": broken_check})
        answer = call(app, "/deep")
    document = assert_problem(answer, 503)
    assert document["detail"] == "2 of 3 checks failed: cache, queue"
    assert answer[1]["Retry-After"] == "5"
    assert {n: (c["status"], c["detail"]) for n, c in document["checks"].items()} == {
        "table": ("ok", "7 rows"),
        "queue": ("failed", "RuntimeError"),
        "cache": ("failed", "RuntimeError"),
    }
    assert SECRET in capsys.readouterr().out  # the log has the reason


def test_the_deep_check_is_well_when_everything_works() -> None:
    with regional() as package:
        app = package.App("sample")
        app.deep({"table": lambda: None})
        status, _, document = call(app, "/deep")
    assert (status, document["status"], document["checks"]["table"]["status"]) == (200, "ok", "ok")


def assert_problem(answer: tuple[int, dict[str, str], Any], status: int) -> dict[str, Any]:
    assert answer[0] == status
    assert answer[1]["Content-Type"] == PROBLEM
    assert answer[1]["X-Region"] == "us-east-1"
    document = answer[2]
    assert document["status"] == status
    assert document["type"]
    assert document["title"]
    assert document["request_id"] == REQUEST_ID
    assert not {"Code", "Message"} & document.keys()
    assert SECRET not in json.dumps(document)
    assert "Traceback" not in json.dumps(document)
    return document


def test_an_answer_carries_its_region(app: Any) -> None:
    expected = {"service": "sample", "region": "us-east-1"}
    assert call(app) == (200, {"X-Region": "us-east-1"}, expected)


def test_a_problem_keeps_its_detail_headers_and_members(app: Any) -> None:
    answer = call(app, "/problem")
    document = assert_problem(answer, 422)
    assert document["detail"] == "2 faults"
    assert document["errors"] == [{"pointer": "/task"}]
    assert answer[1]["Retry-After"] == "1"


@pytest.mark.parametrize(
    ("path", "method", "status", "title"),
    [
        ("/missing", "GET", 404, "Not Found"),
        ("/nowhere", "GET", 404, "Not Found"),
        ("/", "DELETE", 405, "Method Not Allowed"),
        ("/broken", "GET", 500, "Internal Server Error"),
        ("/not-json", "GET", 500, "Internal Server Error"),
    ],
)
def test_chalices_own_errors_are_problems(
    app: Any, path: str, method: str, status: int, title: str
) -> None:
    assert assert_problem(call(app, path, method), status)["title"] == title


def test_an_unknown_method_names_the_known_ones(app: Any) -> None:
    assert call(app, "/", "OPTIONS")[1]["Allow"] == "GET, HEAD"


def test_a_wrong_content_type_is_a_problem(app: Any) -> None:
    answer = call(app, "/json", "POST", headers={"Content-Type": ["text/xml"]}, body="<a/>")
    assert_problem(answer, 415)


def test_a_body_that_is_not_json_is_a_problem(app: Any) -> None:
    answer = call(app, "/json", "POST", headers={"Content-Type": ["application/json"]}, body="{")
    assert assert_problem(answer, 400)["detail"] == "Error Parsing JSON"


def test_debug_mode_shows_no_stack_trace(app: Any) -> None:
    app.debug = True
    assert_problem(call(app, "/broken"), 500)


def test_an_error_answer_that_a_view_wrote_stays_as_it_is(app: Any) -> None:
    assert call(app, "/own-error")[2] == {"Code": 1, "reason": "mine"}


@pytest.mark.parametrize("garbage", [{}, {"requestContext": {"resourcePath": "/"}}])
def test_an_event_that_is_no_request_gets_a_problem(app: Any, garbage: dict[str, Any]) -> None:
    answer = app(garbage, Context)
    assert_problem((answer["statusCode"], answer["headers"], json.loads(answer["body"])), 500)


def test_head_is_get_without_the_body(app: Any) -> None:
    answer = app(event("/", "HEAD"), Context)
    assert (answer["statusCode"], answer["body"]) == (200, "")
    assert answer["headers"] == {"X-Region": "us-east-1"}


@given(
    status=st.integers(400, 599),
    detail=st.text(max_size=50),
    members=st.dictionaries(
        st.text("abcdefgh", min_size=1, max_size=4), st.text(max_size=9), max_size=3
    ),
)
@settings(max_examples=30, deadline=None)
def test_every_problem_is_a_whole_document(
    status: int, detail: str, members: dict[str, str]
) -> None:
    with regional() as package:
        app = package.App("sample")

        @app.route("/")
        def root() -> None:
            raise package.Problem(status, detail, **members)

        document = assert_problem(call(app), status)
        assert members.items() <= document.items()
        assert document.get("detail", "") == detail


def test_the_environment_names_the_service() -> None:
    with regional(SERVICE_NAME="copy", AWS_REGION="us-west-2") as package:
        assert call(sample(package)) == (
            200, {"X-Region": "us-west-2"}, {"service": "copy", "region": "us-west-2"},
        )  # fmt: skip


# --- logs


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_each_request_leaves_one_json_line(app: Any, capsys: pytest.CaptureFixture[str]) -> None:
    call(app, "/problem")
    (line,) = lines(capsys)
    assert line.pop("milliseconds") >= 0
    assert line.pop("time") > 0
    assert line == {
        "level": "INFO", "message": "request", "service": "sample", "region": "us-east-1",
        "request_id": REQUEST_ID, "method": "GET", "path": "/problem", "status": 422,
    }  # fmt: skip


def test_the_log_has_what_the_caller_does_not_get(
    app: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    call(app, "/broken")
    error, _ = lines(capsys)
    assert error["level"] == "ERROR"
    assert error["request_id"] == REQUEST_ID
    assert SECRET in error["exception"]
    assert "Traceback" in error["exception"]


def test_a_log_record_may_carry_fields(app: Any, capsys: pytest.CaptureFixture[str]) -> None:
    app.log.warning("seen %s", "twice", extra={"fields": {"key": {1}}})
    (line,) = lines(capsys)
    assert (line["message"], line["key"]) == ("seen twice", "{1}")


@pytest.mark.parametrize(("level", "count"), [("WARNING", 0), ("nonsense", 1), ("info", 1)])
def test_the_log_level_comes_from_the_environment(
    level: str, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with regional(LOG_LEVEL=level) as package:
        call(sample(package))
        assert len(lines(capsys)) == count


def test_inside_lambda_libraries_log_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before = list(root.handlers), root.level
    try:
        with regional(LAMBDA_TASK_ROOT="/var/task") as package:
            package.App("sample")
            logging.getLogger("library").warning("careful")
            (line,) = lines(capsys)
            assert (line["logger"], line["message"]) == ("library", "careful")
    finally:
        root.handlers[:], level = before[0], before[1]
        root.setLevel(level)


# --- tracing

SAMPLED = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"


class Subsegment:
    def __init__(self, name: str) -> None:
        self.name = name
        self.annotations: dict[str, Any] = {}
        self.is_fault = False
        self.is_ended = False

    def put_annotation(self, key: str, value: Any) -> None:
        self.annotations[key] = value

    def add_fault_flag(self) -> None:
        self.is_fault = True


class Recorder:
    """The SDK's recorder as far as the layer uses it."""

    def __init__(self) -> None:
        self.seen: list[Subsegment] = []
        self.open: list[Subsegment] = []
        self.failure: Exception | None = None

    def begin_subsegment(self, name: str, namespace: str) -> Subsegment:
        if self.failure:
            raise self.failure
        self.seen.append(Subsegment(name))
        self.open.append(self.seen[-1])
        return self.seen[-1]

    def end_subsegment(self) -> None:
        self.open.pop().is_ended = True


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    core: Any = ModuleType("aws_xray_sdk.core")
    core.xray_recorder = Recorder()
    core.patch = lambda libraries: setattr(core.xray_recorder, "patched", libraries)
    monkeypatch.setitem(sys.modules, "aws_xray_sdk.core", core)
    return core.xray_recorder


def in_lambda(trace: str) -> Any:
    return regional(LAMBDA_TASK_ROOT="/var/task", _X_AMZN_TRACE_ID=trace)


@pytest.fixture(autouse=True)
def _root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_sampled_request_is_one_subsegment(recorder: Recorder) -> None:
    with in_lambda(SAMPLED) as package:
        assert call(sample(package))[0] == 200
    (subsegment,) = recorder.seen
    assert (subsegment.name, subsegment.is_ended, subsegment.is_fault) == ("sample", True, False)
    assert subsegment.annotations == {"region": "us-east-1", "status": 200}


def test_an_error_is_a_fault_and_spans_nest(recorder: Recorder) -> None:
    with in_lambda(SAMPLED) as package:
        app = sample(package)
        call(app, "/broken")
        with pytest.raises(KeyError), app.tracer.span("query", "remote"):
            raise KeyError
        with app.tracer.span("other"):
            pass
    assert [(s.name, s.is_ended, s.is_fault) for s in recorder.seen] == [
        ("sample", True, True), ("query", True, True), ("other", True, False),
    ]  # fmt: skip


def test_only_the_named_libraries_are_patched(recorder: Any) -> None:
    with in_lambda(SAMPLED) as package:
        app = package.App("sample", patch=("pymysql",))
        call(app, "/")
    assert recorder.patched == ("pymysql",)


@pytest.mark.parametrize("trace", ["", SAMPLED.replace("Sampled=1", "Sampled=0")])
def test_what_is_not_sampled_is_not_traced(trace: str, recorder: Recorder) -> None:
    with in_lambda(trace) as package:
        assert call(sample(package))[0] == 200
        assert "regional.xray" not in sys.modules
    assert recorder.seen == []


def test_outside_lambda_nothing_is_traced(recorder: Recorder) -> None:
    with regional(_X_AMZN_TRACE_ID=SAMPLED) as package:
        assert call(sample(package))[0] == 200
    assert recorder.seen == []


def test_tracing_that_fails_does_not_fail_the_request(
    recorder: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder.failure = OSError("no daemon")
    with in_lambda(SAMPLED) as package:
        app = sample(package)
        assert call(app)[0] == 200
        recorder.failure = None
        assert call(app)[0] == 200
    assert recorder.seen == []
    assert [line["level"] for line in lines(capsys)] == ["WARNING", "INFO", "INFO"]


def test_an_sdk_that_is_missing_does_not_fail_the_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "aws_xray_sdk.core", None)
    with in_lambda(SAMPLED) as package:
        assert call(sample(package))[0] == 200


def test_chalices_exceptions_can_still_be_raised(app: Any) -> None:
    @app.route("/bad")
    def bad() -> None:
        raise BadRequestError("so not")

    assert assert_problem(call(app, "/bad"), 400)["detail"] == "so not"


# --- the hold of a standby

HOLD = {
    "host": "orders.example.test",
    "check": "https://orders.us-east-1.example.test/deep",
    "namespace": "TwoRegionApi",
    "metric": "TakeOver",
    "dimensions": {"Domain": "example.test", "Service": "orders", "Region": "us-east-1"},
}


class Watched:
    """A hold with a clock and another region that are set by hand."""

    def __init__(self, package: Any, is_well: bool = True) -> None:
        module = importlib.import_module("regional.hold")
        self.now, self.is_well, self.asked, self.lines = 100.0, is_well, [], []
        settings = module.Settings.read(json.dumps(HOLD))
        self.hold = module.Hold(settings, self.lines.append, self._ask, lambda: self.now)

    def _ask(self, url: str, timeout: float) -> bool:
        assert 0 < timeout <= 1
        self.asked.append(url)
        return self.is_well


def test_a_standby_that_users_reach_while_the_other_region_is_down_takes_over() -> None:
    with regional() as package:
        watched = Watched(package, is_well=False)
        watched.hold.served("orders.example.test", lambda: 1_700_000_000_000)
    (line,) = watched.lines
    document = json.loads(line)
    assert line.endswith("\n")
    assert watched.asked == [HOLD["check"]]
    assert document["TakeOver"] == 1
    assert {k: document[k] for k in ("Domain", "Service", "Region")} == HOLD["dimensions"]
    (directive,) = document["_aws"]["CloudWatchMetrics"]
    assert directive == {
        "Namespace": "TwoRegionApi",
        "Dimensions": [["Domain", "Service", "Region"]],
        "Metrics": [{"Name": "TakeOver"}],
    }
    assert document["_aws"]["Timestamp"] == 1_700_000_000_000


@pytest.mark.parametrize(
    ("host", "is_well"),
    [("orders.example.test", True), ("orders.us-west-2.example.test", False), ("", False)],
)
def test_neither_a_request_nor_a_failed_check_alone_takes_over(host: str, is_well: bool) -> None:
    with regional() as package:
        watched = Watched(package, is_well)
        watched.hold.served(host)
    assert watched.lines == []


def test_the_other_region_is_not_asked_at_every_request() -> None:
    with regional() as package:
        watched = Watched(package, is_well=False)
        for second in range(25):
            watched.now = 100.0 + second
            watched.hold.served("orders.example.test:8443")
    assert len(watched.asked) == 3
    assert len(watched.lines) == 3


def test_a_service_tells_its_hold_of_every_request() -> None:
    with regional(HOLD=json.dumps(HOLD)) as package:
        app = sample(package)
        told: list[str] = []
        app.hold.served = told.append
        call(app, headers={"Host": ["orders.example.test"]})
    assert told == ["orders.example.test"]


def test_a_wrong_hold_stops_the_start() -> None:
    with regional(HOLD='{"host": "a"}') as package, pytest.raises(TypeError):
        sample(package)


def test_without_a_hold_nothing_is_asked(app: Any) -> None:
    assert app.hold is None
