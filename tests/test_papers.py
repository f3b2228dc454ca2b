# SPDX-License-Identifier: MIT
"""The papers keep to what is there: every promise names a test that exists, every link and name
leads somewhere.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import textwrap
import tomllib

from conftest import load
from lib import standins
from lib.console import ROOT

SECURITY = (ROOT / "SECURITY.md").read_text()
README = (ROOT / "README.md").read_text()
PORT = "PARAMETERS_SECRETS_EXTENSION_HTTP_PORT"
CONTRIBUTING = (ROOT / ".github" / "CONTRIBUTING.md").read_text()
RUNBOOK = (ROOT / "scripts" / "deploy" / "runbook.md").read_text()


def promises() -> dict[str, list[str]]:
    """The rows of the table of promises: promise, tests."""
    table = SECURITY.split("## Promises")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")]
    return {row[0]: re.findall(r"`([^`]+)`", row[1]) for row in rows[1:]}


def test_every_promise_names_one_test_that_exists() -> None:
    assert len(promises()) > 20
    for promise, tests in promises().items():
        assert tests, promise
        for test in tests:
            file, _, name = test.partition("::")
            tree = ast.parse((ROOT / "tests" / f"test_{file}.py").read_text())
            functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
            start = f"test_{name}"
            found = [it for it in functions if it == start or "…" in start]
            found = [it for it in found if it.startswith(start.rstrip("…"))]
            assert len(found) == 1, test


def test_the_papers_are_short_enough_to_be_read() -> None:
    for text, lines in ((README, 300), (SECURITY, 150)):
        assert len(text.splitlines()) <= lines
        assert max(map(len, text.splitlines())) <= 100


def test_the_predecessors_users_upgrade_by_the_name_that_they_have() -> None:
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    moving = README.split("## Moving from the predecessor")[1].split("\n## ")[0]
    assert table["name"] == "amazon-api-gateway-secure-authorizer"
    assert f"`pip install --upgrade {table['name']}`" in moving


def test_the_session_of_the_readme_is_what_the_tour_prints() -> None:
    command, *session = README.split("```text\n")[1].split("```")[0].splitlines()
    assert command == "$ python3 scripts/try_it.py"
    tour = [sys.executable, str(ROOT / "scripts" / "try_it.py")]
    done = subprocess.run(tour, capture_output=True, text=True, timeout=60)
    printed = [line for line in done.stdout.splitlines() if line]
    assert session and any(printed[i : i + len(session)] == session for i in range(len(printed)))


def test_the_example_of_the_stand_in_lets_its_key_in() -> None:
    text = textwrap.dedent((standins.__doc__ or "").split("live key:\n")[1])
    text = text.replace("2773", "0").replace("python3", sys.executable)
    text = text.replace("    print(", "    os.environ[PORT] = str(extension.port)\n    print(")
    text = text.replace("port=0):", "port=0) as extension:")
    text = text.replace("from authorizer", f'import os; PORT = "{PORT}"\nfrom authorizer')
    done = subprocess.run(["sh", "-c", text], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert "'isAuthorized': True" in done.stdout, done.stderr


def test_every_file_that_the_papers_name_exists() -> None:
    for text in (README, SECURITY, CONTRIBUTING):
        for path in re.findall(r"(?:\]\(|`)((?:scripts|tests|\.github|\.ci)/[\w./-]+)", text):
            assert (ROOT / path).exists(), path


def anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_link_to_a_heading_leads_to_one() -> None:
    for text in (README, RUNBOOK):
        assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= anchors(text)
    assert set(re.findall(r"runbook\.md#([\w-]+)", README + SECURITY)) <= anchors(RUNBOOK)


def test_the_documents_name_the_defaults_of_the_code() -> None:
    module = load()
    assert f"under {module.MIN_KEY_LENGTH} characters" in README
    assert module.__doc__ and "SecretUnavailableError" in module.__doc__
