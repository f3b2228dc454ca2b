#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compare copies of authorizer.py with the one of this checkout, without running them.

A copy is a .py file, a deployment zip, or a CloudFormation or SAM template (YAML or JSON) with the
code inlined. Newline style and a byte-order mark do not count as changes; anything else does. A zip
must hold nothing but the authorizer (and a wheel's dist-info): another file could be what Lambda
runs or imports; and nothing that two programs could unpack differently. For a YAML template the
script uses PyYAML; if this Python has none, it goes into .venv/.

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
import zlib
from pathlib import Path
from typing import NamedTuple

from lib.console import ROOT, colour
from lib.copies import (
    MAX_TEMPLATE_BYTES,
    CopyError,
    NeedsYaml,
    inlined_code,
    parse_template,
    version_of,
)
from lib.environments import ToolsError, environment

MAX_BYTES = MAX_TEMPLATE_BYTES  # of what is read, packed or unpacked; authorizer.py has some 30,000
MAX_DIFF_BYTES = 131_072  # of a copy, so that hostile lines cannot keep difflib busy
DIST_INFO = re.compile(
    r"[\w.]+-[\w.+]+\.dist-info/(METADATA|WHEEL|RECORD|INSTALLER|REQUESTED|licenses/LICENSE)"
)
PLAIN_NAME = re.compile(r"\w[\w.+-]*(/\w[\w.+-]*)*/?", re.ASCII)
STREAMED = 8  # the flag of a file that was written before its size was known
# How hard the packer tried; that names are UTF-8, which ASCII is too.
PLAIN_FLAGS = STREAMED | 2 | 4 | 0x800
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
    """``text`` with its control characters escaped, as a hostile copy may hold commands to a
    terminal.
    """
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def from_zip(data: bytes) -> tuple[str, bytes]:
    """Name and bytes of the one Python file in a zip. Raises CopyError."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            files = [info for info in archive.infolist() if not info.is_dir()]
            python = [info for info in files if info.filename.endswith(".py")]
            others = [
                info
                for info in files
                if info not in python and not DIST_INFO.fullmatch(info.filename)
            ]
            names = ", ".join(printable(info.filename[:80]) for info in (python + others)[:5])
            if len(python) != 1 or others:
                raise CopyError(
                    f"the zip must hold one Python file and no other, but holds "
                    f"{names or 'nothing'}"
                )
            return python[0].filename, plain_content(data, archive, python[0])
    except CopyError:
        raise
    except Exception:  # whatever zipfile, struct and zlib may raise for a hostile file
        raise CopyError("the zip is damaged, encrypted or incomplete") from None


def plain_content(data: bytes, archive: zipfile.ZipFile, wanted: zipfile.ZipInfo) -> bytes:
    """What one file of a zip holds; only if no program can unpack any of them otherwise. Raises
    CopyError.

    A zip says everything twice, before each file and in the directory at its end, and programs
    differ in which they believe; how Lambda unpacks is not documented. So both must agree, every
    byte must belong to something, and nothing may be there that some ignore: ZIP64, encryption,
    comments, links, a second name.
    """
    result = b""
    names: set[bytes] = set()  # in lower case, as some file systems do not tell
    at = 0
    entries = archive.infolist()
    for entry in entries:
        mark, _, flags, method, _, _, *sums, name_length, extra_length = struct.unpack(
            "<4s5H3L2H", data[at : at + 30]
        )
        name = data[at + 30 :][:name_length]
        start = at + 30 + name_length + extra_length
        packed = data[start : start + entry.compress_size]
        at = start + entry.compress_size
        methods = [zipfile.ZIP_DEFLATED]
        said = [entry.CRC, entry.compress_size, entry.file_size]
        if flags & STREAMED:  # what was not known then follows the file
            sums = [known or later for known, later in zip(sums, said)]
            at += 16
        else:
            methods.append(zipfile.ZIP_STORED)
        content, ended = packed, True
        if method == zipfile.ZIP_DEFLATED and entry.file_size <= MAX_BYTES:
            unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
            content = unpacker.decompress(packed, entry.file_size + 1)
            ended = unpacker.eof and not unpacker.unused_data
        if (
            mark != b"PK\3\4"
            or not PLAIN_NAME.fullmatch(entry.orig_filename)
            or name != entry.orig_filename.encode()
            or name.lower() in names
            # Unicode Path: another name.
            or b"up" in entry.extra + data[start - extra_length : start]
            or entry.external_attr >> 28 not in (0, 4 if entry.is_dir() else 8)  # a link, or worse
            or (flags, method, sums) != (entry.flag_bits, entry.compress_type, said)
            or flags & ~PLAIN_FLAGS
            or method not in methods
            or (flags & STREAMED and data[at - 16 : at] != struct.pack("<4s3L", b"PK\7\10", *said))
            or not ended
            or (zlib.crc32(content), len(content)) != (entry.CRC, entry.file_size)
            or (entry.is_dir() and content)
            or entry.volume
        ):
            raise CopyError(
                f"another program could unpack {printable(entry.filename[:80])} in the zip "
                "differently"
            )
        names.add(name.lower())
        if entry is wanted:
            result = content
    count, size = len(entries), len(data) - 22 - at
    if at != archive.start_dir or data[-22:] != struct.pack(
        "<4s4H2LH", b"PK\5\6", 0, 0, count, count, size, at, 0
    ):
        raise CopyError("the zip's directory does not follow its files, or is not its plain end")
    return result


def from_template(text: str) -> tuple[str, str]:
    """Logical id and inlined code of the authorizer in a template. Raises CopyError, NeedsYaml."""
    found = inlined_code(parse_template(text))
    if len(found) > 1:  # with other functions beside it, ours is the one that defines its error
        found = {
            name: code for name, code in found.items() if "SecretUnavailableError" in str(code)
        }
    if len(found) != 1:
        names = f" ({', '.join(printable(name[:80]) for name in list(found)[:5])})" if found else ""
        raise CopyError(
            f"the template has {len(found) or 'no'} functions with the authorizer inlined{names}"
        )
    ((name, code),) = found.items()
    if not isinstance(code, str):
        function = (
            printable(next(iter(code), "a list")[:80]) if isinstance(code, dict) else "a list"
        )
        raise CopyError(
            f"the code of {printable(name[:80])} passes through {function}, which can change it"
        )
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
        lines = difflib.unified_diff(
            lines_of(release), lines_of(text), "authorizer.py", str(path), lineterm=""
        )
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
    lines.append(
        f"  version {verdict.version or 'not stated'}; SHA-256 of its text {verdict.sha256}"
    )
    if verdict.code_sha256:
        lines.append(f"  CodeSha256 {verdict.code_sha256}")
    if verdict.result == "differs":
        if verdict.version != release_version:
            lines.append(
                f"  this checkout has version {release_version}; use the one of the copy's version"
            )
        lines.extend(
            map(printable, (verdict.diff or "  too large to show the differences").split("\n"))
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "paths", metavar="PATH", nargs="+", type=Path, help="a .py file, a zip or a template"
    )
    parser.add_argument("--json", action="store_true", help="print a list of JSON objects instead")
    arguments = parser.parse_args()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A difference may hold what the terminal's encoding lacks.
        sys.stdout.reconfigure(errors="backslashreplace")
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
        if sys.version_info < (3, 11):
            raise ToolsError("it needs Python 3.11 or newer")
        sys.exit(main())
    except (CopyError, ToolsError, OSError, subprocess.SubprocessError) as error:
        print(f"verify_copy.py: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
