"""Logs: one JSON object a line on stdout, with service, region and request id in each.

Lambda sends stdout to CloudWatch Logs line by line. The service's logger gets the handler; inside
Lambda the root logger gets it too, so that what libraries log is JSON as well.

Level: the environment's LOG_LEVEL, INFO by default.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Mapping
from typing import Any


class JsonHandler(logging.Handler):
    """Writes records as JSON lines. `request_id` is set by the app at each request's start.

    One request at a time runs in an execution environment, so a plain attribute is enough.
    """

    def __init__(self, service: str, region: str) -> None:
        super().__init__()
        self.service = service
        self.region = region
        self.request_id = ""

    def emit(self, record: logging.LogRecord) -> None:
        fields = getattr(record, "fields", {})
        if record.exc_info and record.exc_info[0]:
            fields = {**fields, "exception": _formatter.formatException(record.exc_info)}
        self.write(record.levelname, record.getMessage(), {"logger": record.name, **fields})

    def write(self, level: str, message: str, fields: Mapping[str, Any]) -> None:
        """One line now, past the logging machinery (it costs more than the line itself)."""
        line = {
            "time": round(time.time(), 3),
            "level": level,
            "message": message,
            "service": self.service,
            "region": self.region,
            "request_id": self.request_id,
            **fields,
        }
        sys.stdout.write(_encode(line) + "\n")


_formatter = logging.Formatter()
_encode = json.JSONEncoder(separators=(",", ":"), default=str).encode


def configure(logger: logging.Logger, service: str, region: str) -> JsonHandler:
    """Gives `logger` (and inside Lambda the root logger) the one handler, which is returned."""
    level = os.environ.get("LOG_LEVEL", "INFO").upper()
    if level not in logging.getLevelNamesMapping():
        level = "INFO"
    handler = JsonHandler(service, region)
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(level)
    if "LAMBDA_TASK_ROOT" in os.environ:
        root = logging.getLogger()
        root.handlers[:] = [handler]
        root.setLevel(max(logging.WARNING, logger.level))
    return handler
