# SPDX-License-Identifier: MIT
"""The process that is measured: an execution environment with the runtime client's modules and logging, and a handler.

``worker.py MODULE`` reads one JSON object a line and answers each with one:
``{"do": "cold", "key": K}``  imports MODULE and asks it about K: milliseconds, modules and memory added.
``{"do": "warm", "key": K, "count": N, "seconds": S, "rate": R}``  asks about K N times, or for S seconds, R times
    a second at most: milliseconds each, and the outcomes. With the key null, every request has another wrong one.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from typing import Any

import awslambdaric.__main__  # all that the runtime client imports before the function's module
from awslambdaric import bootstrap


class Context:
    """The part of Lambda's context object that an authorizer may use."""

    def get_remaining_time_in_millis(self) -> int:
        return 5000


def event(key: str) -> dict[str, Any]:
    """An event as API Gateway makes it of a request from CloudFront: payload format 2.0."""
    return {
        "version": "2.0",
        "type": "REQUEST",
        "routeArn": "arn:aws:execute-api:eu-central-1:123456789012:abcdef1234/$default/GET/orders",
        "identitySource": [key],
        "routeKey": "GET /orders",
        "rawPath": "/orders",
        "rawQueryString": "",
        "headers": {
            "accept": "*/*",
            "accept-encoding": "br,gzip",
            "accept-language": "en",
            "content-length": "0",
            "host": "abcdef1234.execute-api.eu-central-1.amazonaws.com",
            "user-agent": "Amazon CloudFront",
            "via": "2.0 0123456789abcdef.cloudfront.net (CloudFront)",
            "x-amz-cf-id": "0123456789abcdef0123456789abcdef0123456789abcdef",
            "x-amzn-trace-id": "Root=1-65f0a0a0-0123456789abcdef01234567",
            "x-forwarded-for": "203.0.113.7, 198.51.100.9",
            "x-forwarded-port": "443",
            "x-forwarded-proto": "https",
            "x-origin-verify": key,
        },
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "abcdef1234",
            "domainName": "abcdef1234.execute-api.eu-central-1.amazonaws.com",
            "domainPrefix": "abcdef1234",
            "http": {
                "method": "GET",
                "path": "/orders",
                "protocol": "HTTP/1.1",
                "sourceIp": "198.51.100.9",
                "userAgent": "Amazon CloudFront",
            },
            "requestId": "JKJaXmPLvHcESHA=",
            "routeKey": "GET /orders",
            "stage": "$default",
            "time": "22/Nov/2026:12:00:00 +0000",
            "timeEpoch": 1795348800000,
        },
    }


def memory() -> int | None:
    """Resident memory of this process in bytes, where the system tells."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None


def outcome(handler: Any, event: dict[str, Any]) -> str:
    """What the handler makes of an event: "allow", "refuse", or the name of what it raises."""
    try:
        return "allow" if handler(event, Context())["isAuthorized"] is True else "refuse"
    except Exception as error:
        return type(error).__name__


def cold(name: str, key: str) -> tuple[Any, dict[str, object]]:
    """The module's handler, and what it cost to get its first answer."""
    request, modules, before, start = event(key), len(sys.modules), memory(), time.perf_counter()
    handler = importlib.import_module(name).handler
    imported = time.perf_counter()
    first = outcome(handler, request)
    end, after = time.perf_counter(), memory()
    return handler, {
        "import_ms": (imported - start) * 1e3,
        "cold_ms": (end - start) * 1e3,
        "modules": len(sys.modules) - modules,
        "memory_bytes": None if before is None or after is None else after - before,
        "outcomes": {first: 1},
    }


def warm(handler: Any, key: str | None, count: int, seconds: float, rate: float = 1e9) -> dict[str, object]:
    """What requests cost once the handler has answered."""
    times: list[float] = []
    outcomes: dict[str, int] = {}
    begin = time.perf_counter()
    request = event(key or "")
    for number in range(count):
        if key is None:
            request["headers"]["x-origin-verify"] = f"wrong-key-{number:022d}"
        while time.perf_counter() < begin + number / rate:
            pass
        start = time.perf_counter()
        result = outcome(handler, request)
        stop = time.perf_counter()
        times.append((stop - start) * 1e3)
        outcomes[result] = outcomes.get(result, 0) + 1
        if stop > begin + seconds:
            break
    return {"times_ms": times, "outcomes": outcomes}


def main() -> None:
    # A null device takes what the runtime client would write to Lambda: the cost of a line without that of a reader.
    sink = bootstrap.FramedTelemetryLogSink(os.open(os.devnull, os.O_WRONLY))
    handler: Any = None
    with sink:
        bootstrap._setup_logging(bootstrap.LogFormat.TEXT, None, sink)
        for line in sys.stdin:
            task = json.loads(line)
            if task.pop("do") == "cold":
                handler, result = cold(sys.argv[1], **task)
            else:
                result = warm(handler, **task)
            print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
