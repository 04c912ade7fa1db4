"""`App`: a Chalice application whose every answer carries its region.

It subclasses Chalice and changes what lies round a view, never the view:

- `X-Region` on every answer, errors included;
- errors as problem documents with the right status, Chalice's own too (`regional.problem`). Chalice
  turns an exception of a view into a plain answer before middleware sees it, so the outermost
  middleware looks at answers of 400 and above as well as at exceptions;
- HEAD wherever GET is, with the same headers and no body;
- one log line a request and one subsegment a sampled request (`regional.log`, `regional.tracing`).

Downside: a method or path that is not declared never reaches the function. The service's own API
Gateway answers it with 403 and without `X-Region`.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from logging import INFO
from typing import TYPE_CHECKING, Any

from chalice import Chalice, Response

from regional import log
from regional.problem import Problem
from regional.tracing import Tracer

if TYPE_CHECKING:
    from regional.deep import Checks
    from regional.hold import Hold

_CHALICE_ERROR = {"Code", "Message"}
REGION_HEADER = "X-Region"


class App(Chalice):
    """A service.

    `name`: its name when the environment has no SERVICE_NAME (several services may share one
    folder of code, so the deployment names them). `patch`: libraries for X-Ray to patch.

    `service`, `region`: what this deployment is. `tracer`: `app.tracer.span("…")` records a part
    of a request.
    """

    def __init__(self, name: str, patch: Sequence[str] = ()) -> None:
        super().__init__(name, configure_logs=False)
        environment = os.environ
        self.service: str = environment.get("SERVICE_NAME") or name
        self.region: str = (
            environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or "unknown"
        )
        self.log_handler = log.configure(self.log, self.service, self.region)
        self.tracer = Tracer(self.log, patch)
        self.hold: Hold | None = None
        if environment.get("HOLD"):
            from regional import hold

            self.hold = hold.Hold(hold.Settings.read(environment["HOLD"]), sys.stdout.write)
        self.register_middleware(self._problems, "http")

    def route(self, path: str, **kwargs: Any) -> Callable[..., Any]:
        """Chalice's `route`, with HEAD added wherever GET is."""
        methods = list(kwargs.pop("methods", ["GET"]))
        if "GET" in methods and "HEAD" not in methods:
            methods.append("HEAD")
        return super().route(path, methods=methods, **kwargs)

    def deep(self, checks: Checks | None = None) -> None:
        """Answers `GET /deep`: 200 when all of `checks` (`regional.deep`) pass, else 503."""

        def deep() -> Response:
            return self._deep(checks or {})

        self.route("/deep")(deep)

    def _deep(self, checks: Checks) -> Response:
        from regional import deep  # a cold start of / need not pay for it

        found = deep.results(checks, self.log)
        failed = deep.failed(found)
        answer = {"service": self.service, "region": self.region, "checks": found}
        headers = {"Cache-Control": "no-store"}
        if not failed:
            return Response({**answer, "status": "ok"}, headers, 200)
        raise Problem(
            503,
            f"{len(failed)} of {len(found)} checks failed: {', '.join(failed)}",
            headers={**headers, "Retry-After": "5"},
            **answer,
        )

    @property
    def request_id(self) -> str:
        """Lambda's id of the current request."""
        return self.log_handler.request_id

    def __call__(self, event: Any, context: Any) -> dict[str, Any]:
        started = time.perf_counter()
        self.log_handler.request_id = getattr(context, "aws_request_id", "")
        subsegment = self.tracer.begin(self.service)
        try:
            answer = self._answer(event, context)
        except Exception:  # noqa: BLE001  not an event of the gateway, or a body that is not JSON
            answer = self._unexpected().to_dict()
        answer["headers"][REGION_HEADER] = self.region
        status = answer["statusCode"]
        request = self.current_request
        method, path = (request.method, request.path) if request else ("", "")
        if method == "HEAD":
            answer["body"] = ""
        if self.hold is not None and request:
            self.hold.served(request.headers.get("host", ""))
        self.tracer.end(subsegment, status >= 500, region=self.region, status=status)
        if self.log.isEnabledFor(INFO):
            self.log_handler.write(
                "INFO",
                "request",
                {
                    "method": method,
                    "path": path,
                    "status": status,
                    "milliseconds": round((time.perf_counter() - started) * 1000, 3),
                },
            )
        return answer

    def _answer(self, event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        self.current_request = None
        route = event.get("requestContext", {}).get("resourcePath")
        if route is not None and route not in self.routes:
            return Problem(404, "there is no such path").response(self.request_id).to_dict()
        return super().__call__(event, context)

    def _problems(self, event: Any, get_response: Callable[[Any], Response]) -> Response:
        try:
            response = get_response(event)
        except Problem as problem:
            return problem.response(self.request_id)
        except Exception:  # noqa: BLE001  whatever it is, the caller gets a problem document
            return self._unexpected()
        if response.status_code < 400:
            return response
        return self._as_problem(response)

    def _unexpected(self) -> Response:
        self.log.exception("unexpected error")
        return _internal_error().response(self.request_id)

    def _as_problem(self, response: Response) -> Response:
        """Chalice's own error answers as problems; an answer that a view wrote stays as it is."""
        body = response.body
        if isinstance(body, dict) and body.keys() == _CHALICE_ERROR:
            status = response.status_code
            problem = Problem(status, body["Message"]) if status < 500 else _internal_error()
        elif self.debug and response.status_code == 500:  # Chalice put the stack trace in the body
            problem = _internal_error()
        else:
            return response
        answer = problem.response(self.request_id)
        answer.headers = {**response.headers, **answer.headers}
        return answer


def _internal_error() -> Problem:
    return Problem(500, "an unexpected error; the log has the reason under this request_id")
