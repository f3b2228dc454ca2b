# SPDX-License-Identifier: MIT
"""scripts/try_it.py works with nothing but Python, and tells the truth about what it saw."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

from lib.console import ROOT

SCRIPT = ROOT / "scripts" / "try_it.py"
BARE = {"PATH": os.environ["PATH"], "SYSTEMROOT": os.environ.get("SYSTEMROOT", "")}


def run(*arguments: str, script: Path = SCRIPT) -> subprocess.CompletedProcess[str]:
    # -I: without site-packages of the user, and -S: without any; only what Python brings
    command = [sys.executable, "-S", str(script), *arguments]
    return subprocess.run(command, env=BARE, capture_output=True, text=True, timeout=60)


def test_the_tour_has_no_surprise() -> None:
    done = run()
    assert (done.returncode, done.stderr) == (0, "")
    statuses = [int(status) for status in re.findall(r"^  (\d{3})  ", done.stdout, re.MULTILINE)]
    assert set(statuses) == {200, 401, 403, 500}
    assert done.stdout.splitlines()[-1] == f"{len(statuses)} steps, 0 surprises"
    assert "\033" not in done.stdout  # not a terminal


def test_the_tour_notices_an_authorizer_that_lets_everyone_in(tmp_path: Path) -> None:
    """It runs what is beside it: a copy whose comparison is broken must surprise it."""
    (tmp_path / "scripts" / "lib").mkdir(parents=True)
    for script in ("try_it.py", "lib/__init__.py", "lib/standins.py", "lib/console.py"):
        (tmp_path / "scripts" / script).write_text((ROOT / "scripts" / script).read_text())
    source = (ROOT / "authorizer.py").read_text()
    broken = source.replace("hmac.compare_digest(digest, it.digest)", "True")
    assert broken != source
    (tmp_path / "authorizer.py").write_text(broken)
    done = run(script=tmp_path / "scripts" / "try_it.py")
    assert done.returncode == 1
    assert re.search(r"200  a wrong key +<- expected 403", done.stdout)
    assert not done.stdout.endswith(" 0 surprises\n")


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
    lines = [server.stdout.readline() for _ in range(10)]
    right = re.fullmatch(r"curl -i -H 'x-origin-verify: (\S+)' (\S+)/items .*\n", lines[2])
    assert right, lines
    key, url = right.groups()
    assert status(f"{url}/items", key)[0] == 200
    assert status(f"{url}/items", "wrong")[0] == 403
    assert status(f"{url}/items")[0] == 401
    for path in ("/rotation/start", "/rotation/finish", "/extension/down", "/extension/up"):
        assert f"curl -X POST {url}{path}\n" in lines
        code, text = status(f"{url}{path}", method="POST")
        assert code == 200
        if path == "/rotation/start":
            new = re.findall(r"x-origin-verify: (\S+)'", text)[0]
    assert status(f"{url}/items", new)[0] in (200, 403)  # 403 for up to a second
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
