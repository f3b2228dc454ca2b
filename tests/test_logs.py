# SPDX-License-Identifier: MIT
"""One line for each decision, with stable fields, that no request can forge or break."""

from __future__ import annotations

import contextlib
import logging
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import NEW, OLD, World
from lib.console import ROOT
from lib.standins import (
    NOT_READY,
    SUBJECT,
    http_api_1,
    http_api_2,
    rest_request,
    rest_token,
    websocket,
)

HEADER = "x-origin-verify"
FIELDS = ["outcome", "reason", "stage", "version_id", "request_id", "source_ip", "route"]


def fields(line: str) -> dict[str, str]:
    """The fields of a text line, which must have all of them in their order, and nothing else."""
    form = " ".join(rf'{name}="(?P<{name}>[^"]*)"' for name in FIELDS)
    match = re.fullmatch(form, line)
    assert match, line
    return match.groupdict()


def decision(
    world: World, event: object, caplog: pytest.LogCaptureFixture
) -> tuple[logging.LogRecord, dict[str, str]]:
    """The one record of the decision on an event, and its fields as text."""
    caplog.clear()
    with contextlib.suppress(world.module.SecretUnavailableError):
        world.handle(event, 1500)
    (record,) = [record for record in caplog.records if record.getMessage().startswith("outcome=")]
    return record, fields(record.getMessage())


def test_an_allow_is_logged_at_info(world: World, caplog: pytest.LogCaptureFixture) -> None:
    version = world.secret.put(OLD)
    record, line = decision(world, http_api_2({HEADER: OLD}), caplog)
    assert (record.levelno, record.name) == (logging.INFO, "authorizer")
    assert line == {
        "outcome": "allow",
        "reason": "key_matched",
        "stage": "AWSCURRENT",
        "version_id": version,
        "request_id": "JKJaXmPLvHcESHA=",
        "source_ip": "192.0.2.7",
        "route": "GET /items/{id}",
    }


@pytest.mark.parametrize("key", [OLD, NEW])
def test_a_decision_without_a_reading_is_logged_like_one_with(
    world: World, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    world.secret.put(OLD)
    _, first = decision(world, http_api_2({HEADER: key}), caplog)
    world.extension.seen.clear()
    _, second = decision(world, http_api_2({HEADER: key}), caplog)
    assert second == first and world.extension.seen == []


def test_an_allow_from_an_old_snapshot_says_so(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.secret.put(OLD)
    world.ask(OLD)
    world.clock.move(61)
    world.extension.stop()
    record, line = decision(world, http_api_2({HEADER: OLD}), caplog)
    assert (record.levelno, line["outcome"], line["reason"]) == (
        logging.INFO,
        "allow",
        "key_matched_stale",
    )
    assert [(r.levelno, r.getMessage(), vars(r)["reason"]) for r in caplog.records[:-1]] == [
        (logging.WARNING, "scan failed: extension_unavailable", "extension_unavailable")
    ]


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (http_api_2({HEADER: NEW}), "key_unknown"),
        (http_api_2({}), "header_missing"),
        (http_api_2({HEADER: None}), "header_missing"),
        (http_api_2({HEADER: ""}), "header_missing"),
        (http_api_2({HEADER: "é"}), "header_malformed"),
        (http_api_2({HEADER: 7}), "header_malformed"),
        (http_api_2({HEADER: 0}), "header_malformed"),
        (http_api_2({HEADER: OLD, HEADER.upper(): OLD}), "header_ambiguous"),
        (rest_request({HEADER: OLD}, {HEADER: [NEW]}), "header_ambiguous"),
        (rest_request({HEADER: OLD}) | {"methodArn": "*"}, "event_malformed"),
        ("no mapping", "header_missing"),
    ],
)
def test_a_refusal_is_logged_at_warning(
    world: World, event: object, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    world.secret.put(OLD)
    record, line = decision(world, event, caplog)
    assert record.levelno == logging.WARNING
    assert (line["outcome"], line["reason"], line["stage"], line["version_id"]) == (
        "refuse",
        reason,
        "-",
        "-",
    )


def test_could_not_know_is_logged_at_error(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.extension.faults["*"] = lambda request, _: request.send(400, NOT_READY)
    record, line = decision(world, http_api_2({HEADER: OLD}), caplog)
    assert (record.levelno, line["outcome"], line["reason"]) == (
        logging.ERROR,
        "error",
        "extension_unavailable",
    )


def test_debug_tells_what_a_scan_found_and_info_does_not(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    version = world.secret.put(OLD)
    world.ask(OLD)
    assert "scan found" not in caplog.text
    world.set(LOG_LEVEL="DEBUG")
    world.restart().ask(OLD)
    (record,) = [record for record in caplog.records if "scan found" in record.getMessage()]
    assert record.levelno == logging.DEBUG
    assert f"'AWSCURRENT': '{version}'" in record.getMessage()


@pytest.mark.parametrize(
    ("level", "lines"), [("INFO", 2), ("WARNING", 1), ("ERROR", 0), ("CRITICAL", 0)]
)
def test_the_level_is_the_authorizers_own(
    world: World, level: str, lines: int, caplog: pytest.LogCaptureFixture
) -> None:
    world.set(LOG_LEVEL=level)
    world.secret.put(OLD)
    world.ask(OLD)
    world.ask(NEW)
    assert len(caplog.records) == lines


@pytest.mark.parametrize(
    ("event", "route"),
    [
        (http_api_2({}), "GET /items/{id}"),
        (http_api_1({}), "GET /items/{id}"),
        (rest_request({}), "GET /items/{id}"),
        (websocket({}), "$connect"),
    ],
)
def test_every_kind_of_event_gives_its_origin(
    world: World, event: dict[str, Any], route: str, caplog: pytest.LogCaptureFixture
) -> None:
    _, line = decision(world, event, caplog)
    assert (line["request_id"], line["source_ip"], line["route"]) == (
        "JKJaXmPLvHcESHA=",
        "192.0.2.7",
        route,
    )


def test_what_an_event_lacks_is_a_dash(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.secret.put(OLD)
    _, line = decision(world, rest_token(NEW), caplog)
    assert (line["request_id"], line["source_ip"], line["route"]) == ("-", "-", "-")


def test_a_field_is_cut_after_200_characters(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    _, line = decision(world, http_api_2({}) | {"routeKey": "x" * 200 + "y"}, caplog)
    assert line["route"] == "x" * 200


def test_what_the_client_writes_is_not_shown(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """So nothing has to be searched for the key: path, query, cookies, headers, other members."""
    world.secret.put(OLD)
    event = http_api_2({HEADER: NEW, "user-agent": "canary-agent"})
    event |= {"rawPath": "/canary", "rawQueryString": "canary", "cookies": ["canary"]}
    event["requestContext"]["http"] |= {"path": "/canary", "userAgent": "canary"}
    record, _ = decision(world, event, caplog)
    assert "canary" not in record.getMessage() + repr(vars(record))


@pytest.mark.parametrize("form", ["Text", "JSON"])
def test_a_record_factory_that_sets_the_same_fields_is_no_obstacle(
    world: World, form: str, caplog: pytest.LogCaptureFixture
) -> None:
    """``extra`` would raise KeyError."""
    before = logging.getLogRecordFactory()

    def factory(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = before(*args, **kwargs)
        vars(record).update(dict.fromkeys(FIELDS, "set by another library"))
        return record

    world.set(AWS_LAMBDA_LOG_FORMAT=form)
    world.secret.put(OLD)
    logging.setLogRecordFactory(factory)
    try:
        assert (world.ask(OLD), world.ask(NEW)) == ("allow", "refuse")
        world.extension.stop()
        world.clock.move(301)
        assert world.ask(OLD, 600) == "raise"
        world.set(SECRET_NAME="")
        with pytest.raises(ValueError, match="SECRET_NAME"):
            world.restart().ask(OLD)
    finally:
        logging.setLogRecordFactory(before)
    reasons = {vars(record)["reason"] for record in caplog.records}
    assert "extension_unavailable" in reasons and "settings_invalid" in reasons
    assert ("key_unknown" in reasons) is (form == "JSON")


def test_the_root_logger_is_left_alone(world: World) -> None:
    """It is Lambda's; other code in the function logs through it."""
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    world.set(LOG_LEVEL="ERROR")
    world.secret.put(OLD)
    world.ask(OLD)
    assert logging.getLogger("authorizer").level == logging.ERROR
    assert (root.level, list(root.handlers)) == before


def test_in_json_the_fields_are_top_level(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.set(AWS_LAMBDA_LOG_FORMAT="JSON")
    version = world.secret.put(OLD)
    world.ask(OLD)
    (record,) = caplog.records
    assert record.getMessage() == "allow: key_matched"
    wanted = ["allow", "key_matched", "AWSCURRENT", version, "-", "-", "-"]
    assert [vars(record)[name] for name in FIELDS] == wanted


@pytest.mark.parametrize(
    ("value", "shown"),
    [('a"b', "a'b"), ("a\nb", "a\\nb"), ("é", "\\xe9"), ("a\\b", "a\\\\b"), ("a ='", "a ='")],
)
def test_only_what_could_forge_or_break_a_line_is_changed(
    world: World, value: str, shown: str, caplog: pytest.LogCaptureFixture
) -> None:
    _, line = decision(world, http_api_2({}) | {"routeKey": value}, caplog)
    assert line["route"] == shown


@given(
    value=st.text(
        st.characters() | st.sampled_from('\n\r\u2028\u0085\x1b"\\\0\ud800 ='), max_size=300
    ),
    place=st.sampled_from(["request_id", "source_ip", "route"]),
    json_logs=st.booleans(),
)
def test_no_event_can_forge_or_break_a_line(
    world: World, caplog: pytest.LogCaptureFixture, value: str, place: str, json_logs: bool
) -> None:
    world.set(AWS_LAMBDA_LOG_FORMAT="JSON" if json_logs else "Text")
    event = http_api_2({})
    event["requestContext"]["requestId"] = value if place == "request_id" else "r"
    event["requestContext"]["http"]["sourceIp"] = value if place == "source_ip" else "s"
    event["routeKey"] = event["requestContext"]["routeKey"] = value if place == "route" else "t"
    caplog.clear()
    world.restart().handle(event)
    (record,) = caplog.records
    shown = (
        {name: vars(record)[name] for name in FIELDS} if json_logs else fields(record.getMessage())
    )
    assert (shown["outcome"], shown["reason"]) == ("refuse", "header_missing")
    # One line of printable ASCII.
    assert re.fullmatch("[ -~]*", record.getMessage() + "".join(shown.values()))
    assert len(shown[place]) <= 200 * len("\\U0001f511")


def test_the_readme_lists_every_reason_code(world: World) -> None:
    source = SUBJECT.read_text()
    codes = set(re.findall(r'"((?:key|header|event|settings)_[a-z_]+)"', source))
    codes = {code for code in codes if not code.endswith("_")} | set(world.module.PROBLEMS)
    readme = (ROOT / "README.md").read_text()
    rows = re.findall(r"^\| `([a-z_]+)` \| (?:allow|refuse|error) \|", readme, re.MULTILINE)
    assert sorted(rows) == sorted(codes)
