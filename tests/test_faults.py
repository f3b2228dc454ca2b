# SPDX-License-Identifier: MIT
"""The fault table: what a key gets while the Extension fails, by the fault and by what was known
before.

Nearly every faulty answer carries a body that would let EVIL in, were the fault not noticed. Slow
faults are given little time by way of the invocation's remaining time.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time

import pytest

from conftest import NEW, OLD, World
from lib.standins import (
    BAD_TOKEN,
    CURRENT,
    GENERIC_ERROR,
    NOT_READY,
    PENDING,
    PREVIOUS,
    Fault,
    Request,
)

EVIL = "evil-key-" + "e" * 23
SHORT = 800  # ms of the invocation left: 300 ms for a scan

GOOD = json.dumps(
    {
        "ARN": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:x",
        "CreatedDate": "2026-01-01T00:00:00Z",
        "SecretString": json.dumps({"key": EVIL}),
        "VersionId": "evil-version-0123456789012345678",
    }
).encode()


def status(code: int, body: bytes = GOOD, headers: dict[str, str] | None = None) -> Fault:
    """Answer everything with that status."""
    return lambda request, _: request.send(code, body, headers)


def raw(answer: bytes) -> Fault:
    """Answer with these bytes, whatever they are, and close."""

    def fault(request: Request, _: bytes) -> None:
        request.wfile.write(answer)
        request.close_connection = True

    return fault


def hangs(request: Request, _: bytes) -> None:
    """Answer when nobody waits any more; it would be a good answer."""
    threading.Event().wait(5)
    request.send(200, GOOD)


def drips(request: Request, _: bytes) -> None:
    """Send a good answer so slowly that it takes seconds, and so steadily that no single read
    waits long.
    """
    request.close_connection = True
    for byte in b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(GOOD) + GOOD:
        request.wfile.write(bytes([byte]))
        time.sleep(0.01)


def drips_headers(request: Request, _: bytes) -> None:
    """Never come to the end of the headers."""
    request.close_connection = True
    request.wfile.write(b"HTTP/1.1 200 OK\r\n")
    for number in range(90):
        request.wfile.write(b"X-%d: y\r\n" % number)
        time.sleep(0.03)
    request.wfile.write(b"Content-Length: %d\r\n\r\n" % len(GOOD) + GOOD)


def changed(**members: object) -> bytes:
    """GOOD with other members; one that is Ellipsis is left out."""
    answer = json.loads(GOOD) | members
    return json.dumps({name: value for name, value in answer.items() if value is not ...}).encode()


def agent(kind: str, code: int = 400) -> Fault:
    """An error as the Secrets Manager Agent passes it on."""
    body = json.dumps(
        {"__type": kind, "message": "m", "SecretString": json.dumps({"key": EVIL})}
    ).encode()
    return lambda request, _: request.send(code, body)


def ok(body: bytes, *headers: bytes) -> Fault:
    return raw(b"\r\n".join([b"HTTP/1.1 200 OK", *headers, b"", body]))


# Faults that say nothing about whether a label is absent.
FAULTS: dict[str, Fault] = {
    "hangs": hangs,
    "drips": drips,
    "drips headers": drips_headers,
    "closes at once": raw(b""),
    "closes within the headers": raw(b"HTTP/1.1 200 OK\r\nContent-"),
    "closes within the body": ok(GOOD[:-9], b"Content-Length: %d" % len(GOOD)),
    "closes before the announced end": ok(GOOD, b"Content-Length: %d" % (len(GOOD) + 9)),
    "closes within a chunk": ok(b"%x\r\n%s" % (len(GOOD) + 9, GOOD), b"Transfer-Encoding: chunked"),
    "never says the last chunk": ok(
        b"%x\r\n%s\r\n" % (len(GOOD), GOOD), b"Transfer-Encoding: chunked"
    ),
    "negative chunk": ok(b"-9\r\n" + GOOD, b"Transfer-Encoding: chunked"),
    "endless chunk": ok(b"7fffffffffffffff\r\n" + GOOD, b"Transfer-Encoding: chunked"),
    "chunk of unknown length": ok(b"-1\r\n" + GOOD, b"Transfer-Encoding: chunked"),
    "a header nested too deep": ok(GOOD, b"Content-Type: message/rfc822\r\r" * 1500),
    "announces too much": ok(GOOD, b"Content-Length: %d" % 2**62),
    "no HTTP": raw(GOOD),
    "HTTP/2": raw(b"HTTP/2 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(GOOD), GOOD)),
    "not a status": raw(b"HTTP/1.1 2x0 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(GOOD), GOOD)),
    "never ready": status(400, NOT_READY),
    "301": status(301, headers={"Location": "/secretsmanager/get"}),
    "302": status(302, headers={"Location": "http://127.0.0.1:9/"}),
    "307": status(307, headers={"Location": "/secretsmanager/get"}),
    "201": status(201),
    "204": raw(b"HTTP/1.1 204 No Content\r\n\r\n" + GOOD),
    "206": status(206),
    "304": raw(b"HTTP/1.1 304 Not Modified\r\n\r\n" + GOOD),
    "401": status(401),
    "401 as the Extension": status(401, BAD_TOKEN),
    "403": status(403),
    "403 as the Agent": status(403, b"Bad Token"),
    "404": status(404),
    "429": status(429),
    "500": status(500),
    "502": status(502),
    "503": status(503),
    "504": status(504),
    "599": status(599),
    "Agent: access denied": agent("AccessDeniedException"),
    "Agent: throttled": agent("ThrottlingException"),
    "Agent: kind is no string": agent(["ResourceNotFoundException"]),  # type: ignore[arg-type]
    "oversized": status(200, GOOD[:-1] + b" " * 600_000 + b"}"),
    "oversized, chunked": ok(
        b"%x\r\n%s\r\n0\r\n\r\n" % (len(GOOD) + 600_000, GOOD[:-1] + b" " * 600_000 + b"}"),
        b"Transfer-Encoding: chunked",
    ),
    "oversized, until it closes": ok(GOOD[:-1] + b" " * 600_000 + b"}"),
    "empty": status(200, b""),
    "not JSON": status(200, GOOD[:-1]),
    "nested too deep": status(200, b'{"SecretString":' * 100_000),
    "not UTF-8": status(200, b'{"x": "\xff", ' + GOOD[1:]),
    "a list": status(200, b"[" + GOOD + b"]"),
    "a string": status(200, json.dumps(GOOD.decode()).encode()),
    "null": status(200, b"null"),
    "two objects": status(200, GOOD + GOOD),
    "no VersionId": status(200, changed(VersionId=...)),
    "VersionId null": status(200, changed(VersionId=None)),
    "VersionId empty": status(200, changed(VersionId="")),
    "VersionId a number": status(200, changed(VersionId=7)),
    "VersionId too long": status(200, changed(VersionId="v" * 65)),
    "SecretString an object": status(200, changed(SecretString={"key": EVIL})),
    "SecretString a list": status(200, changed(SecretString=[EVIL])),
    "SecretString a number": status(200, changed(SecretString=7)),
}


def set_up(world: World, state: str) -> None:
    """Bring the world to what was known before the fault: nothing, or a snapshot of some age."""
    world.secret.put(OLD)
    world.secret.put(NEW, PENDING)
    if state != "absent":
        assert world.ask("a-wrong-key-" + "w" * 20) == "refuse"  # so all labels are read
        world.clock.move({"fresh": 30, "stale": 280, "too old": 301}[state])


@pytest.mark.parametrize("fault", [*FAULTS, "refused", "generic 400"])
@pytest.mark.parametrize(
    ("state", "known"),
    [("absent", "raise"), ("fresh", "allow"), ("stale", "allow"), ("too old", "raise")],
)
def test_when_no_label_can_be_read(world: World, fault: str, state: str, known: str) -> None:
    """Known keys are served until the snapshot is too old.

    Nobody is refused; nothing faulty is believed.
    """
    set_up(world, state)
    if fault == "refused":
        world.extension.stop()
    else:
        world.extension.faults["*"] = FAULTS.get(fault, status(400, GENERIC_ERROR))
    assert world.ask(OLD, SHORT) == known
    assert world.ask(NEW, SHORT) == known
    assert world.ask(EVIL, SHORT) == "raise"
    assert world.ask("x" * 32, SHORT) == "raise"


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("stage", [PENDING, CURRENT, PREVIOUS])
@pytest.mark.parametrize("state", ["absent", "stale"])
def test_when_one_label_cannot_be_read(world: World, fault: str, stage: str, state: str) -> None:
    """The others give their answer all the same, and whoever is in none of them is not refused."""
    world.set(ACCEPT_PREVIOUS_SECONDS="86400")
    world.secret.put("x" * 32)
    set_up(world, state)
    world.module.FIRST_READ_SECONDS = world.module.READ_SECONDS = 0.4  # or it would take minutes
    world.extension.faults[stage] = FAULTS[fault]
    keys = {PENDING: NEW, CURRENT: OLD, PREVIOUS: "x" * 32}
    for label, key in keys.items():
        dark = label == stage or (stage == CURRENT and label == PREVIOUS)  # without its date
        dark = dark and state == "absent"  # else its last reading serves
        assert world.ask(key) == ("raise" if dark else "allow"), label
    assert world.ask(EVIL) == "raise"


def test_while_nothing_is_known_a_label_that_hangs_leaves_time_for_the_others(world: World) -> None:
    """With the real bounds: those of the test above are short."""
    set_up(world, "absent")
    world.extension.faults[CURRENT] = hangs
    assert world.ask(NEW) == "allow"


@pytest.mark.parametrize(
    "absent",
    [
        status(400, GENERIC_ERROR),
        agent("ResourceNotFoundException"),
        agent("com.amazonaws.secretsmanager#ResourceNotFoundException"),
        agent("ResourceNotFoundException", 404),  # the Agent in front of a local emulator
        status(400, b""),
        status(400, b"{}"),
    ],
)
def test_a_label_that_the_extension_denies_is_absent_if_the_current_one_is_not(
    world: World, absent: Fault
) -> None:
    set_up(world, "absent")
    world.extension.faults[PENDING] = absent
    assert world.ask(OLD) == "allow"
    assert world.ask(NEW) == "refuse"
    world.extension.faults = {CURRENT: absent}
    world.clock.move(2)
    assert world.ask(NEW) == "allow"
    assert world.ask("x" * 32) == "raise"
    world.clock.move(301)
    assert world.ask(OLD) == "raise"


@pytest.mark.parametrize(
    "passing", [status(400, NOT_READY), status(429), status(500), status(503), raw(b""), raw(GOOD)]
)
def test_what_passes_is_tried_again(world: World, passing: Fault) -> None:
    world.secret.put(OLD)
    times = [4]

    def at_first(request: Request, body: bytes) -> None:
        times[0] -= 1
        if times[0] > 0:
            return passing(request, body)
        return request.send(200, body) if b"SecretString" in body else request.send(400, body)

    world.extension.faults["*"] = at_first
    assert world.ask(OLD) == "allow"


@pytest.mark.parametrize(
    "hopeless", [status(401), status(403), status(404), status(302), status(200, b"{}")]
)
def test_what_does_not_pass_is_asked_once_for_each_label(world: World, hopeless: Fault) -> None:
    world.extension.faults["*"] = hopeless
    assert world.ask(OLD) == "raise"
    assert world.extension.seen == [CURRENT, PENDING]


def test_a_port_that_opens_late_is_waited_for(world: World) -> None:
    world.clock.real = True
    world.secret.put(OLD)
    world.extension.stop()
    threading.Timer(0.2, world.extension.start).start()
    assert world.ask(OLD) == "allow"


def test_a_port_that_takes_no_more_connections_is_given_up(world: World) -> None:
    """Its queue is full: the operating system would go on connecting to it for minutes."""
    world.extension.stop()
    with contextlib.ExitStack() as open_sockets:
        address = ("127.0.0.1", world.extension.port)
        open_sockets.enter_context(socket.create_server(address, backlog=0))
        for _ in range(8):
            waiting = open_sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(address)
        assert world.ask(OLD, SHORT) == "raise"


@pytest.mark.parametrize("fault", [status(404), status(503), hangs])
def test_failed_scans_are_a_second_apart(world: World, fault: Fault) -> None:
    """Or an outage would add a time-out to every request."""
    set_up(world, "stale")
    world.extension.faults["*"] = fault
    assert world.ask(EVIL, SHORT) == "raise"
    world.extension.seen.clear()
    for _ in range(5):
        assert world.ask(EVIL, SHORT) == "raise"
        assert world.ask(OLD, SHORT) == "allow"
    assert world.extension.seen == []
    world.clock.move(1.001)
    assert world.ask(EVIL, SHORT) == "raise"
    assert world.extension.seen != []


def test_the_first_good_scan_after_an_outage_refuses_again(world: World) -> None:
    set_up(world, "stale")
    world.extension.stop()
    assert world.ask(EVIL, SHORT) == "raise"
    world.extension.start()
    world.clock.move(1.001)
    assert world.ask(EVIL) == "refuse"


def test_max_stale_seconds_0_serves_no_old_snapshot(world: World) -> None:
    world.set(MAX_STALE_SECONDS="0")
    set_up(world, "fresh")
    world.extension.stop()
    assert world.ask(OLD, SHORT) == "allow"  # within CACHE_SECONDS
    world.clock.move(31)
    assert world.ask(OLD, SHORT) == "raise"


@pytest.mark.parametrize("milliseconds", [500, 499, 0, -1])
def test_without_time_nothing_is_asked_and_nobody_refused(world: World, milliseconds: int) -> None:
    world.secret.put(OLD)
    assert world.ask(OLD, milliseconds) == "raise"
    assert world.extension.seen == []


@pytest.mark.parametrize("context", [None, object(), {}])
def test_a_context_that_tells_no_time_is_no_obstacle(world: World, context: object) -> None:
    """As when the function is tried by hand."""
    world.secret.put(OLD)
    assert (
        world.module.handler({"headers": {"x-origin-verify": OLD}}, context)["isAuthorized"] is True
    )


@pytest.mark.parametrize(
    ("state", "milliseconds", "budget"),
    [("absent", 9000, 3.0), ("too old", 9000, 3.0), ("stale", 9000, 2.0), ("absent", 1500, 1.0)],
)
def test_a_scan_ends_within_its_budget(
    world: World, monkeypatch: pytest.MonkeyPatch, state: str, milliseconds: int, budget: float
) -> None:
    """One read takes 2 s while nothing is known, else 1 s. A scan takes 3 s, and never more than
    the invocation has left less 0.5 s. The clock is the authorizer's own.
    """
    set_up(world, state)
    world.extension.faults["*"] = status(503)
    standing = world.clock.monotonic() - world.clock.moved
    # But for the sleeps.
    monkeypatch.setattr(world.clock, "monotonic", lambda: standing + world.clock.moved)
    started = world.clock.moved
    assert world.ask(EVIL, milliseconds) == "raise"
    assert budget - 0.2 < world.clock.moved - started <= budget


@pytest.mark.parametrize("stage", [PENDING, CURRENT, PREVIOUS])
def test_a_read_that_fails_takes_its_own_second_and_no_more(
    world: World, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    world.set(ACCEPT_PREVIOUS_SECONDS="900")
    world.secret.put(OLD)
    world.secret.put(NEW)
    assert world.ask(NEW) == "allow"
    world.extension.faults[stage] = status(503)
    standing = world.clock.monotonic() - world.clock.moved
    monkeypatch.setattr(world.clock, "monotonic", lambda: standing + world.clock.moved)
    started = world.clock.moved
    assert world.ask(EVIL, 9000) == "raise"
    assert 0.9 < world.clock.moved - started <= 1.0


def test_awscurrent_is_tried_three_times_when_secrets_manager_fails(world: World) -> None:
    """Its generic 400 is never absence, as that label is always on a version."""
    world.secret.put(OLD)
    for failures, outcome in ((2, "allow"), (3, "raise")):
        left = [failures]

        def fails_at_first(request: Request, body: bytes, left: list[int] = left) -> None:
            left[0] -= 1
            request.send(*((400, GENERIC_ERROR) if left[0] >= 0 else (200, body)))

        world.extension.faults[CURRENT] = fails_at_first
        assert world.restart().ask(OLD) == outcome


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (status(400, GENERIC_ERROR), "current_unreadable"),
        (status(401), "session_rejected"),
        (status(403), "session_rejected"),
        (status(404), "answer_unexpected"),
        (status(503), "extension_unavailable"),
        (agent("AccessDeniedException"), "access_denied"),
        (agent("ExpiredTokenException"), "access_denied"),
        (agent("DecryptionFailure"), "decryption_failed"),
        (agent("ThrottlingException"), "secrets_manager_failed"),
        (agent("InternalServiceError", 500), "secrets_manager_failed"),
        (status(200, changed(SecretString="{}")), "current_unusable"),
    ],
)
def test_the_error_names_the_cause_and_what_to_check(
    world: World, fault: Fault, reason: str
) -> None:
    world.extension.faults["*"] = fault
    with pytest.raises(
        world.module.SecretUnavailableError, match=f"^{reason}: .*(Check|must) "
    ) as caught:
        world.handle({"headers": {"x-origin-verify": OLD}}, SHORT)
    assert caught.value.reason == reason
    assert caught.value.__cause__ is None and caught.value.__context__ is None


def test_the_agent_is_served_as_well(world: World) -> None:
    """It leaves null members out, dates in seconds, sends no Content-Type, and gives AWS's own
    errors.
    """
    world.set(ACCEPT_PREVIOUS_SECONDS="900")
    world.secret.put(OLD)
    world.secret.put(NEW)

    def as_agent(request: Request, body: bytes) -> None:
        if b"SecretString" not in body:
            return agent("ResourceNotFoundException")(request, body)
        answer = json.loads(body)
        members = ("ARN", "Name", "VersionId", "SecretString", "VersionStages")
        created = world.secret.versions[answer["VersionId"]].created
        return request.send(
            200,
            json.dumps(
                {**{name: answer[name] for name in members}, "CreatedDate": f"{created:.3f}"}
            ).encode(),
        )

    world.extension.faults["*"] = as_agent
    assert world.ask(NEW) == "allow"
    assert world.ask(OLD) == "allow"
    assert world.ask(EVIL) == "refuse"
