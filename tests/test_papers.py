# SPDX-License-Identifier: MIT
"""The papers keep to what is there: every promise names a test that exists, every link and name
leads somewhere.
"""

from __future__ import annotations

import ast
import re

from conftest import load
from lib.console import ROOT

SECURITY = (ROOT / "SECURITY.md").read_text()
README = (ROOT / "README.md").read_text()
CONTRIBUTING = (ROOT / ".github" / "CONTRIBUTING.md").read_text()
RUNBOOK = (ROOT / "scripts" / "deploy" / "runbook.md").read_text()


def promises() -> dict[str, list[str]]:
    """The rows of the table of promises: promise, tests."""
    table = SECURITY.split("## Promises")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")][
        1:
    ]
    return {row[0]: re.findall(r"`([^`]+)`", row[1]) for row in rows}


def test_every_promise_names_a_test_that_exists() -> None:
    assert len(promises()) > 20
    for promise, tests in promises().items():
        assert tests, promise
        for test in tests:
            path, _, name = test.partition("::")
            functions = {
                node.name
                for node in ast.parse((ROOT / path).read_text()).body
                if isinstance(node, ast.FunctionDef)
            }
            assert name in functions, test


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
