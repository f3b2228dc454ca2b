# SPDX-License-Identifier: MIT
"""The process that is measured: an execution environment with the runtime client's modules and
logging, and a handler.

``worker.py MODULE`` reads one JSON object a line and answers each with one:
``{"do": "cold", "event": E}``  imports MODULE and asks it about E: milliseconds, modules and memory
added.
``{"do": "warm", "event": E, "count": N, "seconds": S, "rate": R, "wrong": W}``  asks about E N
times, or for
    S seconds, R times a second at most: milliseconds each, and the outcomes. If W, each with
    another wrong key.

Events come from outside: making them here would load modules whose import the handlers must pay.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from typing import Any

from awslambdaric import bootstrap


class Context:
    """The part of Lambda's context object that an authorizer may use."""

    def get_remaining_time_in_millis(self) -> int:
        return 5000


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


def cold(name: str, event: dict[str, Any]) -> tuple[Any, dict[str, object]]:
    """The module's handler, and what it cost to get its first answer."""
    modules, before, start = len(sys.modules), memory(), time.perf_counter()
    handler = importlib.import_module(name).handler
    imported = time.perf_counter()
    first = outcome(handler, event)
    end, after = time.perf_counter(), memory()
    return handler, {
        "import_ms": (imported - start) * 1e3,
        "cold_ms": (end - start) * 1e3,
        "modules": len(sys.modules) - modules,
        "memory_bytes": None if before is None or after is None else after - before,
        "outcomes": {first: 1},
    }


def warm(
    handler: Any,
    event: dict[str, Any],
    count: int,
    seconds: float,
    rate: float = 1e9,
    wrong: bool = False,
) -> dict[str, object]:
    """What requests cost once the handler has answered."""
    times: list[float] = []
    outcomes: dict[str, int] = {}
    begin = time.perf_counter()
    for number in range(count):
        if wrong:
            event["headers"]["x-origin-verify"] = f"wrong-key-{number:022d}"
        while time.perf_counter() < begin + number / rate:
            pass
        start = time.perf_counter()
        result = outcome(handler, event)
        stop = time.perf_counter()
        times.append((stop - start) * 1e3)
        outcomes[result] = outcomes.get(result, 0) + 1
        if stop > begin + seconds:
            break
    return {"times_ms": times, "outcomes": outcomes}


def main() -> None:
    # A null device takes what the runtime client would write to Lambda: the cost of a line without
    # that of a reader.
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
