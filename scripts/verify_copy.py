#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compare copies of authorizer.py with the one of this checkout, or print the facts of one.

A copy is a .py file, a deployment zip, or a CloudFormation or SAM template (YAML or JSON) with the
code inlined. It never runs. Newline style and a byte-order mark do not count as changes; anything
else does. A zip must hold nothing but the authorizer, and what pip puts beside it: another file
could be what Lambda runs or imports. For a YAML template the script uses PyYAML; if this Python has
none, it goes into .venv/.

Exit status: 0 all are identical, 1 one differs, 2 it cannot tell of one. With --facts it is 0, or 2
if PATH holds no Python.
"""

from __future__ import annotations

import argparse
import base64
import difflib
import hashlib
import io
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import IO, NamedTuple

from lib.console import ROOT, colour
from lib.copies import CopyError, NeedsYaml, inlined_code, parse_template, version_of
from lib.environments import ToolsError, environment
from lib.facts import facts_of, table

RELEASE = ROOT / "authorizer.py"
MAX_BYTES = 1_048_576  # of what is read, packed or unpacked: CloudFormation's limit for a template
MAX_DIFF_BYTES = 131_072  # of a copy, so that hostile lines cannot keep difflib busy
MAX_DIFF_LINES = 200  # that are shown
# What may lie beside it: a wheel's dist-info, as pip leaves it too, and the mark of its types.
BESIDE = re.compile(
    r"[\w.]+-[\w.+]+\.dist-info/([A-Z]+|licenses/LICENSE|direct_url\.json)"
    r"|secure_authorizer/py\.typed"
)
OURS = "SecretUnavailableError"  # an inlined function with this name in its code is the authorizer
COLOURS = {"identical": "green", "differs": "red", "cannot tell": "yellow"}
RESULTS = list(COLOURS)  # in the order of the exit status


class Verdict(NamedTuple):
    """What is known of one path; the members of a ``--json`` object. Unknown ones are None."""

    path: str
    result: str  # one of RESULTS
    reason: str | None = None  # why it cannot be told
    found_in: str | None = None  # the file in a zip, the resource in a template
    version: str | None = None  # that the copy states
    sha256: str | None = None  # of the copy's text, without what does not count
    code_sha256: str | None = None  # of a zip, as Lambda shows it
    diff: str | None = None  # unified; None if identical, or if the copy is too large


def plain_text(data: bytes) -> str:
    """The text of a file without what does not count as a change. Raises CopyError."""
    try:
        return same_newlines(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise CopyError("it is neither a zip nor UTF-8 text") from None


def same_newlines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def lines_of(text: str) -> list[str]:
    """The lines of a text; a last one says so if it does not end in a newline."""
    lines = text.split("\n")
    return lines[:-1] if lines[-1] == "" else [*lines, "\\ No newline at end of file"]


def printable(text: str) -> str:
    """``text`` with control characters escaped: a hostile copy may hold a terminal's commands."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def some(names: list[str]) -> str:
    """The first of ``names``, short enough for a line."""
    return ", ".join(printable(name[:80]) for name in names[:5])


def bounded(file: IO[bytes]) -> bytes:
    """What a file holds. Raises CopyError if that is too much."""
    data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise CopyError(f"it has more than {MAX_BYTES} bytes, so it is not just the authorizer")
    return data


def from_zip(data: bytes) -> tuple[str, bytes]:
    """Name and bytes of the one Python file in a zip. Raises CopyError."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            files = [it for it in archive.infolist() if not it.is_dir()]
            files = [it for it in files if not BESIDE.fullmatch(it.filename)]
            names = [it.filename for it in files]
            if len(files) != 1 or not names[0].endswith(".py"):
                held = some(names) or "nothing"
                raise CopyError(f"the zip must hold one Python file and no other, but holds {held}")
            if files[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise CopyError("the zip is neither stored nor deflated")  # has no bound
            with archive.open(files[0]) as file:
                return names[0], bounded(file)
    except CopyError:
        raise
    except Exception:  # whatever zipfile, struct and zlib may raise for a hostile file
        raise CopyError("the zip is damaged, encrypted or incomplete") from None


def from_template(text: str) -> tuple[str, str]:
    """Logical id and inlined code of the authorizer in a template. Raises CopyError, NeedsYaml."""
    functions = inlined_code(parse_template(text))
    found = [name for name, code in functions.items() if OURS in str(code)]
    if not found:
        raise CopyError("it holds no copy; check the zip that CodeUri names, or Code")
    if len(found) > 1:
        raise CopyError(f"it holds several copies: {some(found)}")
    code = functions[found[0]]
    if not isinstance(code, str):
        change = f"passes through {some(list(code))}, which can change it"
        raise CopyError(f"the code of {some(found)} {change}")
    return found[0], same_newlines(code.removeprefix("\ufeff"))


def read_copy(path: Path) -> tuple[str, str | None, str | None]:
    """Text, ``found_in`` and ``code_sha256`` of a copy. Raises CopyError, NeedsYaml."""
    try:
        if not path.is_file():
            raise CopyError("it is no file" if path.exists() else "there is no such file")
        with path.open("rb") as file:
            data = bounded(file)
    except OSError as error:
        raise CopyError(error.strerror or str(error)) from None
    if path.suffix.lower() == ".py":
        return plain_text(data), None, None
    if data.startswith(b"PK"):
        name, code = from_zip(data)
        digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
        return plain_text(code), name, digest
    name, text = from_template(plain_text(data))
    return text, name, None


def judge(path: Path, release: str) -> Verdict:
    """The verdict on one path. Raises NeedsYaml."""
    try:
        text, found_in, code_sha256 = read_copy(path)
    except CopyError as error:
        return Verdict(str(path), "cannot tell", str(error))
    result, diff = "identical" if text == release else "differs", None
    if text != release and len(text) <= MAX_DIFF_BYTES:
        texts = lines_of(release), lines_of(text)
        lines = list(difflib.unified_diff(*texts, "authorizer.py", str(path), lineterm=""))
        if len(lines) > MAX_DIFF_LINES:
            lines[MAX_DIFF_LINES:] = [f"... and {len(lines) - MAX_DIFF_LINES} more lines"]
        diff = "\n".join(lines)
    sha256 = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    version = version_of(text)
    return Verdict(str(path), result, None, found_in, version, sha256, code_sha256, diff)


def report(verdict: Verdict, release_version: str | None) -> str:
    """A verdict for people."""
    head = f"{colour(COLOURS[verdict.result], verdict.result)}: {printable(verdict.path)}"
    if verdict.result == "cannot tell":
        return f"{head}: {verdict.reason}"
    version = verdict.version or "not stated"
    lines = [head + (f", in {printable(verdict.found_in)}" if verdict.found_in else "")]
    lines.append(f"  version {version}; SHA-256 of its text {verdict.sha256}")
    if verdict.code_sha256:
        lines.append(f"  CodeSha256 {verdict.code_sha256}")
    if verdict.result == "differs":
        if verdict.version != release_version:
            what = "use the one of the copy's version"
            lines.append(f"  this checkout has version {release_version}; {what}")
        diff = verdict.diff or "  too large to show the differences"
        lines += [printable(line) for line in diff.split("\n")]
    return "\n".join(lines)


def show_facts(path: Path, as_json: bool) -> int:
    """Print the facts of the copy at a path. Raises CopyError, NeedsYaml."""
    try:
        facts = facts_of(read_copy(path)[0])
    except CopyError as error:
        raise CopyError(printable(f"{path}: {error}")) from None
    shown = [printable(line) for line in table(str(path), facts).split("\n")]
    print(json.dumps(facts._asdict(), indent=2) if as_json else "\n".join(shown))
    return 0


def show_verdicts(paths: list[Path], as_json: bool) -> int:
    """Print a verdict for each path; the exit status. Raises CopyError, NeedsYaml."""
    release, _, _ = read_copy(RELEASE)
    verdicts = [judge(path, release) for path in paths]
    texts = [report(verdict, version_of(release)) for verdict in verdicts]
    objects = [verdict._asdict() for verdict in verdicts]
    print(json.dumps(objects, indent=2) if as_json else "\n".join(texts))
    return max(RESULTS.index(verdict.result) for verdict in verdicts)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("paths", metavar="PATH", nargs="*", type=Path)
    what = "print what one PATH imports, reads, calls and defines (default: authorizer.py)"
    parser.add_argument("--facts", action="store_true", help=what)
    parser.add_argument("--json", action="store_true", help="print JSON instead")
    given = parser.parse_args()
    if not given.facts and not given.paths:
        parser.error("a PATH is missing")
    if given.facts and len(given.paths) > 1:
        parser.error("--facts takes one PATH")
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A difference may hold what the terminal's encoding lacks.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        if given.facts:
            return show_facts((given.paths or [RELEASE])[0], given.json)
        return show_verdicts(given.paths, given.json)
    except NeedsYaml:
        python = environment(sys.executable)
        if python == Path(sys.executable):
            raise ToolsError("the locked development tools hold no PyYAML") from None
        return subprocess.run([str(python), *sys.argv]).returncode


if __name__ == "__main__":
    try:
        if sys.version_info < (3, 11):
            raise ToolsError("it needs Python 3.11 or newer")
        sys.exit(main())
    except (CopyError, ToolsError, OSError, subprocess.SubprocessError) as error:
        print(f"verify_copy.py: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
