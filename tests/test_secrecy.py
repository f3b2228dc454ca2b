# SPDX-License-Identifier: MIT
"""Canaries: the presented key, the secret's values and the session token are in no log,
exception or answer.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from conftest import NEW, NEWER, OLD, World
from lib.standins import (
    PENDING,
    SUBJECT,
    TOKEN,
    Fault,
    http_api_1,
    http_api_2,
    rest_request,
    rest_token,
    websocket,
)
from test_faults import FAULTS, status

HEADER = "x-origin-verify"
PRESENTED = "presented-canary-qwertzuiop"


def traces(canary: str) -> Iterator[str]:
    """What a leak of the canary would look like: it, parts of it, and the usual encodings and
    digests.
    """
    data = canary.encode()
    yield from (canary[:8], canary[-8:], canary[8:20])
    yield from (base64.b64encode(data).decode()[:10], data.hex()[:16])
    for name in ("md5", "sha1", "sha256"):
        yield hashlib.new(name, data).hexdigest()[:16]


def planted(event: object, canary: str) -> Any:
    """The event with the canary in every string that the client can write, and some more.

    API Gateway or the API's owner writes what is kept.
    """
    if isinstance(event, dict):
        kept = ["version", "type", "routeArn", "methodArn", "httpMethod"]
        kept += ["requestId", "sourceIp", "routeKey", "resource"]
        return {
            name: value if name in kept else planted(value, canary) for name, value in event.items()
        }
    if isinstance(event, list):
        return [planted(value, canary) for value in event]
    return f"/{event}/{canary}?x={canary}" if isinstance(event, str) and event != canary else event


class Everything(logging.Handler):
    """Collects all that any logger emits, with every attribute of the record."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.seen = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.seen += f"{self.format(record)} {vars(record)!r}\n"


@pytest.fixture
def output() -> Iterator[Everything]:
    handler = Everything()
    logging.getLogger().addHandler(handler)
    yield handler
    logging.getLogger().removeHandler(handler)


def run(world: World, event: object, output: Everything) -> str:
    """Everything that comes out for an event: logs, answer, exception with its trace and chain."""
    output.seen = ""
    try:
        return output.seen + json.dumps(world.handle(event)) + output.seen
    except Exception as error:
        chain = "".join(
            traceback.TracebackException.from_exception(error, capture_locals=False).format()
        )
        return chain + repr(error) + repr(vars(error)) + output.seen


def leaks(text: str, *canaries: str) -> list[str]:
    return [trace for canary in canaries for trace in traces(canary) if trace in text]


KINDS: list[Callable[..., dict[str, Any]]] = [http_api_2, http_api_1, rest_request, websocket]


@pytest.mark.parametrize("level", ["DEBUG", "INFO"])
@pytest.mark.parametrize("form", ["JSON", "Text"])
@pytest.mark.parametrize("key", [OLD, NEW, PRESENTED])
def test_nothing_leaks_from_a_decision(
    world: World, key: str, form: str, level: str, output: Everything
) -> None:
    world.set(LOG_LEVEL=level, AWS_LAMBDA_LOG_FORMAT=form)
    world.secret.put(OLD)
    world.secret.put(NEW, PENDING)
    events: list[Any] = [
        planted(make({HEADER: key}), key) | {"headers": {HEADER: key, "other": key}}
        for make in KINDS
    ]
    events += [rest_token(key), planted(rest_token(key), key) | {"authorizationToken": key}]
    events += [
        planted(rest_request({HEADER: key}, {HEADER: [key, key]}), key)
        | {"multiValueHeaders": {HEADER: [key, key]}}
    ]
    twice = {HEADER: [key], HEADER.upper(): [key]}
    events += [planted(rest_request(None, twice), key) | {"multiValueHeaders": twice}]
    events += [
        planted(http_api_2({HEADER: f"{key},{key}"}), key) | {"headers": {HEADER: f"{key},{key}"}}
    ]
    events += [http_api_2({HEADER: [key]}), http_api_2({HEADER: f"{key}é"})]
    for event in events:
        text = run(world, event, output)
        assert "outcome" in text
        assert leaks(text, OLD, NEW, PRESENTED, TOKEN) == []


@pytest.mark.parametrize(
    "fault", ["401", "404", "500", "not JSON", "closes within the body", "VersionId a number"]
)
def test_nothing_leaks_from_a_fault(world: World, fault: str, output: Everything) -> None:
    world.set(LOG_LEVEL="DEBUG")
    body = json.dumps(
        {"SecretString": json.dumps({"key": OLD}), "token": TOKEN, "presented": PRESENTED}
    ).encode()
    texts: dict[str, Fault] = {
        "401": status(401, body),
        "404": status(404, body),
        "500": status(500, body),
    }
    world.extension.faults["*"] = texts.get(fault) or FAULTS[fault]
    text = run(
        world,
        planted(http_api_2({HEADER: PRESENTED}), PRESENTED) | {"headers": {HEADER: PRESENTED}},
        output,
    )
    assert "SecretUnavailableError" in text
    assert leaks(text, OLD, PRESENTED, TOKEN, "evil-key-" + "e" * 23) == []


@pytest.mark.parametrize(
    "string",
    [
        OLD,
        json.dumps(OLD),
        json.dumps({"key": [OLD]}),
        json.dumps({"other": OLD}),
        f'{{"key": "{OLD}',
        json.dumps({"key": OLD + " "}),
    ],
)
def test_nothing_leaks_from_a_broken_version(world: World, string: str, output: Everything) -> None:
    world.set(LOG_LEVEL="DEBUG")
    world.secret.put_string(string)
    text = run(world, http_api_2({HEADER: PRESENTED}), output)
    assert "no usable key" in text and "current_unusable" in text
    assert leaks(text, OLD, PRESENTED, TOKEN) == []


def test_nothing_leaks_from_a_malformed_setting(world: World, output: Everything) -> None:
    world.set(AWS_SESSION_TOKEN=f"{TOKEN}\n", SECRET_NAME=f"{NEWER} x", HEADER_NAME=f"{OLD}:")
    text = run(world, http_api_2({HEADER: PRESENTED}), output)
    assert "SettingsError" in text
    assert leaks(text, OLD, NEWER, PRESENTED, TOKEN) == []


def test_the_canaries_would_be_found(world: World, output: Everything) -> None:
    """A search that finds nothing proves nothing until it has found something."""
    for canary in (OLD, PRESENTED, TOKEN):
        logging.getLogger("authorizer").error(
            "%s", {"it": hashlib.sha256(canary.encode()).hexdigest()}
        )
        assert leaks(output.seen, canary) != []
        assert leaks(f"x{canary}x", canary) != []


def reachable(thing: object, seen: set[int]) -> Iterator[object]:
    """Everything that an object holds, through attributes and containers, and it itself."""
    if id(thing) in seen:
        return
    seen.add(id(thing))
    yield thing
    inner = [*thing.keys(), *thing.values()] if isinstance(thing, dict) else []
    inner += [*thing] if isinstance(thing, (list, tuple, set, frozenset)) else []
    inner += (
        [vars(thing)]
        if hasattr(thing, "__dict__") and type(thing).__module__ == SUBJECT.stem
        else []
    )
    for one in inner:
        yield from reachable(one, seen)


def test_no_key_is_kept_in_memory(world: World) -> None:
    """The snapshot holds digests under a key of its own.

    The values are nowhere in what the authorizer keeps.
    """
    world.secret.put(OLD)
    world.secret.put(NEW, PENDING)
    assert world.ask(OLD) == "allow"
    kept = [*reachable(world.module._authorizer, set())]
    assert TOKEN in kept and "AWSCURRENT" in kept  # so it looks into what there is
    held = [
        value if isinstance(value, bytes) else value.encode()
        for value in kept
        if isinstance(value, (str, bytes))
    ]
    for key in (OLD.encode(), NEW.encode()):
        for form in (
            key,
            key[:12],
            hashlib.sha256(key).digest(),
            hmac.digest(bytes(32), key, "sha256"),
        ):
            assert not [value for value in held if form in value]


def test_the_same_key_has_another_digest_in_every_environment(world: World) -> None:
    world.secret.put(OLD)
    digests = set()
    for _ in range(3):
        assert world.restart().ask(OLD) == "allow"
        digests.add(world.module._authorizer.snapshot.readings["AWSCURRENT"].digest)
    assert len(digests) == 3
