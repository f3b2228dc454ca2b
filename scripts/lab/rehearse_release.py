#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Rehearse a release: do everything of it but the upload, from clean clones of HEAD.

Needs git and Python 3.11 or newer; the locked tools go into .venv/ by themselves. It reads the
version and its entry in .github/CHANGELOG.md. It builds in two clones, compares the builds and
checks the sums. It installs the wheel into a fresh environment without an index, and calls the
zip's handler by AWS's own runtime client. It makes an SBOM and holds it against its schema. Then it
says what the release would contain.

.github/workflows/release.yml runs it with --tag and --output: the tag must be the version's, the
entry must have a date, and the files are kept for the upload. It does not run check.py: the
workflow does that before, under each Python.

Exit status: 0 the commit can be released, 1 it cannot, 2 it could not be tried.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from datetime import date
from email.parser import BytesParser
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from lib.console import ROOT, colour, progress
from lib.copies import source, version_of, write_all
from lib.environments import ToolsError, run_inside
from lib.runtime_api import Function
from lib.standins import TOKEN, Extension, Secret, http_api_2

HANDLER = "secure_authorizer.authorizer.handler"  # what the predecessor's users have configured
CHANGELOG = ".github/CHANGELOG.md"
LOCK = "scripts/locks/dev.txt"
UNRELEASED = "unreleased"  # in place of an entry's date: enough to rehearse, not for a tag
SUMS, SBOM, NOTES = "SHA256SUMS", "sbom.cdx.json", "notes.md"
CYCLONEDX = "1.6"
SUMMARY_WIDTH = 60  # columns for a file's name

Files = dict[str, bytes]  # by name


class ReleaseError(Exception):
    """Why the commit cannot be released, in one line."""


class Project(NamedTuple):
    """What names a release: the distribution, its licence and its version."""

    name: str
    licence: str
    version: str

    @property
    def stem(self) -> str:
        """What the names of the wheel and of the folder of its metadata begin with."""
        return re.sub(r"[-_.]+", "_", self.name).lower() + f"-{self.version}"

    @property
    def wheel(self) -> str:
        return f"{self.stem}-py3-none-any.whl"


# --- What the commit says


def project(checkout: Path) -> Project:
    """The project as pyproject.toml and authorizer.py describe it. Raises ReleaseError."""
    import tomllib  # which an older Python lacks; it must get as far as the guard below

    table = tomllib.loads(source("pyproject.toml", checkout).decode())["project"]
    version = version_of(source("authorizer.py", checkout).decode())
    if version is None:
        raise ReleaseError("authorizer.py states no __version__")
    return Project(table["name"], table["license"], version)


def newest_entry(changelog: str, version: str) -> tuple[str, str]:
    """The date and the text of the changelog's first entry, which must be the version's.

    Raises ReleaseError.
    """
    found = re.search(
        r"^## \[(?P<version>[^]]+)\] - (?P<date>.+)\n(?P<text>(?:(?!## ).*\n?)*)",
        changelog,
        re.MULTILINE,
    )
    if not found or found["version"] != version:
        newest = f"its first one is of {found['version']}" if found else "it has none"
        raise ReleaseError(f"{CHANGELOG} begins with no entry of {version}: {newest}")
    if not re.search(r"^- ", found["text"], re.MULTILINE):
        raise ReleaseError(f"the entry of {version} in {CHANGELOG} lists nothing")
    if found["date"] != UNRELEASED:
        try:
            if date.fromisoformat(found["date"]).isoformat() != found["date"]:
                raise ValueError
        except ValueError:
            raise ReleaseError(
                f"the entry of {version} in {CHANGELOG} is dated {found['date']!r}, which is "
                f"neither YYYY-MM-DD nor {UNRELEASED}"
            ) from None
    return found["date"], found["text"].strip() + "\n"


def check_tag(tag: str, version: str, dated: str) -> None:
    """See that a tag releases that version. Raises ReleaseError."""
    if tag != f"v{version}":
        raise ReleaseError(f"the tag is {tag}, but authorizer.py states {version}")
    if dated == UNRELEASED:
        raise ReleaseError(
            f"the entry of {version} in {CHANGELOG} is dated {UNRELEASED}; a tag needs the date"
        )


# --- What is built


def check_same(one: Files, other: Files) -> None:
    """See that two builds made the same. Raises ReleaseError."""
    unlike = sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
    if unlike:
        raise ReleaseError(f"two builds of one commit differ in {', '.join(unlike)}")


def check_names(files: Files, it: Project) -> None:
    """See that a build made these files and no others. Raises ReleaseError."""
    expected = {"authorizer.zip", "template.yaml", "rotation.yaml", it.wheel, SUMS}
    if files.keys() != expected:
        raise ReleaseError(
            f"package.py made {', '.join(sorted(files))} in place of {', '.join(sorted(expected))}"
        )


def check_sums(files: Files) -> None:
    """See that SHA256SUMS vouches for every other file. Raises ReleaseError."""
    expected = {f"{digest(data)}  {name}" for name, data in files.items() if name != SUMS}
    if set(files[SUMS].decode().splitlines()) != expected:
        raise ReleaseError(f"{SUMS} does not fit the files")


def check_wheel(wheel: bytes, code: bytes, it: Project) -> None:
    """See that a wheel holds authorizer.py where its users have it, what a wheel must have, and
    nothing else; and that it needs no other. Raises ReleaseError.
    """
    package, module, _ = HANDLER.split(".")
    place, typed = f"{package}/{module}.py", f"{package}/py.typed"
    about = [
        f"{it.stem}.dist-info/{name}"
        for name in ("METADATA", "WHEEL", "RECORD", "licenses/LICENSE")
    ]
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        names = archive.namelist()
        if sorted(names) != sorted([place, typed, *about]):
            unexpected = sorted(set(names) ^ {place, typed, *about})
            raise ReleaseError(f"the wheel has too much or too little: {', '.join(unexpected)}")
        if archive.read(place) != code:
            raise ReleaseError(f"{place} in the wheel is not authorizer.py")
        metadata = BytesParser().parsebytes(archive.read(about[0]))
    # An extra's requirements are for those who develop it.
    needs = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    if needs:
        raise ReleaseError(f"the wheel requires {', '.join(needs)}")


def digest(data: bytes) -> str:
    """SHA-256, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def bill_of_materials(it: Project, files: Files, made: str) -> bytes:
    """A CycloneDX document that says: these files, and no dependencies.

    ``made`` is the commit's time, so that the same commit has the same document.
    """
    purl = f"pkg:pypi/{it.name}@{it.version}"
    listed = [
        {"type": "file", "name": name, "hashes": [{"alg": "SHA-256", "content": digest(data)}]}
        for name, data in sorted(files.items())
    ]
    document = {
        "$schema": f"http://cyclonedx.org/schema/bom-{CYCLONEDX}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": CYCLONEDX,
        "version": 1,
        "metadata": {
            "timestamp": made,
            "component": {
                "type": "library",
                "bom-ref": purl,
                "name": it.name,
                "version": it.version,
                "purl": purl,
                "licenses": [{"license": {"id": it.licence}}],
                "components": listed,
            },
        },
        "components": [],
        "dependencies": [{"ref": purl, "dependsOn": []}],
        # Without it, an empty list could mean that nobody looked.
        "compositions": [{"aggregate": "complete", "dependencies": [purl]}],
    }
    return (json.dumps(document, indent=2) + "\n").encode()


def check_bill(document: bytes) -> None:
    """Hold an SBOM against CycloneDX's schema. Raises ReleaseError."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    error = JsonStrictValidator(SchemaVersion.from_version(CYCLONEDX)).validate_str(
        document.decode()
    )
    if error:
        raise ReleaseError(f"the SBOM does not fit its schema: {error.data.message}")


# --- What is run


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    """What a command prints. Raises ReleaseError with the last line of its errors."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()
        raise ReleaseError(f"{Path(command[0]).name} {command[1]}: {lines[-1]}")
    return done.stdout.strip()


def git(*arguments: str | Path, cwd: Path = ROOT) -> str:
    """What git prints. Raises ToolsError."""
    try:
        return run("git", *arguments, cwd=cwd)
    except ReleaseError as error:
        raise ToolsError(str(error)) from None


def clone(folder: Path) -> Path:
    """A clone of HEAD, with the tools of this checkout. Raises ToolsError."""
    git("clone", "--quiet", ROOT, folder)
    if source(LOCK, folder) != source(LOCK, ROOT):
        raise ToolsError(f"{LOCK} is not the commit's, so the tools are not either; commit it")
    (folder / ".venv").symlink_to(ROOT / ".venv")
    return folder


def build(checkout: Path) -> Files:
    """The files that package.py makes there. Raises ReleaseError."""
    run(sys.executable, "scripts/package.py", cwd=checkout)
    return {path.name: path.read_bytes() for path in sorted((checkout / "dist").iterdir())}


def check_copies(checkout: Path) -> None:
    """Judge what package.py made there as its users can. Raises ReleaseError."""
    copies = [checkout / "dist" / name for name in ("authorizer.zip", "template.yaml")]
    try:
        run(sys.executable, "scripts/verify_copy.py", *copies, cwd=checkout)
    except ReleaseError:
        raise ReleaseError("authorizer.zip or template.yaml holds another authorizer.py") from None


def check_install(folder: Path, wheel: Path, it: Project) -> None:
    """Install a wheel into a fresh environment, from no index, and import the handler by its
    name. Raises ReleaseError.
    """
    run(sys.executable, "-m", "venv", folder)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    run(python, "-m", "pip", "--disable-pip-version-check", "install", "--no-index", wheel)
    module, _, function = HANDLER.rpartition(".")
    code = f"import {module} as it; assert callable(it.{function}); print(it.__version__)"
    version = run(python, "-I", "-c", code, cwd=folder)
    if version != it.version:
        raise ReleaseError(f"the wheel's module states {version} in place of {it.version}")


def check_zip(folder: Path, data: bytes) -> None:
    """Call the handler of a zip by AWS's runtime client: the live key must pass, another one must
    not. Raises ReleaseError.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        archive.extractall(folder / "authorizer")  # where Function looks for it
    secret = Secret()
    live, other = "the-live-key-of-a-rehearsal", "another-key-of-a-rehearsal"
    secret.put(live)
    try:
        with Extension(secret, TOKEN) as extension, Function(folder, extension) as function:
            for key, expected in ((live, True), (other, False)):
                posted = function.invoke(http_api_2({"x-origin-verify": key}))
                if posted.kind != "response" or posted.json()["isAuthorized"] is not expected:
                    raise ReleaseError(f"the zip's handler answers {posted.body[:200]!r}")
    except AssertionError as error:
        # Without the newlines and the bytes between log lines; the reason stands at the end.
        reason = re.sub(r"[^!-~]+", " ", str(error)).strip()
        raise ReleaseError(f"the zip fails under awslambdaric: {reason[-200:]}") from None


# --- The rehearsal


class Release(NamedTuple):
    """What would be uploaded."""

    files: Files
    notes: str


def rehearse(folder: Path, tag: str | None) -> Release:
    """Do everything but the upload, in that folder; a line for each part. Raises ReleaseError,
    ToolsError.
    """
    progress("Cloning ...")
    first, second = clone(folder / "clone"), clone(folder / "another clone")
    it = project(first)
    dated, notes = newest_entry(source(CHANGELOG, first).decode(), it.version)
    if tag is not None:
        check_tag(tag, it.version, dated)
    commit = git("rev-parse", "HEAD", cwd=first)
    progress("")
    print(colour("bold", f"{it.name} {it.version}, commit {commit[:12]}"))
    passed("version", f"authorizer.py states {it.version}: its tag is v{it.version}")
    passed("changelog", f"the newest entry is of {it.version}, dated {dated}")

    progress("Building twice ...")
    files = build(first)
    check_same(files, build(second))
    check_names(files, it)
    passed("builds", "package.py made the same bytes in two clones")
    check_sums(files)
    passed("sums", f"{SUMS} vouches for the other {len(files) - 1} files")
    check_copies(first)
    passed("copies", "verify_copy.py finds authorizer.py in the zip and in the template")

    progress("Installing the wheel ...")
    check_wheel(files[it.wheel], source("authorizer.py", first), it)
    check_install(folder / "fresh", first / "dist" / it.wheel, it)
    passed("wheel", f"installs without an index; {HANDLER} imports")

    progress("Running the zip ...")
    check_zip(folder, files["authorizer.zip"])
    passed("zip", "under awslambdaric, the live key passes and another one does not")

    files[SBOM] = bill_of_materials(it, files, git("log", "-1", "--format=%cI", cwd=first))
    check_bill(files[SBOM])
    passed(
        "SBOM", f"fits CycloneDX {CYCLONEDX}; no dependencies, and says that the list is complete"
    )
    return Release(files, notes)


def passed(part: str, how: str) -> None:
    """Show that a part of the rehearsal went well."""
    progress("")
    print(f"{colour('green', 'ok')}  {part:<10} {how}", flush=True)


def summary(release: Release) -> Iterator[str]:
    """What a release would contain, line by line."""
    yield colour("bold", "Files, with the beginnings of their SHA-256")
    for name, data in release.files.items():
        yield f"  {name:<{SUMMARY_WIDTH}} {len(data):>7,} bytes  {digest(data)[:16]}"
    yield colour("bold", "Notes")
    for section in re.split(r"^### ", release.notes, flags=re.MULTILINE)[1:]:
        yield f"  {section.splitlines()[0]}: {len(re.findall('^- ', section, re.MULTILINE))}"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tag", help="the tag that releases HEAD; without it, none is checked")
    parser.add_argument(
        "--output",
        metavar="DIR",
        type=Path,
        help=f"a new folder for what is to be uploaded: files/ and {NOTES}",
    )
    options = parser.parse_args()
    status = run_inside()
    if status is not None:
        return status
    output: Path | None = options.output
    if output and output.exists():  # a file of another release must not slip in
        raise ToolsError(f"there is a {output} already")
    changed = git("status", "--porcelain", "--untracked-files=no")
    with tempfile.TemporaryDirectory() as name:
        release = rehearse(Path(name), options.tag)
    for line in summary(release):
        print(line)
    if output:
        write_all(output / "files", release.files)
        write_all(output, {NOTES: release.notes.encode()})
        print(f"Kept in {output}")
    if changed:
        print(f"{colour('yellow', 'note')}  changes that are not committed are not in it")
    return 0


if __name__ == "__main__":
    if sys.version_info < (3, 11):
        sys.exit("rehearse_release.py needs Python 3.11 or newer")
    try:
        sys.exit(main())
    except ReleaseError as error:
        progress("")
        print(f"rehearse_release.py: not to be released: {error}", file=sys.stderr)
        sys.exit(1)
    except (ToolsError, OSError) as error:
        progress("")
        print(f"rehearse_release.py: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
