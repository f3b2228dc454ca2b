#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Make the files of a release: authorizer.zip, two templates, the wheel and SHA256SUMS.

They are the same, byte for byte, for the same commit on every machine. Needs nothing but Python
3.11 or newer: the tool that builds the wheel goes into .venv/ by itself. Prints each file's SHA-256
in hexadecimal and in base64. A function made from authorizer.zip has that base64 as its CodeSha256.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from lib.console import ROOT, colour, progress
from lib.copies import MAX_DIRECT_BYTES, CopyError, source, write_all
from lib.environments import ToolsError, environment

SKELETON = "scripts/deploy/template.yaml"
ROTATOR, ROTATION = "scripts/deploy/rotator.py", "scripts/deploy/rotation.yaml"
TEMPLATES = (SKELETON, "authorizer.py"), (ROTATION, ROTATOR)  # each with the code that goes into it
INDENT = "      "  # of the line @authorizer.py@, or @rotator.py@
EPOCH = (2020, 1, 1, 0, 0, 0)  # the time of every file in a zip
TYPED = "scripts/lib/editable/secure_authorizer/py.typed"
WHEEL_SOURCES = ("authorizer.py", "pyproject.toml", "README.md", "LICENSE", TYPED)


def stored_zip(files: dict[str, bytes]) -> bytes:
    """A zip that depends on names and contents alone: fixed times and modes, no compression
    (zlibs differ).
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo(name, EPOCH)
            info.create_system = 3  # Unix, so that the mode counts
            info.external_attr = 0o100644 << 16
            archive.writestr(info, data)
    return buffer.getvalue()


def inlined(skeleton: str, code: str, name: str = "authorizer.py") -> str:
    """The skeleton with the code of the file of that name in its place.

    Raises CopyError if YAML or CloudFormation could change the code.
    """
    if not re.fullmatch(r"[\n -~]*[!-~]\n", code) or code[0] in " \n":
        raise CopyError(
            f"{name} must be printable ASCII without tabs, start with text and end in one newline"
        )
    if "{{resolve:" in code:
        raise CopyError(f"{name} holds {{{{resolve:, which CloudFormation would replace")
    place = f"{INDENT}@{name}@\n"
    if skeleton.count(place) != 1:
        raise CopyError(f"its template must have one line @{name}@, indented by six spaces")
    template = skeleton.replace(place, re.sub("^(?=.)", INDENT, code, flags=re.MULTILINE))
    if len(template) > MAX_DIRECT_BYTES:
        raise CopyError(
            f"the template with {name} has {len(template)} bytes; beyond {MAX_DIRECT_BYTES} it "
            "would need a bucket"
        )
    return template


def wheel() -> tuple[str, bytes]:
    """The wheel's name and bytes. It is built in a folder that holds only the files it needs."""
    python = environment(sys.executable)
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "HATCH"))
    }
    with tempfile.TemporaryDirectory() as folder:
        for name in WHEEL_SOURCES:
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(source(name))
        command = [str(python), "-m", "hatchling", "build", "-t", "wheel", "-d", "out"]
        done = subprocess.run(command, cwd=folder, env=kept, capture_output=True, text=True)
        built = list(Path(folder).glob("out/*.whl"))
        if done.returncode or len(built) != 1:
            raise CopyError(
                "hatchling could not build the wheel: " + " ".join(done.stderr.split())[-300:]
            )
        # Stored anew; its RECORD is of contents, so it stays right.
        with zipfile.ZipFile(built[0]) as archive:
            return built[0].name, stored_zip(
                {info.filename: archive.read(info) for info in archive.infolist()}
            )


def build(with_wheel: bool = True) -> dict[str, bytes]:
    """The files of a release by name. Raises CopyError, ToolsError."""
    files = {"authorizer.zip": stored_zip({"authorizer.py": source("authorizer.py")})}
    for skeleton, code in TEMPLATES:
        try:
            texts = source(skeleton).decode("ascii"), source(code).decode("ascii")
        except UnicodeDecodeError:
            raise CopyError(f"{code} and {skeleton} must be ASCII") from None
        files[Path(skeleton).name] = inlined(*texts, Path(code).name).encode()
    if with_wheel:
        name, data = wheel()
        files[name] = data
    sums = "".join(
        f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(files.items())
    )
    return {**files, "SHA256SUMS": sums.encode()}  # last, so that it vouches for what is there


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--output", metavar="DIR", type=Path, default=ROOT / "dist", help="default: dist/"
    )
    parser.add_argument(
        "--no-wheel",
        action="store_true",
        help="leave out the wheel, whose build downloads a tool",
    )
    options = parser.parse_args()
    output: Path = options.output
    progress("" if options.no_wheel else "Building the wheel ...")
    try:
        files = build(not options.no_wheel)
    finally:
        progress("")
    try:
        write_all(output, files)
    except OSError as error:
        raise CopyError(f"the folder {output} cannot be written to: {error.strerror}") from None
    for name, data in files.items():
        digest = hashlib.sha256(data)
        print(colour("bold", str(output / name)), f"({len(data)} bytes)")
        print(f"  SHA-256 {digest.hexdigest()}")
        print(f"  base64  {base64.b64encode(digest.digest()).decode()}")
    for skeleton, _ in TEMPLATES:
        room = MAX_DIRECT_BYTES - len(files[Path(skeleton).name])
        print(f"{Path(skeleton).name} can grow by {room} bytes before it needs a bucket.")
    return 0


if __name__ == "__main__":
    if sys.version_info < (3, 11):
        sys.exit("package.py needs Python 3.11 or newer")
    try:
        sys.exit(main())
    except (CopyError, ToolsError, OSError, subprocess.SubprocessError) as error:
        sys.exit(f"package.py: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
