# SPDX-License-Identifier: MIT
"""The repository keeps its own rules: layout, pinned workflow, a wheel with the same file, one
name for the version.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]  # it has no types of its own

import check
from conftest import load
from lib.console import ROOT
from lib.environments import ToolsError, environment

TOP_LEVEL = {
    "authorizer.py",
    "tests",
    "scripts",
    "SECURITY.md",
    "README.md",
    "pyproject.toml",
    "LICENSE",
}


in_git = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="an unpacked sdist has no git")


def tracked() -> list[str]:
    """The files that git knows, by their paths in the repository."""
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    return done.stdout.decode().splitlines()


@in_git
def test_nothing_else_lies_at_the_top() -> None:
    names = {path.split("/")[0] for path in tracked()}
    assert {name for name in names if not name.startswith(".")} == TOP_LEVEL


@in_git
def test_no_line_is_wider_than_100_columns_but_in_locks() -> None:
    """No other file has a tool that decides its width."""
    for path in tracked():
        if not path.startswith("scripts/locks/"):
            for number, line in enumerate((ROOT / path).read_text().split("\n"), 1):
                assert len(line) <= 100, f"{path}, line {number}"


def test_actions_are_pinned_by_commit_and_may_do_nothing() -> None:
    workflows = list((ROOT / ".github" / "workflows").glob("*.yml"))
    assert workflows
    for workflow in workflows:
        text = workflow.read_text()
        uses = re.findall(r"uses: (\S+)", text)
        assert uses and all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", use) for use in uses)
        assert len(re.findall(r"@[0-9a-f]{40} # v\d+\.\d+\.\d+\n", text)) == len(uses)
        assert "\npermissions: {}\n" in text


def test_one_action_has_one_commit_everywhere() -> None:
    pins = {
        tuple(use.split("@"))
        for workflow in (ROOT / ".github" / "workflows").glob("*.yml")
        for use in re.findall(r"uses: (\S+)", workflow.read_text())
    }
    assert len({action for action, _ in pins}) == len(pins)


def test_each_job_of_a_release_may_do_the_least_it_needs() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())["jobs"]
    assert {name: job["permissions"] for name, job in jobs.items()} == {
        "check": {"contents": "read"},
        "build": {"contents": "read"},
        "attest": {"id-token": "write", "attestations": "write"},
        "publish": {"contents": "write"},
        "pypi": {"id-token": "write"},
    }
    assert [job.get("needs") for job in jobs.values()] == [None, *list(jobs)[:-1]]
    assert {name for name, job in jobs.items() if "environment" in job} == {"pypi"}
    for name in ("attest", "publish", "pypi"):  # where a token can write, no code of ours runs
        text = str(jobs[name]["steps"])
        assert "checkout" not in text and "python3" not in text


def test_a_release_is_checked_under_every_python_that_lambda_offers() -> None:
    for name in ("check", "release"):
        workflow = yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text())
        assert workflow["jobs"]["check"]["strategy"]["matrix"]["python"] == check.VERSIONS


def test_the_checks_run_without_a_commit_too() -> None:
    assert "\n  schedule:\n" in (ROOT / ".github" / "workflows" / "check.yml").read_text()


@pytest.mark.parametrize(
    ("go", "reason"),
    [
        (None, "it is built by Go, and there is no go on PATH"),
        ("echo downloading >&2; echo 'dial tcp: refused' >&2; exit 1", "dial tcp: refused"),
        ("exit 0", "go install made no program"),
        ("exec sleep 60", "go install takes more than 0.1 s"),
    ],
)
def test_a_machine_that_cannot_have_actionlint_says_why(
    go: str | None, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if go:
        (tmp_path / "go").write_text(f"#!/bin/sh\n{go}\n")
        (tmp_path / "go").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}" + (":/usr/bin:/bin" if go else ""))
    monkeypatch.setattr(check, "ROOT", tmp_path)
    monkeypatch.setattr(check, "GO_SECONDS", 0.1 if go and "sleep" in go else 30)
    with pytest.raises(ToolsError, match=re.escape(reason)):
        check.actionlint()


def test_the_wheel_puts_the_same_file_where_the_predecessors_users_have_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    stem = "amazon_api_gateway_secure_authorizer"  # the predecessor's, which pip then replaces
    assert wheel.name == f"{stem}-{load().__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        assert (
            archive.read("secure_authorizer/authorizer.py") == (ROOT / "authorizer.py").read_bytes()
        )
        assert {name.split("/")[0] for name in archive.namelist() if ".dist-info/" not in name} == {
            "secure_authorizer"
        }
        archive.extractall(tmp_path)
    code = "import secure_authorizer.authorizer as it; print(it.handler.__module__)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout == "secure_authorizer.authorizer\n", done.stderr


@pytest.mark.parametrize("group", ["dev", "bench", "mutation", "rotator"])
def test_every_development_tool_is_locked_by_hash(group: str) -> None:
    lock = (ROOT / "scripts" / "locks" / f"{group}.txt").read_text()
    if group == "bench":  # no extra: it has the predecessor, which has this project's name
        wanted = (ROOT / "scripts" / "lab" / "bench-requirements.txt").read_text()
    else:
        wanted = (ROOT / "pyproject.toml").read_text().split(f"\n{group} = [")[1].split("\n]\n")[0]
    names = re.findall(r'^(?:  ")?([a-z][\w-]+)', wanted, re.MULTILINE)
    assert len(names) >= {"dev": 12, "bench": 6, "mutation": 1, "rotator": 6}[group]
    for name in names:
        assert re.search(rf"^{name}(\[\w+\])?==", lock, re.MULTILINE), name
    for block in re.split(r"\n(?=\w)", lock.strip()):
        assert "--hash=sha256:" in block, block


def test_a_python_that_cannot_make_environments_is_a_clear_error(tmp_path: Path) -> None:
    """As Debian's without python3-venv."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\n[ "$1" = -c ] && echo 3.99\n')
    python.chmod(0o755)
    with pytest.raises(ToolsError, match=r"cannot make a virtual environment: .*python3-venv"):
        environment(str(python))
    assert not (ROOT / ".venv" / "3.99").exists()


def test_pytest_without_the_tools_says_which_command_sets_them_up(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as util\n"
        "find = util.find_spec\n"
        "util.find_spec = lambda name, package=None: name != 'cfnlint' and find(name, package)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--collect-only"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert done.stderr.startswith("ERROR: the tests need cfnlint. Run pip install '.[dev]'")


def test_what_the_module_offers_is_there() -> None:
    module = load()
    assert (
        set(module.__all__)
        == {"SecretUnavailableError", "SettingsError", "handler"}
        <= set(vars(module))
    )


def test_every_source_file_carries_its_licence() -> None:
    files = [ROOT / "authorizer.py", *ROOT.glob("scripts/**/*.py"), *ROOT.glob("tests/*.py")]
    for file in files:
        assert "# SPDX-License-Identifier: MIT" in file.read_text().splitlines()[:2], file
