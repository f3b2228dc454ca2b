# SPDX-License-Identifier: MIT
"""Under AWS's own runtime client, in a process of its own: answers, log lines, error reports,
starts and outages.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import NEW, NEWER, OLD
from lib.runtime_api import Function, Line, Posted
from lib.standins import (
    API,
    BAD_TOKEN,
    CURRENT,
    GENERIC_ERROR,
    NOT_READY,
    PENDING,
    TOKEN,
    Extension,
    Fault,
    Request,
    Secret,
    http_api_1,
    http_api_2,
    rest_request,
    rest_token,
)

STAGE = f"{API}/prod"
LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}
FORMATS = ["Text", "JSON"]


def http_api(key: object, **changes: object) -> dict[str, object]:
    """An HTTP API's event of payload format 2.0."""
    return http_api_2({"host": "example.org", "x-origin-verify": key}, "prod") | changes


def rest(key: object, **changes: object) -> dict[str, object]:
    """A REST API's REQUEST event."""
    single = {"Host": "example.org", "X-Origin-Verify": key}
    return rest_request(single, {name: [value] for name, value in single.items()}) | changes


def policy(effect: str, context: dict[str, str]) -> dict[str, object]:
    """The IAM policy that such an event is answered with."""
    statement = {"Action": "execute-api:Invoke", "Effect": effect, "Resource": f"{STAGE}/*"}
    return {
        "principalId": "cloudfront",
        "policyDocument": {"Version": "2012-10-17", "Statement": [statement]},
        "context": context,
    }


def simple(allowed: bool, context: dict[str, str]) -> dict[str, object]:
    """The simple response that such an event is answered with."""
    return {"isAuthorized": allowed, "context": context}


def same_json(body: bytes, expected: object) -> bool:
    """Whether a body is that JSON, and not just equal in Python, where 1 is True."""
    return json.dumps(json.loads(body), sort_keys=True) == json.dumps(expected, sort_keys=True)


def refused(posted: Posted) -> bool:
    """Whether an invocation ended in a normal refusal: a simple response, or a policy that
    denies.
    """
    if posted.kind != "response":
        return False
    answer = posted.json()
    if "policyDocument" in answer:
        return bool([s["Effect"] for s in answer["policyDocument"]["Statement"]] == ["Deny"])
    return answer["isAuthorized"] is False


def allowed(posted: Posted) -> bool:
    return posted.kind == "response" and posted.json()["isAuthorized"] is True


def canned(status: int, body: bytes) -> Fault:
    """A fault that always answers the same."""

    def fault(request: Request, right: bytes) -> None:
        request.send(status, body)

    return fault


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all processes of this file have their deployment package and output."""
    return tmp_path_factory.mktemp("runtime")


@pytest.fixture
def secret() -> Secret:
    """A secret whose current key is OLD."""
    secret = Secret()
    secret.put(OLD)
    return secret


@pytest.fixture
def extension(secret: Secret) -> Iterator[Extension]:
    extension = Extension(secret, TOKEN)
    yield extension
    extension.stop()


# --- Answers


# A file inlined in a template is called index.py.
@pytest.mark.parametrize("module", ["authorizer", "index"])
def test_what_is_posted_is_the_exact_answer(
    folder: Path, extension: Extension, module: str
) -> None:
    extension.secret.put(NEW, PENDING)
    contexts = {
        key: {"secretStage": stage, "secretVersionId": extension.secret.labels[stage]}
        for key, stage in ((OLD, CURRENT), (NEW, PENDING))
    }
    with Function(folder, extension, module=module) as function:
        for key, context in contexts.items():
            assert same_json(function.invoke(http_api(key)).body, simple(True, context))
            assert same_json(function.invoke(rest(key)).body, policy("Allow", context))
            payload_1 = http_api_1({"x-origin-verify": key}) | {"methodArn": f"{STAGE}/GET/items/1"}
            assert same_json(function.invoke(payload_1).body, policy("Allow", context))
            assert same_json(function.invoke(rest_token(key)).body, policy("Allow", context))
        assert same_json(function.invoke(http_api(NEWER)).body, simple(False, {}))
        assert same_json(function.invoke(rest(NEWER)).body, policy("Deny", {}))
        assert {posted.headers["content-type"] for posted in function.api.posted} == {
            "application/json"
        }
        assert {posted.kind for posted in function.api.posted} == {"response"}


@pytest.mark.parametrize("module", ["authorizer", "index"])
def test_an_error_is_posted_when_it_cannot_know(
    folder: Path, extension: Extension, module: str
) -> None:
    extension.faults["*"] = canned(401, BAD_TOKEN)
    with Function(folder, extension, module=module) as function:
        for event in (http_api(OLD), rest(OLD)):
            posted = function.invoke(event)
            report = posted.json()
            assert posted.kind == "error"
            assert set(report) == {"errorMessage", "errorType", "requestId", "stackTrace"}
            assert report["errorType"] == "SecretUnavailableError"
            assert report["errorMessage"].startswith("session_rejected: ")
            assert report["requestId"] == posted.request_id
        assert len(function.api.posted) == 2


def test_the_time_left_is_the_one_that_lambda_gives(folder: Path, extension: Extension) -> None:
    with Function(folder, extension) as function:
        report = function.invoke(http_api(OLD), milliseconds=0).json()
        assert report["errorMessage"].startswith("extension_unavailable: ")
        assert extension.seen == []


# --- Log lines


def emit_every_level(function: Function, extension: Extension) -> list[Posted]:
    """An allowed event, one that cannot be judged, and a refused one: the posted answers.

    They log at INFO, ERROR and WARNING, and at DEBUG where that is on.
    """
    first = function.invoke(http_api(OLD))
    extension.faults["*"] = canned(401, BAD_TOKEN)
    return [first, function.invoke(rest(NEW)), function.invoke(http_api(None))]


@pytest.mark.parametrize(
    ("module", "telemetry"),
    [("authorizer", True), ("authorizer", False), ("index", True)],
    ids=["", "stdout", "index"],
)
@pytest.mark.parametrize("log_format", [*FORMATS, "json", None])
def test_every_field_of_a_decision_is_logged(
    folder: Path, extension: Extension, log_format: str | None, module: str, telemetry: bool
) -> None:
    with Function(
        folder, extension, {"AWS_LAMBDA_LOG_FORMAT": log_format}, module, telemetry
    ) as function:
        posted = emit_every_level(function, extension)
        lines = function.decisions()
        messages = [message for _, message in function.messages()]
    as_json = (log_format or "").upper() == "JSON"
    assert {message.startswith("{") for message in messages} == {as_json}
    origin = {
        "request_id": "JKJaXmPLvHcESHA=",
        "source_ip": "192.0.2.7",
        "route": "GET /items/{id}",
    }
    nothing = {"stage": "-", "version_id": "-"}
    current = {"stage": CURRENT, "version_id": extension.secret.labels[CURRENT]}
    assert [line.fields for line in lines] == [
        {"outcome": "allow", "reason": "key_matched", **current, **origin},
        {"outcome": "error", "reason": "session_rejected", **nothing, **origin},
        {"outcome": "refuse", "reason": "header_missing", **nothing, **origin},
    ]
    assert [line.level for line in lines] == ["INFO", "ERROR", "WARNING"]
    assert [line.request_id for line in lines] == [one.request_id for one in posted]
    assert [line.frame_level for line in lines] == (
        ["INFO", "ERROR", "WARNING"] if as_json and telemetry else [""] * 3
    )


LEVEL_SETTINGS = [  # LOG_LEVEL, AWS_LAMBDA_LOG_LEVEL, the least level that is logged
    (None, None, "INFO"),
    ("", "", "INFO"),
    ("DEBUG", None, "DEBUG"),
    ("INFO", None, "INFO"),
    ("WARNING", None, "WARNING"),
    ("ERROR", None, "ERROR"),
    ("CRITICAL", None, "CRITICAL"),
    ("TRACE", None, "DEBUG"),
    ("WARN", None, "WARNING"),
    ("FATAL", None, "CRITICAL"),
    ("warning", None, "WARNING"),
    (None, "TRACE", "DEBUG"),
    (None, "DEBUG", "DEBUG"),
    (None, "INFO", "INFO"),
    (None, "WARN", "WARNING"),
    (None, "ERROR", "ERROR"),
    (None, "FATAL", "CRITICAL"),
    ("", "DEBUG", "DEBUG"),
    ("DEBUG", "ERROR", "DEBUG"),
    ("ERROR", "DEBUG", "ERROR"),
    ("INFO", "FATAL", "INFO"),
    ("CRITICAL", "TRACE", "CRITICAL"),
]


@pytest.mark.parametrize("log_format", FORMATS)
@pytest.mark.parametrize(("level", "lambda_level", "least"), LEVEL_SETTINGS)
def test_what_is_logged_at_each_level(
    folder: Path,
    extension: Extension,
    log_format: str,
    level: str | None,
    lambda_level: str | None,
    least: str,
) -> None:
    variables = {
        "AWS_LAMBDA_LOG_FORMAT": log_format,
        "LOG_LEVEL": level,
        "AWS_LAMBDA_LOG_LEVEL": lambda_level,
    }
    with Function(folder, extension, variables) as function:
        emit_every_level(function, extension)
        lines = function.lines()
        reports = [
            message
            for _, message in function.messages()
            if "stackTrace" in message or "Traceback" in message
        ]
    assert {line.level for line in lines} == {
        name for name, value in LEVELS.items() if LEVELS[least] <= value < 50
    }
    assert len(reports) == 1  # the client's, of the exception; it has no level
    for line in lines:  # the frame tells Lambda the level
        assert line.frame_level == (line.level if log_format == "JSON" or lambda_level else "")


# --- Error reports

CANARY = "canary-secret-value-0123456789"
PRESENTED = "canary-presented-key-0123456789"
VERSION = {"VersionId": "v", "CreatedDate": "2026-11-22T08:22:40.499Z"}
# Status and body of the Extension, what the report must begin with.
BROKEN: dict[str, tuple[int, object, str]] = {
    "session rejected": (401, f"{BAD_TOKEN.decode()}: {TOKEN}", "session_rejected: "),
    "no such version": (400, f"{GENERIC_ERROR.decode()}: {CANARY}", "current_unreadable: "),
    "not the Extension": (
        302,
        {**VERSION, "SecretString": json.dumps({"key": CANARY})},
        "answer_unexpected: ",
    ),
    "not JSON": (200, CANARY, "answer_unexpected: "),
    "version id malformed": (
        200,
        {**VERSION, "VersionId": [CANARY], "SecretString": CANARY},
        "answer_unexpected: ",
    ),
    "date malformed": (
        200,
        {**VERSION, "CreatedDate": CANARY, "SecretString": json.dumps({"key": CANARY})},
        "date_unreadable: ",
    ),
    "secret no JSON": (200, {**VERSION, "SecretString": CANARY}, "current_unusable: "),
    "secret no key": (
        200,
        {**VERSION, "SecretString": json.dumps({"other": CANARY})},
        "current_unusable: ",
    ),
    "key no string": (
        200,
        {**VERSION, "SecretString": json.dumps({"key": [CANARY]})},
        "current_unusable: ",
    ),
    "key not visible": (
        200,
        {**VERSION, "SecretString": json.dumps({"key": CANARY + " "})},
        "current_unusable: ",
    ),
}


def everything(function: Function) -> bytes:
    """All that a function has written or posted, with the values of the headers."""
    posted = [part for one in function.api.posted for part in (one.body, str(one.headers).encode())]
    return b"\n".join([function.output(), *posted])


@pytest.mark.parametrize("log_format", FORMATS)
@pytest.mark.parametrize("case", BROKEN)
def test_an_error_report_holds_nothing_secret(
    folder: Path, extension: Extension, case: str, log_format: str
) -> None:
    status, body, message = BROKEN[case]
    extension.faults["*"] = canned(
        status, (body if isinstance(body, str) else json.dumps(body)).encode()
    )
    variables = {
        "AWS_LAMBDA_LOG_FORMAT": log_format,
        "LOG_LEVEL": "DEBUG",
        "ACCEPT_PREVIOUS_SECONDS": "900",
    }
    with Function(folder, extension, variables) as function:
        posted = function.invoke(
            http_api(PRESENTED, rawPath=f"/{PRESENTED}", rawQueryString=PRESENTED)
        )
        assert posted.kind == "error"
        assert posted.json()["errorMessage"].startswith(message)
        assert (b"stackTrace" if log_format == "JSON" else b"Traceback") in function.output()
        assert b"canary" not in everything(function)


@pytest.mark.parametrize("log_format", FORMATS)
def test_an_answer_holds_nothing_secret(
    folder: Path, extension: Extension, log_format: str
) -> None:
    extension.secret.put(CANARY)
    with Function(
        folder, extension, {"AWS_LAMBDA_LOG_FORMAT": log_format, "LOG_LEVEL": "DEBUG"}
    ) as function:
        assert allowed(function.invoke(http_api(CANARY, rawPath=f"/{CANARY}")))
        assert refused(function.invoke(http_api(PRESENTED, rawQueryString=PRESENTED)))
        assert refused(function.invoke(http_api(f" {PRESENTED}")))
        assert {line.level for line in function.lines()} == {"DEBUG", "INFO", "WARNING"}
        assert b"canary" not in everything(function)


@pytest.mark.parametrize("log_format", FORMATS)
def test_malformed_settings_are_named_without_their_values(
    folder: Path, extension: Extension, log_format: str
) -> None:
    names = [
        "SECRET_NAME",
        "HEADER_NAME",
        "CACHE_SECONDS",
        "RESPONSE_FORMAT",
        "LOG_LEVEL",
        "AWS_SESSION_TOKEN",
    ]
    variables = {"AWS_LAMBDA_LOG_FORMAT": log_format, **dict.fromkeys(names, f"{CANARY} ")}
    with Function(folder, extension, variables) as function:
        report = function.invoke(http_api(OLD)).json()
        assert report["errorType"] == "SettingsError"
        assert [part.split()[0] for part in report["errorMessage"].split("; ")] == names
        assert b"canary" not in everything(function)


# --- Starts and outages


def test_the_extension_is_left_alone_until_the_first_invocation(
    folder: Path, extension: Extension
) -> None:
    with Function(folder, extension) as function:
        function.start()
        assert extension.seen == []
        assert allowed(function.invoke(http_api(OLD)))
        assert extension.seen == [CURRENT]


@pytest.mark.parametrize("grace", ["0", "900"])
def test_a_cold_start_waits_for_an_extension_that_is_not_ready(
    folder: Path, extension: Extension, grace: str
) -> None:
    waited: list[str] = []

    def not_ready(request: Request, right: bytes) -> None:
        waited.append(request.path)
        request.send(400, NOT_READY)

    extension.faults["*"] = not_ready
    with Function(folder, extension, {"ACCEPT_PREVIOUS_SECONDS": grace}) as function:
        function.start()
        ready = threading.Timer(0.8, extension.faults.clear)
        ready.start()
        assert allowed(function.invoke(http_api(OLD)))
        ready.join()
        assert waited


def test_a_cold_start_waits_for_the_extensions_port_to_open(
    folder: Path, extension: Extension
) -> None:
    extension.stop()
    with Function(folder, extension, {"ACCEPT_PREVIOUS_SECONDS": "900"}) as function:
        function.start()
        opens = threading.Timer(0.8, extension.start)
        opens.start()
        assert allowed(function.invoke(http_api(OLD)))
        opens.join()


def test_the_extension_dies_and_comes_back(folder: Path, extension: Extension) -> None:
    with Function(folder, extension, {"CACHE_SECONDS": "0"}) as function:
        assert allowed(function.invoke(http_api(OLD)))
        extension.stop()
        assert allowed(function.invoke(http_api(OLD)))
        assert (
            function.invoke(http_api(NEW))
            .json()["errorMessage"]
            .startswith("extension_unavailable: ")
        )
        extension.start()
        extension.secret.put(NEW, PENDING)
        until = time.monotonic() + 10
        while not allowed(function.invoke(http_api(NEW))):  # it tries again after a second
            assert time.monotonic() < until
            assert not refused(function.api.posted[-1])
            time.sleep(0.1)
        assert refused(function.invoke(http_api(NEWER)))
        reasons = [line.fields["reason"] for line in function.decisions()]
        assert reasons[:3] == ["key_matched", "key_matched_stale", "extension_unavailable"]
        assert reasons[-2:] == ["key_matched", "key_unknown"]


@pytest.mark.parametrize("log_format", FORMATS)
def test_a_rotation_is_followed_by_every_worker(
    folder: Path, extension: Extension, log_format: str
) -> None:
    """On Lambda Managed Instances several processes serve one environment and share one
    Extension.
    """
    workers = 3
    settings = {"AWS_LAMBDA_MAX_CONCURRENCY": str(workers), "AWS_LAMBDA_LOG_FORMAT": log_format}
    with Function(folder, extension, settings) as function:

        def everywhere(key: str) -> list[Posted]:
            """What each worker answers: all wait for an event, and there is one for each."""
            function.start(workers)
            sent = [function.api.send(http_api(key)) for _ in range(workers)]
            return [function.answer(request_id) for request_id in sent]

        assert all(allowed(posted) for posted in everywhere(OLD))
        assert extension.seen.count(CURRENT) == workers  # so it was every worker that answered
        assert all(refused(posted) for posted in everywhere(NEW))
        extension.secret.put(NEW, PENDING)
        # The age from which a refusal needs new data; no clock can be moved in another process.
        time.sleep(1.01)
        assert all(allowed(posted) for posted in everywhere(NEW))
        assert all(allowed(posted) for posted in everywhere(OLD))
        assert len(function.decisions()) == 4 * workers


@pytest.mark.parametrize("log_format", FORMATS)
def test_without_the_token_every_invocation_ends_in_an_error_that_names_it(
    folder: Path, extension: Extension, log_format: str
) -> None:
    """As under SnapStart, which the authorizer does not support."""
    snap_start = {"AWS_SESSION_TOKEN": None, "AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"}
    with Function(
        folder, extension, {"AWS_LAMBDA_LOG_FORMAT": log_format, **snap_start}
    ) as function:
        events = [http_api(OLD), http_api(OLD), rest(NEW), None]
        for event in events:
            posted = function.invoke(event)
            assert (posted.kind, posted.json()["errorType"]) == ("error", "SettingsError")
            assert posted.json()["errorMessage"].startswith("AWS_SESSION_TOKEN ")
            assert "SnapStart" in posted.json()["errorMessage"]
        assert function.api.restores == 1  # so it was started as under SnapStart
        assert len(function.lines()) == len(events)
        for line in function.lines():
            assert (line.level, line.message.split()[:2]) == (
                "ERROR",
                ["settings_invalid:", "AWS_SESSION_TOKEN"],
            )
            if log_format == "JSON":
                assert line.fields == {"outcome": "error", "reason": "settings_invalid"}
        assert extension.seen == []


# --- Hostile events

SURROGATE = "\ud800"
NASTY = [
    'a" outcome="allow',
    "a\nb",
    "a\r\nb",
    "a\u2028b\x85c\x1bd\x00e",
    SURROGATE,
    "\udfff\ud800",
    "\ufffd",
    "\U0001f511",
    "%s%n%(x)s",
]
HOSTILE: list[object] = [
    *(None, True, 0, 1.5, "", OLD, [], [OLD], [{"headers": {"x-origin-verify": OLD}}], {}),
    *(
        {"headers": headers}
        for headers in (None, OLD, [OLD], {SURROGATE: OLD}, {"x-origin-verify": {"key": OLD}})
    ),
    *(
        http_api(key)
        for key in (NEW * 330, "k" * 1_000_000, OLD + SURROGATE, SURROGATE, [OLD], {OLD: OLD})
    ),
    http_api(OLD, headers={"x-origin-verify": OLD, "X-Origin-Verify": OLD}),
    *(rest(OLD, methodArn=arn) for arn in (None, SURROGATE, [f"{STAGE}/GET/"])),
    rest(OLD, multiValueHeaders={"x-origin-verify": [OLD, OLD]}),
    rest(NEW, requestContext=[SURROGATE]),
    {"type": SURROGATE, "headers": {"x-origin-verify": OLD}},
    *(
        http_api(NEW, routeKey=bad, requestContext={"requestId": bad, "http": {"sourceIp": bad}})
        for bad in NASTY
    ),
    *(
        rest(NEW, resource=bad, requestContext={"requestId": bad, "identity": {"sourceIp": bad}})
        for bad in NASTY
    ),
    json.loads("[" * 300 + "]" * 300),
]


def check_lines(lines: list[Line]) -> None:
    """Each is a whole decision in visible ASCII: nothing in an event has forged or broken one."""
    for line in lines:
        assert set(line.fields) == {
            "outcome",
            "reason",
            "stage",
            "version_id",
            "request_id",
            "source_ip",
            "route",
        }
        assert all(
            value and value.isascii() and value.isprintable() for value in line.fields.values()
        )


@pytest.mark.parametrize("telemetry", [True, False], ids=["telemetry", "stdout"])
@pytest.mark.parametrize("log_format", FORMATS)
def test_a_hostile_event_is_refused_and_the_process_goes_on(
    folder: Path, extension: Extension, log_format: str, telemetry: bool
) -> None:
    with Function(
        folder, extension, {"AWS_LAMBDA_LOG_FORMAT": log_format}, telemetry=telemetry
    ) as function:
        for event in HOSTILE:
            posted = function.invoke(event)
            assert refused(posted), (event, posted)
        assert allowed(function.invoke(http_api(OLD)))
        lines = function.decisions()
        assert [line.fields["outcome"] for line in lines] == ["refuse"] * len(HOSTILE) + ["allow"]
        check_lines(lines)
        assert function.process.poll() is None


ANY_TEXT = st.text(st.characters(), max_size=20)  # surrogates too, which JSON can carry as escapes
ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=8,
)
FIELDS = [
    "version",
    "type",
    "methodArn",
    "routeArn",
    "routeKey",
    "headers",
    "multiValueHeaders",
    "requestContext",
]
ANY_EVENT = ANY_JSON | st.dictionaries(st.sampled_from(FIELDS), ANY_JSON).flatmap(
    lambda changes: st.sampled_from([http_api(NEW, **changes), rest(NEW, **changes)])
)


@pytest.mark.parametrize("log_format", FORMATS)
def test_any_event_without_the_key_is_refused(
    folder: Path, extension: Extension, log_format: str
) -> None:
    with Function(folder, extension, {"AWS_LAMBDA_LOG_FORMAT": log_format}) as function:

        @given(ANY_EVENT)
        def check(event: Any) -> None:
            posted = function.invoke(event)
            assert refused(posted), posted

        check()
        check_lines(function.decisions())
        assert len(function.decisions()) == len(function.api.posted)
