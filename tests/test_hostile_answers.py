# SPDX-License-Identifier: MIT
"""No answer costs more than a bounded amount of work, whatever its bytes.

Work is counted in bytes taken and calls made. No test here asserts a duration.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from lib.standins import CURRENT
from test_reader import LAST, LONG, OK, SPELT, Meter, extension, ours, reader

CHUNKED = OK + SPELT


def head(line: bytes) -> Callable[[int], bytes]:
    """63 of those lines, filled up with spaces and tabs as ``size`` grows."""
    return lambda size: OK + (line + b" \t" * (size // 260) + b"\r\n") * 63 + b"\r\n"


def body(start: bytes, unit: bytes, end: bytes = b"", code: int = 200) -> Callable[[int], bytes]:
    """As many units as fit into ``size``."""

    def answer(size: int) -> bytes:
        content = start + unit * ((size - 200) // len(unit)) + end
        return b"HTTP/1.1 %d \r\nContent-Length: %d\r\n\r\n%s" % (code, len(content), content)

    return answer


def chunked(unit: bytes, end: bytes = LAST) -> Callable[[int], bytes]:
    return lambda size: CHUNKED + unit * ((size - 200) // len(unit)) + end


NUMBER = b"9" * 4_299 + b","  # one more digit, and int() refuses
CAUSE = b'{"__type": "x", "it": '

HEADS = {
    "a status line without end": lambda size: b"HTTP/1.1 200 " + b" " * size,
    "a line without end": lambda size: OK + b"A: " + b" " * size,
    "a name without end": lambda size: OK + b"A" * size,
    "a fold without end": lambda size: OK + b"A:" + b"\r\n " * (size // 3),
    "short headers": lambda size: OK + b"A:\r\n" * (size // 4),
    "blanks": head(b"A:"),
    "blanks before a wrong end": lambda size: head(b"A:")(size)[:-4] + b"\0\r\n\r\n",
    "nearly framing": head(b"Transfer-Encodin:"),
    "framing": head(b"Transfer-Encoding:"),
    "framing without value": lambda size: OK + b"Content-Length:\r\n" * (size // 17),
    "a chunk length without end": lambda size: CHUNKED + b"0" * size,
    "a chunk length with blanks": lambda size: CHUNKED + b"1" + b" " * size,
    "a chunk extension without end": lambda size: CHUNKED + b"1;" + b"a" * size,
    "trailers": lambda size: CHUNKED + b"0\r\n" + b"A:\r\n" * (size // 4),
}
BODIES = {
    "until the end": lambda size: OK + b"\r\n" + b"x" * size,
    "short chunks": chunked(b"1\r\nx\r\n"),
    "short chunks without end": chunked(b"1\r\nx\r\n", b""),
    "padded chunks": chunked(b"00001\r\nx\r\n"),
    "deep lists": body(b"", b"["),
    "deep objects": body(b"", b'{"a":'),
    "blank": body(b"", b" "),
    "a long integer": body(b"[", b"9", b"]"),
    "long integers": body(b"[", NUMBER, b"9]"),
    "a long number": body(b"[0.", b"9", b"]"),
    "a large number": body(b"[1e", b"9", b"]"),
    "numbers between two floats": body(b"[", b"2.2250738585072012e-308,", b"1]"),
    "a number between two floats": body(b"[1.00000000000000011102230246251565", b"0", b"1]"),
    "lists": body(b"[", b"[],", b"1]"),
    "objects": body(b"[", b"{},", b"1]"),
    "escapes": body(b'["', b"\\u0000", b'"]'),
    "surrogates": body(b'["', b"\\ud800", b'"]'),
    "UTF-16": body('["'.encode("utf-16"), "\u00e9".encode("utf-16-le"), '"]'.encode("utf-16-le")),
    "lists in the secret": body(b'{"VersionId": "v", "SecretString": "[', b"[],", b'1]"}'),
    "a long date": body(b'{"VersionId": "v", "SecretString": "", "CreatedDate": "1.', b"9", b'"}'),
    "a long version": body(b'{"SecretString": "", "VersionId": "', b"v", b'"}'),
    "an error of lists": body(CAUSE + b"[", b"[],", b"1]}", 400),
    "an error of numbers": body(CAUSE + b"[", NUMBER, b"9]}", 400),
    "an error of floats": body(CAUSE + b"[", b"1e23,", b"1]}", 400),
    "an error of escapes": body(CAUSE + b'"', b"\\udc80", b'"}', 400),
    "an error nearly of a cause": body(CAUSE + b'"', b"KMDecrypAccessDenieTokeClien", b'"}', 400),
}
HOSTILE: dict[str, Callable[[int], bytes]] = HEADS | BODIES


def use(answer: bytes, meter: list[Meter] | None = None) -> None:
    """All that the authorizer does with an answer."""
    taken = ours(answer, meter=meter)
    if taken and taken[0] == 200:
        with contextlib.suppress(reader.SecretUnavailableError):
            extension().parse(CURRENT, taken[1], (0.0, 0.0))
    elif taken:
        reader.failure(*taken)


@pytest.mark.parametrize("size", [500_000, 2_000_000])
@pytest.mark.parametrize("name", HOSTILE)
def test_the_work_is_bounded_whatever_the_answer(name: str, size: int) -> None:
    """At most 64 lines of a head are looked at, at most 512 KB taken, three calls a byte made."""
    answer = HOSTILE[name](size)
    meter: list[Meter] = []
    calls = 0

    def count(_: object, event: str, __: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        use(answer, meter)
    finally:
        sys.setprofile(None)
    assert meter[0].bytes <= 524_288 + 65_536
    assert calls <= 3_000 + (0 if name in HEADS else 3 * meter[0].bytes)


@pytest.mark.parametrize("name", ["blanks", "short chunks", "until the end"])
def test_a_peer_that_drips_is_left_at_the_deadline(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """One byte at a time, each 10 ms after the one before."""
    answer = HOSTILE[name](200_000)
    assert ours(answer, 1)
    ticks = itertools.count()
    clock = SimpleNamespace(monotonic=lambda: next(ticks) / 100)
    monkeypatch.setattr(reader, "time", clock)
    meter: list[Meter] = []
    assert ours(answer, 1, meter) is None
    waits = meter[0].waits
    assert len(waits) <= meter[0].calls <= LONG * 100
    assert waits[0] < LONG and all(later < earlier for earlier, later in itertools.pairwise(waits))
