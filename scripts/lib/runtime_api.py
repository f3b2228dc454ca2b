# SPDX-License-Identifier: MIT
"""The authorizer as Lambda runs it: called by AWS's own runtime client, awslambdaric, in a process
of its own.

``RuntimeApi``  the side of Lambda that the client talks to: hands out invocations, takes what comes
of them.
``Function``    such a process, with the environment variables that Lambda sets and no others, and
its log lines.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, NamedTuple

from lib.standins import SUBJECT, TOKEN, Extension, Request, Server

ARN = "arn:aws:lambda:eu-central-1:123456789012:function:authorizer"
# Seconds until a test gives up: generous, as it only matters when something is broken.
PATIENCE = 30.0

# What the client puts before each message on the telemetry channel; the level is known only if it
# was configured.
FRAME_LEVELS = {0xA55A0003: ""} | {
    base + 4 * step: level
    for base in (0xA55A000A, 0xA55A000B)  # JSON, text
    for step, level in enumerate(("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"))
}
FRAME_HEADER = 16  # bytes: type, length and time

TEXT_LINE = re.compile(r"\[([A-Z]+)\]\t([0-9T:.-]+Z)\t([0-9a-f-]*)\t([^\n]*)\n")
TEXT_FIELD = re.compile(r'([a-z_]+)="([^"]*)"')


class Posted(NamedTuple):
    """What the client posted: ``kind`` is "response", "error", "init/error" or "restore/error"."""

    kind: str
    request_id: str
    headers: dict[str, str]  # names in lower case
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Line(NamedTuple):
    """One line of the authorizer's own log. ``fields`` are those of a decision, or empty."""

    level: str
    request_id: str
    message: str
    fields: dict[str, str]
    frame_level: str


class RuntimeApi(Server):
    """A Lambda Runtime API.

    Hands each event to the worker that waits longest; keeps all that is posted.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition()
        # Request id, milliseconds to the deadline, JSON.
        self.events: list[tuple[str, int, bytes]] = []
        self.waiting: list[Request] = []  # workers that wait for an event, longest first
        self.open: set[str] = set()  # ids of the invocations without an outcome
        self.posted: list[Posted] = []
        self.restores = 0
        self.closed = False
        super().__init__()

    def stop(self) -> None:
        with self.changed:
            self.closed = True
            self.changed.notify_all()
        super().stop()

    def respond(self, request: Request) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        parts = request.path.split("/")[1:]
        with self.changed:
            if (
                parts == ["2018-06-01", "runtime", "invocation", "next"]
                and request.command == "GET"
            ):
                self.waiting.append(request)
                self.changed.notify_all()
                self.changed.wait_for(
                    lambda: self.closed or (self.events and self.waiting[0] is request)
                )
                self.waiting.remove(request)
                self.changed.notify_all()
                if self.closed:
                    request.close_connection = True
                    return None
                request_id, milliseconds, event = self.events.pop(0)
                deadline = str(int(time.time() * 1000) + milliseconds)
            elif parts == ["2018-06-01", "runtime", "restore", "next"] and request.command == "GET":
                self.restores += 1
                return request.send(200, b"")
            elif (
                parts[:3] == ["2018-06-01", "runtime", "invocation"]
                and parts[3] in self.open
                and len(parts) == 5
            ):
                self.open.remove(parts[3])
                return self.keep(request, parts[4], parts[3], body)
            elif parts[:2] == ["2018-06-01", "runtime"] and parts[2:] in (
                ["init", "error"],
                ["restore", "error"],
            ):
                return self.keep(request, "/".join(parts[2:]), "", body)
            else:
                return request.send(400, b'{"errorType": "InvalidRequestID"}')
        return request.send(
            200,
            event,
            {
                "Content-Type": "application/json",
                "Lambda-Runtime-Aws-Request-Id": request_id,
                "Lambda-Runtime-Deadline-Ms": deadline,
                "Lambda-Runtime-Invoked-Function-Arn": ARN,
            },
        )

    def keep(self, request: Request, kind: str, request_id: str, body: bytes) -> None:
        """Keep what was posted and accept it."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.posted.append(Posted(kind, request_id, headers, body))
        self.changed.notify_all()
        request.send(202, b"")

    def send(self, event: object, milliseconds: int = 5000) -> str:
        """Queue an event, or the bytes of one; the id of its invocation."""
        request_id = str(uuid.uuid4())
        body = event if isinstance(event, bytes) else json.dumps(event).encode()
        with self.changed:
            self.open.add(request_id)
            self.events.append((request_id, milliseconds, body))
            self.changed.notify_all()
        return request_id

    def outcome(self, request_id: str = "") -> Posted | None:
        """What was posted for that invocation; without an id, for the start of the process."""
        return next((posted for posted in self.posted if posted.request_id == request_id), None)


class Function:
    """``python -m awslambdaric`` beside an Extension. ``settings`` are added to what Lambda sets;
    None removes one.

    ``telemetry`` is whether log lines go to the channel that Lambda gives the client, or to
    standard output, as for several workers. ``module`` is the name of the authorizer's file in the
    deployment package.
    """

    def __init__(
        self,
        folder: Path,
        extension: Extension,
        settings: Mapping[str, str | None] = MappingProxyType({}),
        module: str = "authorizer",
        telemetry: bool = True,
    ) -> None:
        self.api = RuntimeApi()
        task_root = folder / module
        if not task_root.exists():
            task_root.mkdir()
            shutil.copy(SUBJECT, task_root / f"{module}.py")
        python = f"{sys.version_info[0]}.{sys.version_info[1]}"
        environment: dict[str, str | None] = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            # Some builds of Python do not start without.
            "LD_LIBRARY_PATH": os.environ.get("LD_LIBRARY_PATH"),
            "LANG": "en_US.UTF-8",
            "TZ": ":UTC",
            "LAMBDA_TASK_ROOT": str(task_root),
            "AWS_REGION": "eu-central-1",
            "AWS_DEFAULT_REGION": "eu-central-1",
            "AWS_ACCESS_KEY_ID": "canary-access-key-id",
            "AWS_SECRET_ACCESS_KEY": "canary-secret-access-key",
            "AWS_SESSION_TOKEN": TOKEN,
            "AWS_EXECUTION_ENV": f"AWS_Lambda_python{python}",
            "AWS_LAMBDA_FUNCTION_NAME": "authorizer",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/authorizer",
            "AWS_LAMBDA_LOG_STREAM_NAME": "2026/11/22/[$LATEST]0123456789abcdef",
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self.api.port}",
            "_HANDLER": f"{module}.handler",
            "SECRET_NAME": extension.secret.name,
            "SECRET_KEY_NAME": extension.secret.member,
            "SECRETS_MANAGER_TTL": "0",
            "PARAMETERS_SECRETS_EXTENSION_HTTP_PORT": str(extension.port),
            **settings,
        }
        output = folder / uuid.uuid4().hex
        self.files = {
            name: output.with_suffix(f".{name}").open("w+b")
            for name in ("stdout", "stderr", "telemetry")
        }
        channel = self.files["telemetry"].fileno()
        if telemetry:
            environment["_LAMBDA_TELEMETRY_LOG_FD"] = str(channel)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "awslambdaric", f"{module}.handler"],
            cwd=task_root,
            env={name: value for name, value in environment.items() if value is not None},
            stdin=subprocess.DEVNULL,
            stdout=self.files["stdout"],
            stderr=self.files["stderr"],
            pass_fds=[channel] if telemetry else [],
            start_new_session=True,  # so that its workers can be ended with it
        )

    def __enter__(self) -> Function:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(ProcessLookupError):  # it may have ended by itself
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.api.stop()
        printed = os.pread(self.files["stderr"].fileno(), 1 << 24, 0).decode()
        for file in self.files.values():
            file.close()
        assert kind or not printed, printed  # all that there is to say goes through logging

    def wait(self, what: Callable[[], object], to: str) -> None:
        """Wait until the Runtime API has seen something.

        Raises AssertionError if it does not come.
        """
        until = time.monotonic() + PATIENCE
        with self.api.changed:
            # In turns, to notice the end of the process.
            while not self.api.changed.wait_for(what, 0.1):
                if self.process.poll() is not None or time.monotonic() > until:
                    break
            happened = what()
        state = self.process.poll()
        output = self.output().decode(errors="replace")  # telemetry frames are not all text
        assert happened, f"the function did not {to}; exit status {state}, output:\n{output}"

    def start(self, workers: int = 1) -> None:
        """Wait until that many workers have started and ask for an invocation."""
        self.wait(lambda: len(self.api.waiting) >= workers, "start")

    def answer(self, request_id: str) -> Posted:
        """What the function posts, or has posted, for an invocation."""
        self.wait(lambda: self.api.outcome(request_id), "answer")
        posted = self.api.outcome(request_id)
        assert posted
        return posted

    def invoke(self, event: object, milliseconds: int = 5000) -> Posted:
        """Send an event, or the bytes of one, and wait for what comes of it."""
        return self.answer(self.api.send(event, milliseconds))

    def output(self) -> bytes:
        """All that the process has written anywhere."""
        return b"".join(os.pread(file.fileno(), 1 << 24, 0) for file in self.files.values())

    def messages(self) -> list[tuple[str, str]]:
        """Every message logged so far, ours and the client's, with the level that its frame
        says.
        """
        messages: list[tuple[str, str]] = []
        data = os.pread(self.files["telemetry"].fileno(), 1 << 24, 0)
        while data:
            end = FRAME_HEADER + int.from_bytes(data[4:8], "big")
            assert len(data) >= end
            messages.append(
                (FRAME_LEVELS[int.from_bytes(data[:4], "big")], data[FRAME_HEADER:end].decode())
            )
            data = data[end:]
        standard = os.pread(self.files["stdout"].fileno(), 1 << 24, 0).decode()
        return messages + [("", line) for line in re.findall(r"[^\n]*\n|[^\n]+\Z", standard)]

    def lines(self) -> list[Line]:
        """The authorizer's own lines, each checked to be one line."""
        lines: list[Line] = []
        for frame_level, message in self.messages():
            if message.startswith("{"):
                entry: dict[str, Any] = json.loads(message)
                if entry.pop("logger", "") != "authorizer":
                    continue
                assert message.endswith("}\n") and len(message.splitlines()) == 1, message
                assert entry.pop("timestamp").endswith("Z")
                head = [entry.pop("level"), entry.pop("requestId"), entry.pop("message")]
                assert all(isinstance(value, str) for value in entry.values()), message
                lines.append(Line(head[0], head[1], head[2], entry, frame_level))
            elif not message.startswith("[ERROR] "):  # that is the client's, of an exception
                match = TEXT_LINE.fullmatch(message)
                assert match and len(message.splitlines()) == 1, message
                level, _, request_id, text = match.groups()
                lines.append(
                    Line(level, request_id, text, dict(TEXT_FIELD.findall(text)), frame_level)
                )
        return lines

    def decisions(self) -> list[Line]:
        """Of the authorizer's lines those that tell an outcome."""
        return [line for line in self.lines() if "outcome" in line.fields]
