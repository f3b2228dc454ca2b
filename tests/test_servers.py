# SPDX-License-Identifier: MIT
"""One read over real connections: the request, and what three kinds of server answer."""

from __future__ import annotations

import http.client
import os
import queue
import re
import shutil
import socket
import socketserver
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from conftest import OLD, World
from lib.standins import CURRENT, PENDING, PREVIOUS, TOKEN, Request, Server
from test_reader import LONG, extension

LOCAL = "127.0.0.1"
SIZES = (10, 100, 2_047, 2_048, 2_049, 4_096, 65_535, 65_536, 65_537, 400_000)  # bytes
FILLING = b"\x00\xff\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"  # what might be taken for framing

# The handler leaves the framing to net/http, or asks for another by a header.
GO_SERVER = r"""
package main
import ("fmt"; "net"; "net/http"; "strings")
func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil { panic(err) }
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var framing string
		var size, pieces int
		plan := strings.ReplaceAll(r.URL.Query().Get("secretId"), "-", " ")
		fmt.Sscan(plan, &framing, &size, &pieces)
		if framing == "length" { w.Header().Set("Content-Length", fmt.Sprint(size)) }
		if framing == "close" { w.Header().Set("Transfer-Encoding", "identity") }
		body := strings.Repeat("\x00\xff\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", size)[:size]
		for piece := 0; piece < pieces; piece++ {
			fmt.Fprint(w, body[piece * size / pieces:(piece + 1) * size / pieces])
			if pieces > 1 { w.(http.Flusher).Flush() }
		}
	}))
}
"""


def body_of(size: int) -> bytes:
    """The body of that size that each server sends."""
    return (FILLING * size)[:size]


def plan_of(target: str) -> tuple[str, int, int]:
    """What a request for a secret called "FRAMING-SIZE-PIECES" asks for."""
    found = re.search(r"secretId=(length|chunked|close)-(\d+)-(\d+)&", target)
    return (found[1], int(found[2]), int(found[3])) if found else ("length", 2, 1)


class Planned(Server):
    """http.server, answering as the plan says."""

    def respond(self, request: Request) -> None:
        framing, size, _ = plan_of(request.path)
        request.send(200, body_of(size), framing=framing)


class Peer(socketserver.ThreadingTCPServer):
    """A raw socket that answers as the plan says, and keeps connections open until the client
    closes.

    ``requests`` has the bytes that each client sent until then.
    """

    daemon_threads = True

    def __init__(self) -> None:
        self.requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        super().__init__((LOCAL, 0), Raw)
        self.port: int = self.socket.getsockname()[1]
        threading.Thread(target=self.serve_forever, args=(0.002,), daemon=True).start()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()


class Raw(socketserver.BaseRequestHandler):
    """One connection of a Peer."""

    server: Peer

    def handle(self) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            request += self.request.recv(65_536)
        framing, size, pieces = plan_of(request.decode())
        body = body_of(size)
        head = b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n"
        if framing == "length":
            head += b"Content-Length: %d\r\n" % size
        if framing == "chunked":
            head += b"Transfer-Encoding: chunked\r\n"
            step = -(-size // pieces)
            parts = [body[start : start + step] for start in range(0, size, step)]
            body = b"".join(b"%X\r\n%s\r\n" % (len(part), part) for part in [*parts, b""])
        answer = head + b"\r\n" + body
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        step = -(-len(answer) // pieces)
        for start in range(0, len(answer), step):
            self.request.sendall(answer[start : start + step])
        if framing == "close":
            self.request.shutdown(socket.SHUT_WR)
        while more := self.request.recv(65_536):
            request += more
        self.server.requests.put(request)


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.stop()


@pytest.fixture(scope="session")
def go_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a server on Go's net/http, with which the Extension is most likely written."""
    go = shutil.which("go")
    if not go:
        pytest.skip("no go on PATH, so nothing to build a server on Go's net/http with")
    folder: Path = tmp_path_factory.mktemp("go")
    (folder / "server.go").write_text(GO_SERVER)
    env = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOPROXY": "off"}
    command = [go, "build", "-o", str(folder / "server"), "server.go"]
    subprocess.run(command, cwd=folder, env=env, check=True)
    with subprocess.Popen([str(folder / "server")], stdout=subprocess.PIPE) as server:
        assert server.stdout
        yield int(server.stdout.readline())
        server.terminate()


@pytest.fixture(params=["http.server", "a raw socket", "Go"])
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    if request.param == "Go":
        yield request.getfixturevalue("go_port")
    elif request.param == "a raw socket":
        yield request.getfixturevalue("peer").port
    else:
        with Planned() as server:
            yield server.port


@pytest.mark.parametrize("pieces", [1, 7])
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_the_reader_takes_from_a_server_what_http_client_takes(
    port: int, framing: str, pieces: int
) -> None:
    """The raw socket ends only after the reader has, so the reader does not wait for its end."""
    for size in SIZES:
        plan = f"{framing}-{size}-{pieces}"
        taken = extension(port, plan).fetch(CURRENT, time.monotonic() + LONG)
        connection = http.client.HTTPConnection(LOCAL, port, timeout=LONG)
        target = f"/secretsmanager/get?secretId={plan}&versionStage={CURRENT}"
        connection.request("GET", target, headers={"Connection": "close"})
        with connection.getresponse() as response:
            seen = "close" if response.length is None else "length"
            seen = "chunked" if response.chunked else seen
            assert taken == (response.status, response.read()) == (200, body_of(size))
        connection.close()
        # Go counts a short body that is not flushed, unless it is told not to.
        assert seen == framing or (framing == "chunked" and size <= 2_048 and pieces == 1)


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_the_authorizer_allows_and_refuses_whatever_the_framing(world: World, framing: str) -> None:
    world.extension.framing = framing
    world.secret.put(OLD)
    assert world.ask(OLD) == "allow"
    assert world.ask("x" * 32) == "refuse"


# What is asked


def parts(request: bytes) -> tuple[str, dict[str, str]]:
    """A request's first line, and its headers by lower-cased name."""
    head, blank, rest = request.decode().partition("\r\n\r\n")
    assert blank and not rest
    first, *lines = head.split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert len(headers) == len(lines)
    return first, {name.lower(): value for name, value in headers.items()}


def target_of(name: str, label: str) -> str:
    return f"/secretsmanager/get?secretId={quote(name, safe='')}&versionStage={label}"


@given(
    name=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1),
    label=st.sampled_from([PENDING, CURRENT, PREVIOUS]),
)
@example(name="".join(map(chr, range(33, 127))), label=CURRENT)
def test_a_read_sends_one_request_and_nothing_else(peer: Peer, name: str, label: str) -> None:
    extension(peer.port, name).fetch(label, time.monotonic() + LONG)
    first, headers = parts(peer.requests.get(timeout=LONG))
    assert first == f"GET {target_of(name, label)} HTTP/1.1"
    assert headers == {
        "host": f"localhost:{peer.port}",
        "x-aws-parameters-secrets-token": TOKEN,
        "accept-encoding": "identity",
        "connection": "close",
    }
    assert peer.requests.empty()


def test_the_request_is_that_of_urllib_request_without_its_name(peer: Peer) -> None:
    """AWS's samples and many functions use urllib.request, so the Extension answers it."""
    name = "prod/key+%"
    extension(peer.port, name).fetch(CURRENT, time.monotonic() + LONG)
    url = f"http://localhost:{peer.port}{target_of(name, CURRENT)}"
    request = urllib.request.Request(url, headers={"X-Aws-Parameters-Secrets-Token": TOKEN})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=LONG) as answer:
        answer.read()
    first, headers = parts(peer.requests.get(timeout=LONG))
    theirs, their_headers = parts(peer.requests.get(timeout=LONG))
    assert their_headers.pop("user-agent").startswith("Python-urllib/")
    assert (first, headers) == (theirs, their_headers)
