# SPDX-License-Identifier: MIT
"""rehearse_release.py: the commit can be released, and what must not be released is found."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

import package
import rehearse_release as rehearsal
from lib.console import ROOT
from lib.copies import source, write_all
from lib.environments import ToolsError
from rehearse_release import ReleaseError

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not (ROOT / ".git").exists(), reason="an unpacked sdist has no git"),
]

CODE = source("authorizer.py")
IT = rehearsal.project(ROOT)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "lab" / "rehearse_release.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=300)


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return package.build()


def with_members(archive: bytes, **changes: bytes) -> bytes:
    """A zip with members added, or replaced; a name ends as the keyword does."""
    with zipfile.ZipFile(io.BytesIO(archive)) as read:
        members = {info.filename: read.read(info) for info in read.infolist()}
    for end, data in changes.items():
        name = next((name for name in members if name.split("/")[-1] == end), end)
        members[name] = data
    return package.stored_zip(members)


def metadata_with(wheel: bytes, line: bytes) -> bytes:
    """A wheel with one more line at the beginning of its METADATA."""
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        metadata = archive.read(f"{IT.stem}.dist-info/METADATA")
    return with_members(wheel, METADATA=line + b"\n" + metadata)


# --- The whole


def test_this_commit_can_be_released(tmp_path: Path) -> None:
    done = run("--output", str(tmp_path / "release"))
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) <= 30 and max(map(len, lines)) <= 100  # one screen
    assert sum(line.startswith("ok ") for line in lines) == 8
    made = {path.name: path.read_bytes() for path in (tmp_path / "release" / "files").iterdir()}
    assert made.keys() == {
        "authorizer.zip",
        "template.yaml",
        "rotation.yaml",
        IT.wheel,
        "SHA256SUMS",
        "sbom.cdx.json",
    }
    notes = (tmp_path / "release" / "notes.md").read_text()
    assert "SECRETS_MANAGER_TTL=0" in notes and "## [" not in notes
    bill = json.loads(made.pop("sbom.cdx.json"))
    (needs,) = bill["dependencies"]
    assert needs["dependsOn"] == bill["components"] == []
    assert bill["compositions"] == [{"aggregate": "complete", "dependencies": [needs["ref"]]}]
    listed = bill["metadata"]["component"]["components"]
    assert {file["name"]: file["hashes"][0]["content"] for file in listed} == {
        name: hashlib.sha256(data).hexdigest() for name, data in made.items()
    }


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (
            ["--tag", "v9.9.9"],
            1,
            "not to be released: the tag is v9.9.9, but authorizer.py states",
        ),
        (["--output", "/"], 2, "there is a / already"),
    ],
)
def test_a_failure_is_one_line(arguments: list[str], status: int, message: str) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (status, "", 1)
    assert done.stderr.startswith(f"rehearse_release.py: {message}")


def test_without_git_there_is_nothing_to_clone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsal, "ROOT", tmp_path)
    with pytest.raises(ToolsError, match=r"^git clone: .+$"):
        rehearsal.clone(tmp_path / "clone")


def test_tools_that_are_not_the_commits_are_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = rehearsal.clone(tmp_path / "checkout")
    (checkout / rehearsal.LOCK).write_text("# another tool\n")
    monkeypatch.setattr(rehearsal, "ROOT", checkout)
    with pytest.raises(ToolsError, match="commit it"):
        rehearsal.clone(tmp_path / "clone")


# --- Tag and changelog

ENTRY = (
    "# Changelog\n\n## [1.2.3] - 2026-11-25\n\n### Added\n\n- A thing.\n\n## [1.2.2] - 2026-11-24\n"
)


def test_an_entry_ends_where_the_next_one_begins() -> None:
    dated, text = rehearsal.newest_entry(ENTRY, "1.2.3")
    assert (dated, text) == ("2026-11-25", "### Added\n\n- A thing.\n")


@pytest.mark.parametrize(
    ("changelog", "problem"),
    [
        ("# Changelog\n", "begins with no entry of 1.2.3: it has none"),
        (ENTRY.replace("1.2.3", "1.2.4"), "its first one is of 1.2.4"),
        (ENTRY.replace("1.2.3", "1.2"), "its first one is of 1.2"),
        (ENTRY.replace("- A thing.\n", ""), "lists nothing"),
        (ENTRY.replace("2026-11-25", "soon"), "is dated 'soon'"),
        (ENTRY.replace("2026-11-25", "2026-11-31"), "is dated '2026-11-31'"),
        (ENTRY.replace("2026-11-25", "20261125"), "is dated '20261125'"),
    ],
)
def test_a_changelog_without_the_versions_entry_stops_the_release(
    changelog: str, problem: str
) -> None:
    with pytest.raises(ReleaseError, match=problem):
        rehearsal.newest_entry(changelog, "1.2.3")


def test_an_entry_without_a_date_can_be_rehearsed_but_not_tagged() -> None:
    dated, _ = rehearsal.newest_entry(ENTRY.replace("2026-11-25", "unreleased"), "1.2.3")
    with pytest.raises(ReleaseError, match="a tag needs the date"):
        rehearsal.check_tag("v1.2.3", "1.2.3", dated)
    rehearsal.check_tag("v1.2.3", "1.2.3", "2026-11-25")


@pytest.mark.parametrize("tag", ["1.2.3", "v1.2.4", "v1.2.3rc1", "v1.2", ""])
def test_a_tag_of_another_version_stops_the_release(tag: str) -> None:
    with pytest.raises(ReleaseError, match="the tag is"):
        rehearsal.check_tag(tag, "1.2.3", "2026-11-25")


# --- Files


def test_builds_that_differ_stop_the_release(files: dict[str, bytes]) -> None:
    rehearsal.check_same(files, dict(files))
    for other in ({**files, IT.wheel: b""}, {**files, "more": b""}, {"SHA256SUMS": b""}):
        for one, two in ((files, other), (other, files)):
            with pytest.raises(ReleaseError, match="two builds of one commit differ in"):
                rehearsal.check_same(one, two)


def test_a_file_too_many_or_too_few_stops_the_release(files: dict[str, bytes]) -> None:
    rehearsal.check_names(files, IT)
    for other in ({**files, "more": b""}, {"SHA256SUMS": b""}):
        with pytest.raises(ReleaseError, match=r"package\.py made"):
            rehearsal.check_names(other, IT)


def test_a_sum_that_does_not_fit_stops_the_release(files: dict[str, bytes]) -> None:
    rehearsal.check_sums(files)
    sums = files["SHA256SUMS"]
    for other in (
        {**files, "authorizer.zip": b""},
        {**files, "more": b""},
        {**files, "SHA256SUMS": sums + sums.replace(b"authorizer", b"another")},
    ):
        with pytest.raises(ReleaseError, match="SHA256SUMS does not fit the files"):
            rehearsal.check_sums(other)


def test_a_wheel_with_anything_else_stops_the_release(files: dict[str, bytes]) -> None:
    wheel = files[IT.wheel]
    rehearsal.check_wheel(wheel, CODE, IT)
    for other, problem in (
        (with_members(wheel, extra=b""), "too much or too little: extra"),
        (with_members(wheel, **{"authorizer.py": CODE + b"#"}), "is not authorizer.py"),
        (metadata_with(wheel, b"Requires-Dist: boto3"), "the wheel requires boto3"),
        (files["authorizer.zip"], "too much or too little"),
    ):
        with pytest.raises(ReleaseError, match=problem):
            rehearsal.check_wheel(other, CODE, IT)


def test_a_wheel_that_cannot_be_installed_alone_stops_the_release(
    files: dict[str, bytes], tmp_path: Path
) -> None:
    wheel = tmp_path / IT.wheel
    wheel.write_bytes(metadata_with(files[IT.wheel], b"Requires-Dist: boto3"))
    with pytest.raises(ReleaseError, match="boto3"):
        rehearsal.check_install(tmp_path / "fresh", wheel, IT)


def test_a_template_with_another_authorizer_stops_the_release(
    files: dict[str, bytes], tmp_path: Path
) -> None:
    checkout = rehearsal.clone(tmp_path / "clone")
    write_all(checkout / "dist", files)
    rehearsal.check_copies(checkout)
    template = files["template.yaml"].replace(b"def handler", b"def another")
    write_all(checkout / "dist", {"template.yaml": template})
    with pytest.raises(ReleaseError, match="holds another authorizer"):
        rehearsal.check_copies(checkout)


def change(document: Any, *path: str | int, to: object) -> bytes:
    """A JSON document with one value changed."""
    changed = json.loads(document)
    at = changed
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = to
    return json.dumps(changed).encode()


def test_an_sbom_that_does_not_fit_its_schema_stops_the_release(files: dict[str, bytes]) -> None:
    bill = rehearsal.bill_of_materials(IT, files, "2026-11-25T12:00:00+00:00")
    rehearsal.check_bill(bill)
    component = ("metadata", "component")
    for bad in (
        change(bill, "bomFormat", to="Cyclone"),
        change(bill, "more", to=1),
        change(bill, *component, "type", to="file cabinet"),
        change(bill, *component, "licenses", 0, "license", "id", to="MIT-ish"),
        change(bill, *component, "components", 0, "hashes", 0, "content", to="abc"),
        change(bill, "compositions", 0, "aggregate", to="surely"),
    ):
        with pytest.raises(ReleaseError, match="the SBOM does not fit its schema: "):
            rehearsal.check_bill(bad)


ALLOWS_ALL = b"def handler(event, context):\n    return {'isAuthorized': True}\n"


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        (ALLOWS_ALL, "the zip's handler answers"),
        (ALLOWS_ALL.replace(b"True", b"False"), "the zip's handler answers"),
        (
            b"import boto3_of_nowhere\n",
            "^the zip fails under awslambdaric: .*boto3_of_nowhere.*$",
        ),
    ],
)
def test_a_zip_that_does_not_keep_the_door_stops_the_release(
    code: bytes, problem: str, tmp_path: Path
) -> None:
    with pytest.raises(ReleaseError, match=problem):
        rehearsal.check_zip(tmp_path, package.stored_zip({"authorizer.py": code}))
