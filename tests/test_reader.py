# SPDX-License-Identifier: MIT
"""What is taken for an HTTP answer: what http.client takes, but for a list of disagreements.

Each of the list has the reason why the reader is right, and answers that show it.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import load
from lib.standins import TOKEN

reader: Any = load()

Taken = tuple[int, bytes] | None  # status and body; None if the answer is refused

LONG = 60.0  # seconds: no test waits so long unless it fails


def extension(port: int = 2773, secret_name: str = "prod/key") -> Any:
    """The reading part of an authorizer with these settings."""
    names = ("SECRET_NAME", "SECRET_KEY_NAME", "AWS_SESSION_TOKEN")
    env = dict(zip(names, (secret_name, "key", TOKEN)))
    env["PARAMETERS_SECRETS_EXTENSION_HTTP_PORT"] = str(port)
    return reader.Extension(reader.Settings(env), b"salt")


@contextlib.contextmanager
def fed(answer: bytes) -> Iterator[socket.socket]:
    """The near end of a connection; the far end sends the answer and closes."""
    near, far = socket.socketpair()

    def send() -> None:
        with far, contextlib.suppress(OSError):  # the near end has had enough
            far.sendall(answer)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        with near:
            yield near
    finally:
        thread.join()


class Meter:
    """Gives a BoundSocket at most ``portion`` bytes at once, and counts."""

    def __init__(self, connection: Any, portion: int) -> None:
        self.bytes = self.calls = 0
        self.waits: list[float] = []  # seconds: the longest that each call might have taken
        receive = connection.recv_into

        def recv_into(buffer: memoryview) -> int:
            self.calls += 1
            count: int = receive(memoryview(buffer)[:portion])
            self.waits.append(connection.gettimeout())
            self.bytes += count
            return count

        connection.recv_into = recv_into


def ours(answer: bytes, portion: int = 65_536, meter: list[Meter] | None = None) -> Taken:
    """What the reader takes from a peer that sends these bytes and closes."""
    with fed(answer) as near, reader.BoundSocket(fileno=near.detach()) as connection:
        connection.deadline = reader.time.monotonic() + LONG
        metered = Meter(connection, portion)
        try:
            taken: Taken = reader.read_answer(connection)
        except OSError:
            taken = None
        if meter is not None:
            meter.append(metered)
        return taken


def http_client(answer: bytes) -> Taken:
    """What http.client takes from a peer that sends these bytes and closes."""
    with fed(answer) as near, http.client.HTTPResponse(near, method="GET") as response:
        try:
            response.begin()
            return response.status, response.read()
        except (http.client.HTTPException, OSError, ValueError, OverflowError, MemoryError):
            return None


# What any bytes are taken for, compared with http.client

OK = b"HTTP/1.1 200 OK\r\n"
FIVE = b"Content-Length: 5\r\n\r\nhello"
SPELT = b"Transfer-Encoding: chunked\r\n\r\n"
HELLO = b"5\r\nhello\r\n"
LAST = b"0\r\n\r\n"

# By its name, why the reader differs from http.client, and answers where it does.
DISAGREEMENTS: dict[str, tuple[str, list[bytes]]] = {
    "head cut off": (
        "http.client takes what came before the cut for the whole head; the rest may have framed",
        [OK, OK + b"Content-Type: text/plain\r\n", b"HTTP/1.1 200 OK"],
    ),
    "bare LF": (
        "RFC 9112, 2.2, permits it for old peers; none of ours is, and CRLF alone is one rule less",
        [(OK + FIVE).replace(b"\r\n", b"\n"), OK + b"A: b\nC: d\r\n" + FIVE],
    ),
    "control character": (
        "RFC 9110, 5.5, forbids CR and NUL in a field; http.client ends a line at a lone CR",
        [OK + b"A: \0\r\n" + FIVE, OK + b"A: b\rC: d\r\n" + FIVE, b"HTTP/1.1 200 \x01\r\n" + FIVE],
    ),
    "interim answer": (
        "1xx comes to requests with Expect or Upgrade, and the reader sends neither",
        [b"HTTP/1.1 100 Continue\r\n\r\n" + OK + FIVE, b"HTTP/1.1 101 Up\r\n\r\n"],
    ),
    "another status line": (
        "RFC 9112, 4: HTTP/1.0 or 1.1, one space, three digits; classes 6 to 9 mean nothing",
        [b"HTTP/1.%s\r\n%s" % (line, FIVE) for line in (b"2 200", b"1  200", b"1\t200", b"1 +200")]
        + [b"HTTP/0.9 200 OK\r\n" + FIVE, b"HTTP/1.1 600 Odd\r\n" + FIVE],
    ),
    "long line": (
        "bounds the work: no header of the Extension is near 4 KB",
        [
            OK + b"A: " + b"b" * 4_096 + b"\r\n" + FIVE,
            b"HTTP/1.1 200 " + b"b" * 4_096 + b"\r\n\r\n",
        ],
    ),
    "many headers": ("bounds the work", [OK + b"A: b\r\n" * 80 + FIVE]),
    "long answer": ("bounds the memory", [OK + b"\r\n" + b"x" * 600_000]),
    "folding": (
        "RFC 9112, 5.2, forbids it; readers differ on what the value is",
        [OK + b"A: b\r\n c\r\n" + FIVE, OK + b"Content-Length:\r\n 5\r\n\r\nhello"],
    ),
    "no header": (
        "http.client ends the head there in silence, or passes the line over, framing and all",
        [OK + b"no colon\r\n" + FIVE, OK + b"Content-Length : 5\r\n\r\nhello", OK + b": b\r\n\r\n"],
    ),
    "two framings": (
        "RFC 9112, 6.3: whoever sent two may have smuggled one; http.client takes one of them",
        [OK + b"Content-Length: 5\r\n" + it for it in (FIVE, SPELT + HELLO + LAST)]
        + [OK + b"Transfer-Encoding: chunked\r\n" + SPELT + HELLO + LAST],
    ),
    "another length": (
        "one to six digits, RFC 9110, 8.6; http.client takes what int() takes, and ignores others",
        [OK + b"Content-Length:%s\r\n\r\nhello" % it for it in (b"", b"+5", b"-5", b"0_5", b"five")]
        + [
            OK + b"Content-Length:%s\r\n\r\nhello" % it
            for it in (b"5,5", b"X5", b"\xa05", b"0000005")
        ],
    ),
    "another coding": (
        "RFC 9112, 6.3: the end is then unknown; http.client reads on to the connection's end",
        [OK + b"Transfer-Encoding:%s\r\n\r\nhello" % it for it in (b"", b"gzip", b"gzip, chunked")],
    ),
    "chunk extension": (
        "no server sends any unless its program asks for it, and a line of its own is not parsed",
        [OK + SPELT + b"5;a=b\r\nhello\r\n" + LAST, OK + SPELT + HELLO + b"0;a\r\n\r\n"],
    ),
    "trailer": (
        "net/http sends them only where declared; http.client passes any number of lines over",
        [OK + SPELT + HELLO + b"0\r\nA: b\r\n\r\n", OK + SPELT + HELLO + b"0\r\nhello"],
    ),
    "another chunk length": (
        "RFC 9112, 7.1: hexadecimal digits, at most five; http.client takes what int() takes",
        [OK + SPELT + it + b"\r\nhello\r\n" + LAST for it in (b"0x5", b"+5", b" 5", b"5 ", b"0_5")]
        + [OK + SPELT + b"000005\r\nhello\r\n" + LAST, OK + SPELT + b"5\nhello\r\n" + LAST],
    ),
    "chunk without its end": (
        "http.client passes any two bytes over, and so may miss where the next chunk begins",
        [OK + SPELT + b"5\r\nhelloXX" + LAST, OK + SPELT + b"5\r\nhello\n\n" + LAST],
    ),
    "last chunk cut off": (
        "the sender may not have come to its end",
        [OK + SPELT + HELLO + it for it in (b"0\r\n", b"0\r", b"0")],
    ),
    # The reader takes these too, but not for the same.
    "space after chunked": (
        "RFC 9110, 5.5: it is no part of the value; http.client takes the chunks for the body",
        [OK + b"Transfer-Encoding: chunked \t\r\n\r\n" + HELLO + LAST],
    ),
    "204 or 304": (
        "such an answer has no body, and the reader believes no body but that of a 200",
        [b"HTTP/1.1 204 No Content\r\n" + FIVE, b"HTTP/1.1 304 Not Modified\r\n\r\nhello"],
    ),
}
BOTH_TAKE = ("space after chunked", "204 or 304")
EXAMPLES = [(name, answer) for name, (_, answers) in DISAGREEMENTS.items() for answer in answers]


def oddity(answer: bytes) -> str:
    """The disagreement that these bytes are a case of; "" if they are of none."""
    head, blank, body = answer.partition(b"\r\n\r\n")
    first, *fields = head.split(b"\r\n")
    names = {
        "bare LF": re.search(rb"(?<!\r)\n", head),
        "head cut off": not blank,
        "control character": re.search(rb"[\0-\x08\x0b-\x1f\x7f]", first + b"".join(fields)),
        "interim answer": re.match(rb"HTTP/1\.[01] 1\d\d(?!\S)", first),
        "another status line": not re.fullmatch(rb"HTTP/1\.[01] [2-5]\d\d( .*)?", first),
        "long line": max(len(first), *map(len, fields), 0) > 4_094,
        "many headers": len(fields) > 63,
        "folding": any(re.match(rb"[ \t]", field) for field in fields),
        "no header": not all(re.match(rb"[\w!#$%&'*+.^`|~-]+:", field) for field in fields),
        "long answer": len(answer) > 524_288,
    }
    if name := next((name for name, found in names.items() if found), ""):
        return name
    pairs = [field.lower().split(b":", 1) for field in fields]
    framings = [it for it in pairs if it[0] in (b"content-length", b"transfer-encoding")]
    if len(framings) > 1:
        return "two framings"
    kind, value = framings[0] if framings else (b"", b"")
    if kind == b"content-length" and not re.fullmatch(rb"[ \t]*\d{1,6}[ \t]*", value):
        return "another length"
    if kind == b"transfer-encoding":
        if value.strip(b" \t") != b"chunked":
            return "another coding"
        if name := oddity_of_chunks(body):
            return name
        if value.endswith((b" ", b"\t")):
            return "space after chunked"
    return "204 or 304" if first[9:12] in (b"204", b"304") else ""


def oddity_of_chunks(rest: bytes) -> str:
    """Like ``oddity``, for what follows a head that says "chunked"."""
    size = 1
    while size:
        line, end, rest = rest.partition(b"\r\n")
        if b";" in line.split(b"\n")[0]:
            return "chunk extension"
        if not end:
            return "last chunk cut off"
        if not re.fullmatch(rb"[0-9a-fA-F]{1,5}", line):
            return "another chunk length"
        size = int(line, 16)
        close, rest = rest[size : size + 2], rest[size + 2 :]
        if close != b"\r\n":
            cut = b"\r\n".startswith(close)
            return "last chunk cut off" if cut else "chunk without its end" if size else "trailer"
    return ""


def right(answer: bytes) -> Taken:
    """What the reader is to take: by http.client, but for the disagreements."""
    name = oddity(answer)
    if name and name not in BOTH_TAKE:
        assert name in DISAGREEMENTS
        return None
    spaced = rb"(?i)(\r\ntransfer-encoding:[ \t]*chunked)[ \t]+\r\n"
    plain = re.sub(spaced, rb"\1\r\n", answer, count=1)
    taken = http_client(b"HTTP/1.1 200" + plain[12:])
    return taken and (int(answer[9:12]), taken[1])


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """Answers that are right, or wrong in a few places, or cut off."""

    def pick(usual: bytes, *odd: bytes) -> bytes:
        return draw(st.sampled_from([usual] * 40 + [*odd]))

    def upset(answer: bytes) -> bytes:
        start = draw(st.integers(0, len(answer)))
        length = draw(st.sampled_from([0, 0, 1, 2, len(answer)]))
        piece = draw(st.sampled_from(PIECES) | st.binary(max_size=2))
        return answer[:start] + piece + answer[start + length :]

    body = draw(st.sampled_from([b"", b"{}", b"\r\n", LAST, OK + FIVE]) | st.binary(max_size=40))
    code = pick(b"200", b"400", b"401", b"503", b"204", b"304", b"100", b"199", b"600", b"+20")
    first = pick(b"HTTP/1.1 ", b"HTTP/1.0 ", b"HTTP/1.2 ", b"HTTP/2 ", b"http/1.1 ") + code
    lines = [first + pick(b" OK", b"", b" ", b" \xe9\t", b"  OK", b" \x7f")]
    lines += [pick(*FIELDS[draw(st.integers(0, 5)) :]) for _ in range(draw(st.integers(0, 3)))]
    for _ in range(draw(st.sampled_from([0, 1, 1, 1, 1, 2]))):
        space, after = pick(b" ", b"", b"\t "), pick(b"", b" ", b"\t")
        form = pick(b"%d", b"0%d", b"+%d", b"-%d", b"%d.", b"1%d", b"%d, 5", b"\xa0%d")
        name, value = b"Content-Length:", form % len(body)
        if draw(st.booleans()):
            name = b"Transfer-Encoding:"
            value = pick(b"chunked", b"CHUNKED", b"gzip", b"identity", b"chunked, chunked")
            cut = draw(st.integers(0, len(body)))
            parts, body = [part for part in (body[:cut], body[cut:]) if part], b""
            for part in parts:
                size = pick(b"%x", b"%X", b"0%x", b"00000%x", b"0x%x", b"%x;a=b", b" %x", b"-%x")
                body += size % len(part) + pick(b"\r\n", b"\n") + part + pick(b"\r\n", b"\n", b"XX")
            body += pick(b"0", b"000", b"0;a", b"0_0")
            body += pick(b"\r\n\r\n", b"\r\nA: b\r\n\r\n", b"\n\n")
        name = pick(name, name.lower(), name.upper())
        lines.insert(draw(st.integers(1, len(lines))), name + space + value + after)
    answer = pick(b"\r\n", b"\n").join([*lines, b"", body]) + pick(b"", b"HTTP/1.1 200 OK\r\n\r\n")
    if draw(st.integers(0, 4)) == 0:
        answer = draw(st.sampled_from(SHORT_EXAMPLES))
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2]))):
        answer = upset(answer)
    return answer


FIELDS = [b"Content-Type: application/json", b"Connection: close", b"A:", b"X-Content-Length: 1"]
FIELDS += [b"Content-Type: message/rfc822", b"Date: \xe9", b" folded", b"no colon", b": no name"]
PIECES = [b"%c" % it for it in b"\r\n \t:;0-_\0\xa0"] + [
    b"\r\n",
    b"\r\n ",
    b"HTTP/1.1 100 \r\n\r\n",
]
PIECES += [b"\r\nContent-Length: 3", b"\r\nTransfer-Encoding: chunked"]
SHORT_EXAMPLES = [answer for _, answer in EXAMPLES if len(answer) < 4_096]


@settings(max_examples=max(2_000, settings().max_examples))
@given(answer=answers(), portion=st.sampled_from([1, 2, 7, 65_536]))
def test_the_reader_takes_what_http_client_takes_but_for_the_list(
    answer: bytes, portion: int
) -> None:
    assert ours(answer, portion) == right(answer), oddity(answer)


def test_the_list_shows_every_disagreement() -> None:
    assert {name for name, _ in EXAMPLES} == set(DISAGREEMENTS)


@pytest.mark.parametrize(("name", "answer"), EXAMPLES)
def test_every_disagreement_of_the_list_is_real(name: str, answer: bytes) -> None:
    taken, why = ours(answer), DISAGREEMENTS[name][0]
    assert oddity(answer) == name
    assert taken == right(answer) != http_client(answer), why
    assert (taken is not None) == (name in BOTH_TAKE), why
