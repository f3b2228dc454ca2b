# SPDX-License-Identifier: MIT
"""Stand-ins for the AWS parts around the authorizer, for scripts and tests; nothing to install.

``Secret``     a secret in Secrets Manager: versions, and staging labels that move as the service
moves them.
``Extension``  the AWS Parameters and Secrets Lambda Extension, over real HTTP on 127.0.0.1, with
faults.
``Gateway``    an API Gateway HTTP API with a Lambda authorizer and its result cache, over real
HTTP.
``Clock``      both clocks of a machine, which can be moved on.
``http_api_2`` and its like make the events that API Gateway sends to an authorizer.

An example, which prints the answer to a live key:

    export SECRET_NAME=prod/origin-key SECRET_KEY_NAME=key SECRETS_MANAGER_TTL=0
    PYTHONPATH=scripts:. AWS_SESSION_TOKEN=token python3 -c '
    from authorizer import handler
    from lib.standins import Extension, Secret
    secret = Secret("prod/origin-key", member="key")
    secret.put("a-key-for-tests-only")
    with Extension(secret, "token", port=2773):
        print(handler({"headers": {"x-origin-verify": "a-key-for-tests-only"}}, None))
    '
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import threading
import time
import uuid
from collections.abc import Callable
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlencode, urlsplit

from lib.console import ROOT

S = TypeVar("S", bound="Server")

# The file under test; the suite can be aimed at a copy, such as the text inlined in a template.
# Absolute, as tests start processes in other folders.
SUBJECT = Path(os.environ.get("AUTHORIZER_UNDER_TEST", ROOT / "authorizer.py")).absolute()

TOKEN = "session-canary-zyxwvutsrqponmlk"  # what Lambda would give as AWS_SESSION_TOKEN
API = "arn:aws:execute-api:eu-central-1:123456789012:abcdef1234"
REQUEST_ID = "JKJaXmPLvHcESHA="
PENDING, CURRENT, PREVIOUS = "AWSPENDING", "AWSCURRENT", "AWSPREVIOUS"

# The texts are AWS's own, recorded from the real Extension.
GENERIC_ERROR = b"an unexpected error occurred while executing request"
NOT_READY = b"not ready to serve traffic, please wait"
BAD_TOKEN = b"bad session token or header key"


class Clock:
    """Stands in for the module ``time``: the real clocks, plus what they were moved on by
    (seconds).

    ``sleep`` moves them on instead of waiting, unless the sleep is to be ``real``.
    """

    def __init__(self, real: bool = False) -> None:
        self.real = real
        self.moved = 0.0  # both clocks
        # The wall clock alone: an environment that was frozen, or a corrected clock.
        self.wall_moved = 0.0

    def time(self) -> float:
        return time.time() + self.moved + self.wall_moved

    def monotonic(self) -> float:
        return time.monotonic() + self.moved

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds if self.real else 0)
        self.moved += 0 if self.real else seconds

    def move(self, seconds: float) -> None:
        self.moved += seconds


class Version:
    """A version of a secret: a string, or a binary, or no value yet.

    ``created`` is in seconds since 1970.
    """

    def __init__(
        self, created: float, string: str | None = None, binary: str | None = None
    ) -> None:
        self.created = created
        self.string = string
        self.binary = binary  # base64


class Secret:
    """A secret in Secrets Manager. Labels move as in its documentation on staging labels."""

    def __init__(
        self, name: str = "prod/origin-key", member: str = "key", clock: Clock | None = None
    ) -> None:
        self.name = name
        self.arn = f"arn:aws:secretsmanager:eu-central-1:123456789012:secret:{name}-AbCdEf"
        self.member = member
        self.clock = clock or Clock()
        self.versions: dict[str, Version] = {}
        self.labels: dict[str, str] = {}  # staging label: version id

    def put(self, key: object, stage: str = CURRENT) -> str:
        """Store a key in a new version under a staging label (PutSecretValue).

        Return the version's id.
        """
        return self.put_string(json.dumps({self.member: key}), stage)

    def put_string(
        self, string: str | None, stage: str = CURRENT, binary: str | None = None
    ) -> str:
        """Like ``put``, with the whole SecretString, a SecretBinary, or neither: a version
        without a value.
        """
        version_id = str(uuid.uuid4())
        self.versions[version_id] = Version(self.clock.time(), string, binary)
        self.label(stage, version_id)
        return version_id

    def label(self, stage: str, version_id: str) -> None:
        """Move a label (UpdateSecretVersionStage). AWSPREVIOUS follows AWSCURRENT by itself."""
        if stage == CURRENT and CURRENT in self.labels and self.labels[CURRENT] != version_id:
            self.labels[PREVIOUS] = self.labels[CURRENT]
        self.labels[stage] = version_id

    def finish(self, keep_pending: bool = True) -> None:
        """finishSecret: the pending version becomes the current one.

        AWSPENDING stays on it or goes: both happen.
        """
        self.label(CURRENT, self.labels[PENDING])
        if not keep_pending:
            self.unlabel(PENDING)

    def unlabel(self, stage: str) -> None:
        """Take a label off (UpdateSecretVersionStage with RemoveFromVersionId)."""
        self.labels.pop(stage, None)

    def answer(self, secret_id: str, stage: str) -> tuple[int, bytes]:
        """What the Extension answers for one label: status and body."""
        version = self.versions.get(self.labels.get(stage, ""))
        if (
            secret_id not in (self.name, self.arn)
            or not version
            or (version.string is None and version.binary is None)
        ):
            return 400, GENERIC_ERROR
        version_id = self.labels[stage]
        created = datetime.fromtimestamp(version.created, timezone.utc)
        return 200, json.dumps(
            {
                "ARN": self.arn,
                "CreatedDate": created.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
                "Name": self.name,
                "SecretBinary": version.binary,
                "SecretString": version.string,
                "VersionId": version_id,
                "VersionStages": [
                    label for label, labelled in self.labels.items() if labelled == version_id
                ],
                "ResultMetadata": {},
            }
        ).encode()


class Server:
    """An HTTP server on a loopback port, in threads, ended by ``stop`` or at the end of a
    ``with`` block.
    """

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self._server: ThreadingHTTPServer | None = None
        self.start()

    def respond(self, request: Request) -> None:
        raise NotImplementedError

    def start(self) -> None:
        """Listen, on the same port as before if there was one."""
        owner = self

        class Handler(Request):
            def do_GET(self) -> None:
                owner.respond(self)

            do_POST = do_GET

        self._server = _Threads(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        # Stopping waits for one poll, so the poll is short.
        threading.Thread(target=self._server.serve_forever, args=(0.002,), daemon=True).start()

    def stop(self) -> None:
        """Stop listening: connections are refused from now on."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def __enter__(self: S) -> S:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


class _Threads(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a thread that hangs on purpose must not hold up the end

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore it: in some tests the client gives up."""


class Request(BaseHTTPRequestHandler):
    """One request, with one way to answer it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or the body waits for the peer to acknowledge the head: 40 ms

    def send(
        self,
        status: int,
        body: bytes,
        headers: dict[str, str] | None = None,
        framing: str = "length",
    ) -> None:
        """Answer. ``framing`` tells where the body ends: by its "length", "chunked", or by the
        "close" of the connection.
        """
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if framing == "length":
            self.send_header("Content-Length", str(len(body)))
        elif framing == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
            parts = [body[start : start + 2048] for start in range(0, len(body), 2048)]
            body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in [*parts, b""])
        else:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: whoever runs a stand-in wants to read their own output."""


# Answers a request wrongly; is given the body that would be right.
Fault = Callable[[Request, bytes], None]


class Extension(Server):
    """Serves a ``Secret`` like the Extension does; ``token`` is the only one it takes.

    ``faults`` maps a staging label, or "*" for all of them, to what answers in place of the real
    thing.
    ``seen`` lists the label of every request with the right token and path.
    ``framing`` is how the true answers end, see ``Request.send``.
    """

    def __init__(self, secret: Secret, token: str, port: int = 0) -> None:
        self.secret = secret
        self.token = token
        self.faults: dict[str, Fault] = {}
        self.seen: list[str] = []
        self.framing = "length"
        super().__init__(port)

    def respond(self, request: Request) -> None:
        url = urlsplit(request.path)
        query = parse_qs(url.query)
        if request.headers.get("X-Aws-Parameters-Secrets-Token") != self.token:
            return request.send(401, BAD_TOKEN)
        if url.path != "/secretsmanager/get" or not set(query) <= {
            "secretId",
            "versionStage",
            "versionId",
        }:
            return request.send(404, b"not found")
        stage = query.get("versionStage", [CURRENT])[0]
        self.seen.append(stage)
        status, body = self.secret.answer(query.get("secretId", [""])[0], stage)
        fault = self.faults.get(stage) or self.faults.get("*")
        if fault:
            return fault(request, body)
        return request.send(status, body, framing=self.framing)


class Context:
    """The part of Lambda's context object that the authorizer uses."""

    def __init__(self, milliseconds: int = 5000) -> None:
        self.milliseconds = milliseconds

    def get_remaining_time_in_millis(self) -> int:
        return self.milliseconds


def straightforward(port: int, secret: Secret, token: str) -> Callable[[object, object], Any]:
    """An authorizer as many are written: AWSCURRENT, then AWSPENDING, for every request.

    A label that cannot be read is taken for absent; if that is AWSCURRENT, it raises.
    """

    def key_under(label: str) -> str | None:
        query = urlencode({"secretId": secret.name, "versionStage": label})
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=3)
        headers = {"X-Aws-Parameters-Secrets-Token": token}
        connection.request("GET", f"/secretsmanager/get?{query}", headers=headers)
        with contextlib.closing(connection), connection.getresponse() as response:
            if response.status != 200:
                return None
            return str(json.loads(json.load(response)["SecretString"])[secret.member])

    def handler(event: Any, context: object) -> dict[str, object]:
        presented, current = event["headers"].get("x-origin-verify"), key_under(CURRENT)
        if current is None:
            raise RuntimeError("no AWSCURRENT")
        return {"isAuthorized": presented in (current, key_under(PENDING))}

    return handler


class ResultCache:
    """API Gateway's cache of an authorizer's decisions, by identity source.

    Errors are never kept.
    """

    def __init__(self, clock: Clock, seconds: float) -> None:
        self.clock = clock
        self.seconds = seconds
        self.kept: dict[str, tuple[float, bool]] = {}  # identity source: end of validity, decision

    def get(self, identity: str) -> bool | None:
        """The decision that is still valid; None if there is none."""
        until, allowed = self.kept.get(identity, (0.0, False))
        return allowed if self.clock.time() < until else None

    def keep(self, identity: str, allowed: bool) -> None:
        """Keep a decision from now on."""
        self.kept[identity] = self.clock.time() + self.seconds, allowed


class Gateway(Server):
    """An HTTP API whose every route has a Lambda authorizer: payload format 2.0, simple responses,
    result cache.

    ``controls`` maps paths to functions that are run without asking the authorizer; their text is
    the answer.
    """

    def __init__(
        self,
        authorizer: Callable[[object, object], dict[str, object]],
        header: str = "x-origin-verify",
        cache_seconds: float = 300,
        clock: Clock | None = None,
        port: int = 0,
    ) -> None:
        self.authorizer = authorizer
        self.header = header
        self.controls: dict[str, Callable[[], str]] = {}
        self.cache = ResultCache(clock or Clock(), cache_seconds)
        self.environment = threading.Lock()  # an execution environment handles one event at a time
        super().__init__(port)

    def respond(self, request: Request) -> None:
        control = self.controls.get(request.path)
        if control:
            return request.send(200, control().encode() + b"\n")
        with self.environment:
            status, text = self.status(request)
        return request.send(
            status,
            json.dumps({"message": text}).encode() + b"\n",
            {"Content-Type": "application/json"},
        )

    def status(self, request: Request) -> tuple[int, str]:
        """What the client gets to see, as API Gateway decides it."""
        headers = headers_of(request)
        identity = headers.get(self.header, "")
        if not identity:
            return 401, "Unauthorized"  # without asking the authorizer
        allowed = self.cache.get(identity)
        if allowed is None:
            path, _, query = request.path.partition("?")
            event = http_api_2(
                headers,
                method=request.command,
                path=path,
                query=query,
                route="$default",
                client=request.client_address[0],
                request_id=uuid.uuid4().hex,
            )
            try:
                allowed = self.authorizer(event, Context())["isAuthorized"] is True
            except Exception:  # whatever it is, API Gateway answers 500 and caches nothing
                return 500, "Internal Server Error"
            self.cache.keep(identity, allowed)
        return (200, "Hello from your API") if allowed else (403, "Forbidden")


def headers_of(request: Request) -> dict[str, str]:
    """A request's headers as an HTTP API gives them: lower-cased.

    What is repeated is joined by commas.
    """
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        name = name.lower()
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers


# Authorizer events as API Gateway sends them, by the kind of API and payload format


def http_api_2(
    headers: object,
    stage: str = "$default",
    method: str = "GET",
    path: str = "/items/1",
    query: str = "",
    route: str = "GET /items/{id}",
    client: str = "192.0.2.7",
    request_id: str = REQUEST_ID,
) -> dict[str, Any]:
    """HTTP API, payload format 2.0."""
    return {
        "version": "2.0",
        "type": "REQUEST",
        "routeArn": f"{API}/{stage}/{method}{path}",
        "identitySource": ["whatever"],
        "routeKey": route,
        "rawPath": path if stage == "$default" else f"/{stage}{path}",
        "rawQueryString": query,
        "headers": headers,
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "abcdef1234",
            "http": {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": client},
            "requestId": request_id,
            "routeKey": route,
            "stage": stage,
        },
    }


def http_api_1(headers: object, multi: object = None) -> dict[str, Any]:
    """HTTP API, payload format 1.0."""
    return {
        "version": "1.0",
        "type": "REQUEST",
        "methodArn": f"{API}/$default/GET/items/1",
        "identitySource": "whatever",
        "authorizationToken": "whatever",
        "resource": "/items/{id}",
        "path": "/items/1",
        "httpMethod": "GET",
        "headers": headers,
        "multiValueHeaders": multi,
        "requestContext": {"identity": {"sourceIp": "192.0.2.7"}, "requestId": REQUEST_ID},
    }


def rest_request(headers: object, multi: object = None) -> dict[str, Any]:
    """REST API, authorizer of type REQUEST."""
    event = http_api_1(headers, multi)
    del event["version"], event["identitySource"], event["authorizationToken"]
    return event | {"methodArn": f"{API}/prod/GET/items/1"}


def rest_token(token: object) -> dict[str, Any]:
    """REST API, authorizer of type TOKEN: these three members and no others."""
    return {"type": "TOKEN", "authorizationToken": token, "methodArn": f"{API}/prod/GET/items/1"}


def websocket(headers: object, multi: object = None) -> dict[str, Any]:
    """WebSocket API, $connect."""
    return {
        "type": "REQUEST",
        "methodArn": f"{API}/prod/$connect",
        "headers": headers,
        "multiValueHeaders": multi,
        "requestContext": {
            "routeKey": "$connect",
            "eventType": "CONNECT",
            "identity": {"sourceIp": "192.0.2.7"},
            "requestId": REQUEST_ID,
        },
    }


def bare(headers: object) -> dict[str, Any]:
    """What the predecessor documents."""
    return {"headers": headers}
