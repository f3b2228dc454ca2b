# SPDX-License-Identifier: MIT
"""The file stands alone: standard library only, and nothing touched but the Extension's port on
127.0.0.1.
"""

from __future__ import annotations

import ast
import builtins
import json
import os
import subprocess
import sys
from typing import Any

import pytest

from conftest import NEW, OLD, World
from lib.facts import RISKY, facts_of
from lib.standins import SUBJECT, TOKEN, Extension, Request, Secret

ALLOWED = {
    "__future__": {"annotations"},
    "collections.abc": {"Callable", "Mapping"},
    "datetime": {"datetime"},
    **dict.fromkeys(
        ("hmac", "json", "logging", "os", "re", "socket", "threading", "time"), frozenset[str]()
    ),
}


def tree() -> ast.Module:
    return ast.parse(SUBJECT.read_text())


def test_it_imports_these_modules_of_the_standard_library_and_no_others() -> None:
    found: dict[str, set[str]] = {}
    for node in ast.walk(tree()):
        if isinstance(node, ast.Import):
            found |= {alias.name: set() for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found[str(node.module)] = {alias.name for alias in node.names}
    assert found == ALLOWED


def test_it_neither_runs_text_nor_imports_by_name() -> None:
    names = {node.id for node in ast.walk(tree()) if isinstance(node, ast.Name)}
    assert {"eval", "exec", "compile", "open", "__import__", "globals", "setattr"} < RISKY
    assert names & RISKY == set()


def test_it_depends_on_no_name_of_its_own() -> None:
    """It is ``index`` when inlined, where ``Fn::Sub`` would also take dollar-brace for a
    variable.
    """
    assert "${" not in SUBJECT.read_text()
    assert "__name__" not in SUBJECT.read_text() and "__file__" not in SUBJECT.read_text()


def test_it_needs_no_module_that_a_first_event_would_have_to_wait_for(world: World) -> None:
    """No import within functions: what it needs is loaded during INIT."""
    for node in ast.walk(tree()):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            assert not [
                inner for inner in ast.walk(node) if isinstance(inner, (ast.Import, ast.ImportFrom))
            ], node.name


# What Python audits is collected from before the file's first line on. The modules that it imports
# are there already.
AUDITED = """
import json, logging, sys, types
import __future__, collections.abc, datetime, hmac, socket
import encodings.idna, encodings.unicode_escape
text, index = open(sys.argv[1]).read(), types.ModuleType("index")
logging.basicConfig(stream=sys.stderr, level="DEBUG")
seen = []
def hook(event, arguments):
    if event == "open" or event.split(".")[0] in (
        "os", "socket", "subprocess", "shutil", "ctypes", "urllib", "http", "ftplib", "smtplib",
        "tempfile", "webbrowser", "pty", "signal", "mmap", "sqlite3", "pickle"
    ):
        seen.append([event, repr(arguments)])
sys.addaudithook(hook)
exec(compile(text, "index.py", "exec"), vars(index))
results = []
for event in json.loads(sys.argv[2]):
    try:
        results.append(index.handler(event, None)["isAuthorized"])
    except (index.SecretUnavailableError, index.SettingsError) as error:
        results.append(getattr(error, "reason", "settings_invalid"))
print(json.dumps([results, seen]))
"""


def audited(port: int, events: list[object], **env: str) -> tuple[list[Any], list[tuple[str, str]]]:
    """The handler's answers in a process of its own, and all that it did there that Python
    audits.
    """
    settings = {
        "SECRET_NAME": "prod/origin-key",
        "SECRET_KEY_NAME": "key",
        "AWS_SESSION_TOKEN": TOKEN,
        "PARAMETERS_SECRETS_EXTENSION_HTTP_PORT": str(port),
        "SECRETS_MANAGER_TTL": "0",
    }
    run = subprocess.run(
        [sys.executable, "-I", "-c", AUDITED, str(SUBJECT), json.dumps(events)],
        env={
            "PATH": os.environ["PATH"],
            "SYSTEMROOT": os.environ.get("SYSTEMROOT", ""),
            **settings,
            **env,
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    results, seen = json.loads(run.stdout)
    return results, [(event, arguments) for event, arguments in seen]


@pytest.fixture
def extension() -> Any:
    secret = Secret()
    secret.put(OLD)
    with Extension(secret, TOKEN) as server:
        yield server


def event(key: str) -> object:
    return {"headers": {"x-origin-verify": key}}


def test_it_touches_nothing_but_the_extensions_port(extension: Extension) -> None:
    # Would see the token if the proxy settings were obeyed.
    with Extension(Secret(), TOKEN) as proxy:
        url = f"http://127.0.0.1:{proxy.port}"
        proxies = dict.fromkeys(
            ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"), url
        )
        results, seen = audited(
            extension.port, [event(OLD), event(NEW), event("é")], **proxies, no_proxy=""
        )
        assert results == [True, False, False]
        assert proxy.seen == []
    connections = [arguments for name, arguments in seen if name == "socket.connect"]
    assert len(connections) == len(extension.seen) > 0
    assert all(arguments.endswith(f"('127.0.0.1', {extension.port}))") for arguments in connections)
    quiet = {"socket.connect", "socket.__new__"}
    assert [entry for entry in seen if entry[0] not in quiet] == []


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (400, b"an unexpected error occurred while executing request", "current_unreadable"),
        (401, b"bad session token or header key", "session_rejected"),
        (404, b"{}", "answer_unexpected"),
        (200, b"{}", "answer_unexpected"),
        (200, b'{"VersionId": "v", "SecretString": "{}"}', "current_unusable"),
    ],
)
def test_it_touches_nothing_else_when_the_extension_fails(
    extension: Extension, status: int, body: bytes, reason: str
) -> None:
    extension.faults["*"] = lambda request, _: request.send(status, body)
    results, seen = audited(extension.port, [event(OLD)])
    assert results == [reason]
    quiet = {"socket.connect", "socket.__new__"}
    assert [entry for entry in seen if entry[0] not in quiet] == []


def test_it_touches_nothing_when_a_setting_is_wrong(extension: Extension) -> None:
    results, seen = audited(extension.port, [event(OLD)], CACHE_SECONDS="soon")
    assert (results, seen) == (["settings_invalid"], [])


def test_the_hook_would_see_what_is_forbidden(extension: Extension) -> None:
    """The hook itself is tried: it must show that a file is opened and a command is run."""
    code = AUDITED.replace(
        "results = []", "results = []; open(sys.argv[1]).close(); __import__('os').system('true')"
    )
    run = subprocess.run(
        [sys.executable, "-I", "-c", code, str(SUBJECT), "[]"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    _, seen = json.loads(run.stdout)
    assert {"open", "os.system"} <= {name for name, _ in seen}


class Watched(dict[str, str]):
    """An environment that notes which variables are read."""

    def __init__(self, **variables: str) -> None:
        super().__init__(variables)
        self.read: set[object] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.read.add(name)
        return super().get(name, default)


def test_the_facts_for_an_auditor_are_what_happens(extension: Extension) -> None:
    """``verify_copy.py --facts`` knows from the text what can be seen while it runs."""
    facts = facts_of(SUBJECT.read_text())
    imported: dict[str, set[str]] = {}

    def watched_import(name: str, *rest: Any) -> Any:
        imported.setdefault(name, set()).update(rest[2] or ())
        return __import__(name, *rest)

    index: dict[str, Any] = {"__builtins__": {**vars(builtins), "__import__": watched_import}}
    exec(compile(SUBJECT.read_text(), "index.py", "exec"), index)
    assert imported == ALLOWED and facts.imports.keys() == ALLOWED.keys()
    for module, names in ALLOWED.items():
        assert not names or {*facts.imports[module]} == names

    env = Watched(SECRET_NAME="name", SECRET_KEY_NAME="key", AWS_SESSION_TOKEN=TOKEN)
    index["Settings"](env)
    assert env.read == {*facts.variables}

    (fact,) = facts.network
    _, seen = audited(0, [event(OLD)], **{fact["port"]: str(extension.port)})
    connections = {arguments for name, arguments in seen if name == "socket.connect"}
    assert connections and all(
        it.endswith(f"({fact['address']!r}, {extension.port}))") for it in connections
    )
    assert facts.writes_or_runs == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_it_follows_no_redirect(extension: Extension, status: int) -> None:
    with Extension(extension.secret, TOKEN) as stranger:

        def redirect(request: Request, _: bytes) -> None:
            request.send(
                status, b"", {"Location": f"http://127.0.0.1:{stranger.port}{request.path}"}
            )

        extension.faults["*"] = redirect
        results, seen = audited(extension.port, [event(OLD)])
        assert results == ["answer_unexpected"]
        assert stranger.seen == []
        assert not [
            arguments
            for name, arguments in seen
            if str(stranger.port) in arguments and "connect" in name
        ]
