# SPDX-License-Identifier: MIT
"""What ``verify_copy.py --facts`` tells an auditor. tests/test_isolation.py compares it with what
the file does when it runs.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from lib.console import ROOT
from lib.copies import source, version_of
from lib.facts import Facts, facts_of

CODE = source("authorizer.py").decode()
FACTS = facts_of(CODE)
PLACE = "    global _authorizer\n"  # a statement in the handler
ADDRESS = '("127.0.0.1", self.settings.port)'


def changed(old: str, new: str) -> Facts:
    """The facts of a copy in which ``old`` is ``new``."""
    assert old in CODE
    return facts_of(CODE.replace(old, new, 1))


def test_the_file_is_measured() -> None:
    assert FACTS.version == version_of(CODE)
    assert FACTS.sha256 == hashlib.sha256(CODE.encode()).hexdigest()
    lines = CODE.splitlines()
    assert (FACTS.lines, FACTS.bytes) == (len(lines), len(CODE.encode()))
    names = [it["function"].split(".")[-1] for it in FACTS.functions]
    starts = [line.split("(")[0] for line in lines if line.lstrip().startswith("def ")]
    assert [f"def {name}" for name in names] == [start.strip() for start in starts]
    (handler,) = [it for it in FACTS.functions if it["function"] == "handler"]
    body = lines[handler["line"] - 1 :][: handler["lines"]]
    assert body[0].startswith("def handler(") and body[-1].startswith("        return ")


@pytest.mark.parametrize(
    ("code", "call"),
    [
        ("open('x', 'w')", "open"),
        ("run = exec", "exec"),
        ("compile('x', '', 'exec')", "compile"),
        ("__import__('x')", "__import__"),
        ("subprocess.run('x')", "subprocess"),
        ("os.system('x')", "os.system"),
        ("os.replace('x', 'y')", "os.replace"),
        ("import os as o; o.remove('x')", "o.remove"),
        ("from os import unlink", "os.unlink"),
        ("socket.fromfd(1)", "socket.fromfd"),
        ("connection.bind(('', 0))", "connection.bind"),
        ("Path('x').write_text('')", "Path('x').write_text"),
    ],
)
def test_what_writes_starts_or_evaluates_shows(code: str, call: str) -> None:
    line = CODE[: CODE.index(PLACE)].count("\n") + 1
    found = changed(PLACE, f"    {code}\n").writes_or_runs
    assert found == [{"call": call, "function": "handler", "line": line}]


def test_another_import_and_another_use_of_one_show() -> None:
    imports = changed("import hmac\n", "import hmac, pickle as p\nfrom .y import *\n").imports
    assert imports == {**FACTS.imports, "pickle": [], ".y": ["*"]}
    used = changed("logging.getLogger(", "logging.FileHandler(").imports["logging"]
    assert {"FileHandler", *FACTS.imports["logging"]} == {*used, "getLogger"}
    assert "(itself)" in changed(PLACE, "    other = os\n").imports["os"]


def test_another_address_shows() -> None:
    (fact,) = FACTS.network
    ours = {**fact, "line": 0}
    for target, address, port in (
        ('("10.0.0.1", 80)', "10.0.0.1", "80"),
        ('("127.0.0.1", self.settings.extension_ttl)', "127.0.0.1", "SECRETS_MANAGER_TTL"),
        ("(HOST, find())", "(HOST)", "(find())"),
        ("address", "(address)", ""),
    ):
        (fact,) = changed(ADDRESS, target).network
        assert {**fact, "line": 0} == {**ours, "address": address, "port": port}
    for assignment in ("self.port = find(", "self.port = 80; self.port = number("):
        (fact,) = changed("self.port = number(", assignment).network
        assert fact["port"] == "(self.settings.port)"
    added = changed(PLACE, "    socket.create_connection(('example.com', 443))\n").network[0]
    assert (added["call"], added["address"]) == ("socket.create_connection", "example.com")


@pytest.mark.parametrize(
    ("code", "variable"),
    [
        ("os.environ['HOME']", "HOME"),
        ("os.environ.get('HOME')", "HOME"),
        ("os.getenv(key='HOME')", "HOME"),
        ("os.getenv('HO' + 'ME')", "('HO' + 'ME')"),
        ("name = 'HOME'; os.getenv(name)", "HOME"),
        ("dict(os.environ)", "(os.environ)"),
    ],
)
def test_another_variable_shows(code: str, variable: str) -> None:
    assert changed(PLACE, f"    {code}\n").variables == sorted([*FACTS.variables, variable])
    setting = changed('number("CACHE_SECONDS"', 'text("HOME", "", VISIBLE, ""); number("OTHER"')
    assert {*setting.variables} == {*FACTS.variables, "HOME", "OTHER"} - {"CACHE_SECONDS"}
    text = "class Settings:\n def text(name): return env.get(name)\n text('HOME')\n"
    assert facts_of(text).variables == ["HOME"]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "verify_copy.py"), "--facts"]
    command += map(str, arguments)
    return subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=60)


def test_people_and_machines_are_told_the_same(tmp_path: Path) -> None:
    assert json.loads(run("--json").stdout) == FACTS._asdict()
    copy = tmp_path / "copy.py"
    copy.write_text(CODE.replace("import hmac", "import hmac, " + ", ".join(["x" * 90] * 9)))
    for done in (run(), run(copy)):
        assert (done.returncode, done.stderr) == (0, "")
        lines = done.stdout.splitlines()
        assert max(map(len, lines)) <= 100 and "writes or runs   none" in lines
        for word in (FACTS.version, "AWS_LAMBDA_LOG_LEVEL", "127.0.0.1", "lines  handler"):
            assert word and word in done.stdout


@pytest.mark.parametrize(
    "code", ["def f(:\n", "'\\\x1b' = 1\n", "x = '\0'\n", "(" * 9_999, "-" * 99_999 + "1\n"]
)
def test_what_is_no_python_is_one_line(code: str, tmp_path: Path) -> None:
    (tmp_path / "copy.py").write_text(code)
    done = run(tmp_path / "copy.py")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert f"{tmp_path / 'copy.py'}: it is not Python" in done.stderr


def test_one_path_is_enough() -> None:
    assert run("a.py", "b.py").returncode == 2 and "one PATH" in run("a.py", "b.py").stderr
    assert run("missing.py").stderr == "verify_copy.py: missing.py: there is no such file\n"
