# SPDX-License-Identifier: MIT
"""scripts/try_it.py works with nothing but Python, and tells the truth about what it saw."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

import authorizer
import try_it
from lib.console import ROOT
from lib.standins import CURRENT

SCRIPT = ROOT / "scripts" / "try_it.py"
BARE = {"PATH": os.environ["PATH"], "SYSTEMROOT": os.environ.get("SYSTEMROOT", "")}


def run(*arguments: str, script: Path = SCRIPT) -> subprocess.CompletedProcess[str]:
    # -I: without site-packages of the user, and -S: without any; only what Python brings
    command = [sys.executable, "-S", str(script), *arguments]
    return subprocess.run(command, env=BARE, capture_output=True, text=True, timeout=60)


def test_the_tour_has_no_surprise() -> None:
    done = run()
    assert (done.returncode, done.stderr) == (0, "")
    rows = re.findall(r"^  (\d{3})   (\d{3})   ", done.stdout, re.MULTILINE)
    assert {own for own, _ in rows} == {"200", "401", "403", "500"}
    assert ("200", "403") in rows  # where the straightforward authorizer refuses a live key
    own, other = re.findall(r"^  (?:this one|other): +(\S.*?)   ", done.stdout, re.MULTILINE)
    assert "403" not in own and "403" in other  # while reads fail
    lines = done.stdout.splitlines()
    assert lines[-1] == f"{len(rows) + 1} steps, 0 surprises"
    assert "--serve" in lines[-2] and "--log" in lines[-2] and "virtual" in lines[0]
    assert max(map(len, lines)) <= 90 and len(lines) <= 60
    assert "\033" not in done.stdout  # not a terminal


def test_the_tour_notices_an_authorizer_that_lets_everyone_in(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr(authorizer, "_authorizer", None)
    reading = authorizer.Reading(CURRENT, "version", b"", (0.0, 0.0))
    allow = ("allow", "key_matched", reading)
    monkeypatch.setattr(authorizer, "decide", lambda *_: allow)
    try:
        assert try_it.tour() == 1
    finally:
        vars(authorizer)["time"] = time
    shown = capsys.readouterr().out
    assert re.search(r"200   403   a wrong key +<- expected 403", shown)
    assert not shown.endswith(" 0 surprises\n")


def test_log_ends_quietly_when_its_reader_leaves() -> None:
    command = [sys.executable, "-S", str(SCRIPT), "--log"]
    tour = subprocess.Popen(
        command, env=BARE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert tour.stdout and tour.stderr
    tour.stdout.readline()
    tour.stdout.close()
    assert tour.stderr.read() == ""
    tour.stderr.close()
    assert tour.wait(60) in (141, -signal.SIGPIPE)


def test_log_shows_the_authorizers_lines() -> None:
    assert 'outcome="refuse" reason="key_unknown"' in run("--log").stdout


def test_help_says_what_it_does() -> None:
    done = run("--help")
    assert done.returncode == 0 and "--serve" in done.stdout and "Traceback" not in done.stderr


def status(url: str, header: str | None = None, method: str = "GET") -> tuple[int, str]:
    request = urllib.request.Request(
        url, method=method, headers={"x-origin-verify": header} if header else {}
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, ""


def test_serve_prints_curl_lines_that_work() -> None:
    server = subprocess.Popen(
        [sys.executable, str(SCRIPT), "--serve", "--port", "0"],
        env=BARE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout
    lines = [server.stdout.readline() for _ in range(11)]
    right = re.fullmatch(r"curl -i -H 'x-origin-verify: (\S+)' (\S+)/items .*\n", lines[2])
    assert right, lines
    key, url = right.groups()
    assert status(f"{url}/items", key)[0] == 200
    assert status(f"{url}/items", "wrong")[0] == 403
    assert status(f"{url}/items")[0] == 401

    def post(path: str) -> str:
        assert f"curl -X POST {url}{path}\n" in lines
        code, text = status(f"{url}{path}", method="POST")
        assert code == 200
        return text

    new = re.findall(r"x-origin-verify: (\S+)'", post("/rotation/start"))[0]
    assert status(f"{url}/items", new)[0] in (200, 403)  # 403 for up to a second
    assert "live for 30 s from the start" in post("/rotation/finish")
    assert status(f"{url}/items", key)[0] == 200
    assert "30 s later" in post("/time/later")
    assert (status(f"{url}/items", key)[0], status(f"{url}/items", new)[0]) == (403, 200)
    assert "for 5 minutes" in post("/extension/down")
    assert (status(f"{url}/items", new)[0], status(f"{url}/items", "other")[0]) == (200, 500)
    post("/extension/up")
    server.send_signal(signal.SIGINT)
    assert server.wait(10) == 0
    assert server.stdout.read() == "\nEnded.\n"
    server.stdout.close()


def test_a_port_that_cannot_be_used_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for port in (taken.getsockname()[1], 99999):
            done = run("--serve", "--port", str(port))
            assert done.returncode == 2
            assert done.stderr == f"try_it.py: port {port} cannot be used; try another --port\n"
