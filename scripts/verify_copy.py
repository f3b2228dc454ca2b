#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compare copies of authorizer.py with the one of this checkout, without running them.

A copy is a .py file, a deployment zip, or a CloudFormation or SAM template (YAML or JSON) with the code inlined.
Newline style and a byte-order mark do not count as changes; anything else does. A zip must hold nothing but the
authorizer (and a wheel's dist-info): another file could be what Lambda runs or imports; and nothing that two programs
could unpack differently. For a YAML template the script uses PyYAML; if this Python has none, it goes into .venv/.

Exit status: 0 all identical, 1 one differs, 2 cannot tell of one.
"""

from __future__ import annotations

import argparse
import base64
import difflib
import hashlib
import io
import json
import re
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import NamedTuple

from console import ROOT, colour
from copies import MAX_TEMPLATE_BYTES, CopyError, NeedsYaml, inlined_code, parse_template, version_of
from tools import ToolsError, environment

MAX_BYTES = MAX_TEMPLATE_BYTES  # of what is read, packed or unpacked; authorizer.py has some 30,000
MAX_DIFF_BYTES = 131_072  # of a copy, so that hostile lines cannot keep difflib busy
DIST_INFO = re.compile(r"[\w.]+-[\w.+]+\.dist-info/(METADATA|WHEEL|RECORD|INSTALLER|REQUESTED|licenses/LICENSE)")
RESULTS = ("identical", "differs", "cannot tell")  # in the order of the exit status
COLOURS = {"identical": "green", "differs": "red", "cannot tell": "yellow"}


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
    """``text`` with its control characters escaped, as a hostile copy may hold commands to a terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def from_zip(data: bytes) -> tuple[str, bytes]:
    """Name and bytes of the one Python file in a zip. Raises CopyError."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            files = [info for info in archive.infolist() if not info.is_dir()]
            python = [info for info in files if info.filename.endswith(".py")]
            others = [info for info in files if info not in python and not DIST_INFO.fullmatch(info.filename)]
            names = ", ".join(printable(info.filename[:80]) for info in (python + others)[:5])
            if len(python) != 1 or others:
                raise CopyError(f"the zip must hold one Python file and no other, but holds {names or 'nothing'}")
            if not reads_alike(data, archive):
                raise CopyError("the zip holds something that another program could unpack in another way")
            packed = python[0].compress_type
            if python[0].file_size > MAX_BYTES or packed not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise CopyError("the zip's Python file is too large, or packed as Lambda cannot unpack it")
            with archive.open(python[0]) as file:
                return python[0].filename, file.read(MAX_BYTES + 1)
    except CopyError:
        raise
    except Exception:  # whatever zipfile and zlib may raise for a hostile file
        raise CopyError("the zip is damaged, encrypted or incomplete") from None


def reads_alike(data: bytes, archive: zipfile.ZipFile) -> bool:
    """Whether a zip gives the same files to all: by its directory, as Python reads it, or from its beginning.

    Which way Lambda takes is not documented. Each file has two headers; they must agree, and no others be there.
    """
    entries = archive.infolist()
    headers = [data.count(mark) for mark in (b"PK\3\4", b"PK\1\2", b"PK\5\6")]
    places = {entry.header_offset for entry in entries}
    if headers != [len(places), len(entries), 1] or not data.startswith(b"PK\3\4"):
        return False
    for entry in entries:
        archive.open(entry).close()  # raises if its names differ
        at = entry.header_offset
        flags, method, *sums, name, extra = struct.unpack("<HH4xLLLHH", data[at + 6 : at + 30])
        said = [entry.CRC, entry.compress_size, entry.file_size]
        if flags & 8 and method == zipfile.ZIP_DEFLATED:  # streamed: what was not known then follows the file
            sums = [known or later for known, later in zip(sums, said)]
        extras = entry.extra + data[at + 30 + name :][:extra]
        if method != entry.compress_type or sums != said or b"up" in extras:  # Unicode Path: a name
            return False
        if entry.filename != entry.orig_filename:  # it has a NUL, at which some end it
            return False
    return True


def from_template(text: str) -> tuple[str, str]:
    """Logical id and inlined code of the authorizer in a template. Raises CopyError, NeedsYaml."""
    found = inlined_code(parse_template(text))
    if len(found) > 1:  # with other functions beside it, ours is the one that defines its error
        found = {name: code for name, code in found.items() if "SecretUnavailableError" in str(code)}
    if len(found) != 1:
        names = f" ({', '.join(printable(name[:80]) for name in list(found)[:5])})" if found else ""
        raise CopyError(f"the template has {len(found) or 'no'} functions with the authorizer inlined{names}")
    ((name, code),) = found.items()
    if not isinstance(code, str):
        function = printable(next(iter(code), "a list")[:80]) if isinstance(code, dict) else "a list"
        raise CopyError(f"the code of {printable(name[:80])} passes through {function}, which can change it")
    return name, same_newlines(code.removeprefix("\ufeff"))


def judge(path: Path, release: str) -> Verdict:
    """The verdict on one path. Raises NeedsYaml."""
    try:
        if not path.is_file():
            raise CopyError("it is no file" if path.exists() else "there is no such file")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise CopyError(f"it has more than {MAX_BYTES} bytes, so it is not just the authorizer")
        found_in = code_sha256 = None
        if path.suffix.lower() == ".py":
            text = plain_text(data)
        elif data.startswith(b"PK"):
            code_sha256 = base64.b64encode(hashlib.sha256(data).digest()).decode()
            found_in, code = from_zip(data)
            text = plain_text(code)
        else:
            found_in, text = from_template(plain_text(data))
    except (CopyError, OSError) as error:
        return Verdict(str(path), "cannot tell", getattr(error, "strerror", None) or str(error))
    diff = None
    if text != release and len(text) <= MAX_DIFF_BYTES:
        lines = difflib.unified_diff(lines_of(release), lines_of(text), "authorizer.py", str(path), lineterm="")
        diff = "\n".join(lines)
    return Verdict(
        path=str(path),
        result="identical" if text == release else "differs",
        found_in=found_in,
        version=version_of(text),
        sha256=hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest(),
        code_sha256=code_sha256,
        diff=diff,
    )


def report(verdict: Verdict, release_version: str | None) -> str:
    """A verdict for people."""
    head = f"{colour(COLOURS[verdict.result], verdict.result)}: {printable(verdict.path)}"
    if verdict.result == "cannot tell":
        return f"{head}: {verdict.reason}"
    lines = [f"{head}{f', in {printable(verdict.found_in)}' if verdict.found_in else ''}"]
    lines.append(f"  version {verdict.version or 'not stated'}; SHA-256 of its text {verdict.sha256}")
    if verdict.code_sha256:
        lines.append(f"  CodeSha256 {verdict.code_sha256}")
    if verdict.result == "differs":
        if verdict.version != release_version:
            lines.append(f"  this checkout has version {release_version}; use the one of the copy's version")
        lines.extend(map(printable, (verdict.diff or "  too large to show the differences").split("\n")))
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", metavar="PATH", nargs="+", type=Path, help="a .py file, a zip or a template")
    parser.add_argument("--json", action="store_true", help="print a list of JSON objects instead")
    arguments = parser.parse_args()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a difference may hold what the terminal's encoding lacks
    release = plain_text((ROOT / "authorizer.py").read_bytes())
    try:
        verdicts = [judge(path, release) for path in arguments.paths]
    except NeedsYaml:
        python = environment(sys.executable)
        if python == Path(sys.executable):
            raise ToolsError("the locked development tools hold no PyYAML") from None
        return subprocess.run([str(python), *sys.argv]).returncode
    if arguments.json:
        print(json.dumps([verdict._asdict() for verdict in verdicts], indent=2))
    else:
        for verdict in verdicts:
            print(report(verdict, version_of(release)))
    return max(RESULTS.index(verdict.result) for verdict in verdicts)


if __name__ == "__main__":
    try:
        if sys.version_info < (3, 10):
            raise ToolsError("it needs Python 3.10 or newer")
        sys.exit(main())
    except (CopyError, ToolsError, OSError, subprocess.SubprocessError) as error:
        print(f"verify_copy.py: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
