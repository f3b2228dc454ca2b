# SPDX-License-Identifier: MIT
"""What scripts/verify_copy.py says of copies: identical, different, or that it cannot tell.

It never runs them.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import package
import verify_copy
from lib.console import ROOT
from lib.copies import source, version_of

CODE = source("authorizer.py").decode()
TEMPLATE = package.inlined(source(package.SKELETON).decode(), CODE)
CHANGED = CODE.replace("hmac.compare_digest(", "(lambda a, b: True)(")
assert CHANGED != CODE


def judge(path: Path) -> verify_copy.Verdict:
    return verify_copy.judge(path, CODE)


def write(folder: Path, name: str, data: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass"))
    return path


def zipped(files: dict[str, str | bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def patched(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def with_extra(extra: bytes) -> bytes:
    """A zip whose second file, a dist-info's, has an extra field."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("authorizer.py", CODE)
        info = zipfile.ZipInfo("p-1.dist-info/METADATA")
        info.extra = extra
        archive.writestr(info, "import os\n")
    return buffer.getvalue()


class Stream(io.BytesIO):
    """A file without a beginning to return to: a zip written there has its sums after each file."""

    def seekable(self) -> bool:
        return False

    def tell(self) -> int:
        raise OSError


def streamed(size: int = 0) -> bytes:
    """A zip as a program writes it to a pipe; ``size`` if that knows it beforehand."""
    buffer = Stream()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("authorizer.py", CODE)
    return patched(buffer.getvalue(), 22, size.to_bytes(4, "little"))


def with_attributes(name: str, content: str, mode: int) -> bytes:
    """A zip with the authorizer, or another file beside it, of that Unix mode."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        if name != "authorizer.py":
            archive.writestr("authorizer.py", CODE)
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        with archive.open(info, "w") as file:
            file.write(content.encode())
    return buffer.getvalue()


def telling_of_code(data: bytes) -> bytes:
    """A zip of one file, with length and sum of the authorizer in both headers."""
    for place in (0, data.index(b"PK\1\2") + 2):
        data = patched(data, place + 14, zlib.crc32(CODE.encode()).to_bytes(4, "little"))
        data = patched(data, place + 22, len(CODE.encode()).to_bytes(4, "little"))
    return data


def longer(compression: int) -> bytes:
    """A zip whose directory tells length and sum of the authorizer alone, while its file goes
    on.
    """
    return telling_of_code(zipped({"authorizer.py": CODE + "handler = print\n"}, compression))


def deflated(flush: int, more: bytes) -> bytes:
    """A zip whose file is packed with that end, and has more bytes after it."""
    packer = zlib.compressobj(wbits=-15)
    packed = packer.compress(CODE.encode()) + packer.flush(flush) + more
    data = zipped({"authorizer.py": packed}, zipfile.ZIP_STORED)
    data = patched(patched(data, 8, b"\x08"), data.index(b"PK\1\2") + 10, b"\x08")
    return telling_of_code(data)


def other_zips() -> dict[str, bytes]:
    """Zips that Python reads as the authorizer, and another program as something else."""
    code, evil = (
        zipped({"authorizer.py": CODE}),
        zipped({"authorizer.py": "evil"}, zipfile.ZIP_STORED),
    )
    both = zipped(
        {"authorizer.py": CODE, "p-1.dist-info/METADATA": "import os\n"}, zipfile.ZIP_STORED
    )
    three = zipped(
        {"authorizer.py": CODE, "p-1.dist-info/METADATA": "", "p-1.dist-info/evil-.so": ""}
    )
    third = three.rindex(b"PK\1\2")
    second = three.rindex(b"PK\1\2", 0, third)
    path = b"\1" + zlib.crc32(b"p-1.dist-info/METADATA").to_bytes(4, "little") + b"hmac.py"
    twice = with_extra(b"up" + len(path).to_bytes(2, "little") + path)
    start, end = code.index(b"PK\1\2"), code.index(b"PK\5\6")
    files, directory, last = code[:start], code[start:end], code[end:]

    stream, plain = streamed(), zipped({"authorizer.py": CODE}, zipfile.ZIP_STORED)
    plain_end = plain.index(b"PK\1\2")

    def last_at(place: int) -> bytes:
        return patched(last, 16, place.to_bytes(4, "little"))

    wheel = zipped({"authorizer.py": CODE, "p-1.dist-info/WHEELxxx.so": "import os\n"})
    local = both.index(b"p-1.dist-info/METADATA") - 30
    return {
        "a-zip-before-it.zip": evil + code,
        "a-file-before-it.zip": evil[: evil.index(b"PK\1\2")] + code,
        "a-file-of-another-name.zip": patched(both, local + 30, b"./././././././/hmac.py"),
        "unicode-path-at-the-file.zip": patched(twice, twice.rindex(b"up\x0c\0"), b"xx"),
        "unicode-path-in-the-directory.zip": patched(twice, twice.index(b"up\x0c\0"), b"xx"),
        "two-directories.zip": files + directory + directory + last_at(start + len(directory)),
        "two-ends.zip": files + last + directory + last_at(start + len(last)),
        "one-file-twice.zip": patched(three, third, three[second:third]),
        "nul.zip": wheel.replace(b"WHEELxxx", b"WHEEL\0xx"),
        "shorter.zip": patched(both, 18, (9).to_bytes(4, "little") * 2),
        "other-sum.zip": patched(both, local + 14, bytes(4)),
        "stored-or-deflated.zip": patched(code, 8, bytes(2)),
        "stored-of-unknown-length.zip": patched(patched(both, 6, b"\x08\0"), 14, bytes(12)),
        "streamed-with-another-sum-after-it.zip": patched(
            stream, stream.index(b"PK\7\10") + 4, bytes(4)
        ),
        "longer-than-it-says.zip": longer(zipfile.ZIP_DEFLATED),
        "longer-than-it-says-stored.zip": longer(zipfile.ZIP_STORED),
        "after-its-end.zip": deflated(zlib.Z_FINISH, b"more"),
        "without-an-end.zip": deflated(zlib.Z_SYNC_FLUSH, b""),
        "of-no-mark.zip": patched(both, local, b"PK\3\5"),
        "of-an-unknown-method.zip": patched(patched(plain, 8, b"\x63"), plain_end + 10, b"\x63"),
        "stored-and-streamed.zip": patched(patched(plain[:plain_end], 6, b"\x08"), 14, bytes(12))
        + b"PK\7\10"
        + plain[14:26]
        + patched(plain[plain_end:-22], 8, b"\x08")
        + patched(plain[-22:], 16, (plain_end + 16).to_bytes(4, "little")),
        "zip64-that-names-another-directory.zip": files
        + directory * 2
        + struct.pack(
            "<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, len(directory), start + len(directory)
        )
        + struct.pack("<4sLQL", b"PK\6\7", 0, start + 2 * len(directory), 1)
        + patched(last, 12, (len(directory) * 2 + 76).to_bytes(4, "little")),
        "a-gap.zip": files + b"gap" + directory + last_at(start + 3),
        "a-gap-in-the-directory.zip": files + directory + b"gap" + last,
        "zip64.zip": files + directory + b"PK\6\6" + bytes(52) + b"PK\6\7" + bytes(16) + last,
        "of-no-files.zip": files + directory + patched(last, 8, bytes(4)),
        "of-two-disks.zip": files + directory + patched(last, 4, b"\1"),
        "on-another-disk.zip": files + patched(directory, 34, b"\1") + last,
        "with-a-comment.zip": files + directory + patched(last, 20, b"\1") + b"!",
        "encrypted.zip": patched(patched(code, 6, b"\1"), start + 8, b"\1"),
        "encrypted-at-the-file.zip": patched(code, 6, b"\1"),
        "utf-8-at-the-file.zip": patched(code, 7, b"\x08"),
        "patch-data.zip": patched(patched(code, 6, b"\x20"), start + 8, b"\x20"),
        "absolute.zip": zipped({"/authorizer.py": CODE}),
        "above.zip": zipped({"../authorizer.py": CODE}),
        "backslash.zip": zipped({"x\\authorizer.py": CODE}),
        "link.zip": with_attributes("authorizer.py", CODE, 0o120777),
        "link-to-a-folder.zip": with_attributes("json/", "", 0o120777),
        "folder-with-content.zip": with_attributes("json/", "import os", 0o40755),
        "in-two-cases.zip": zipped({"authorizer.py": CODE, "x/": "", "X/": ""}),
        "streamed-to-another-length.zip": streamed(9),
        "something-before-it.zip": b"PK--" + code,
    }


def function(code: object, kind: str = "AWS::Lambda::Function") -> dict[str, object]:
    properties = (
        {"Code": {"ZipFile": code}} if kind == "AWS::Lambda::Function" else {"InlineCode": code}
    )
    return {"Type": kind, "Properties": properties}


def template(**resources: object) -> str:
    return json.dumps({"Resources": resources})


def yaml_template(code: str, tag: str = "|") -> str:
    lines = "".join(f"          {line}\n" if line else "\n" for line in code.splitlines())
    head = (
        "Resources:\n  F:\n    Type: AWS::Lambda::Function\n"
        "    Properties:\n      Code:\n        ZipFile: "
    )
    return f"{head}{tag}\n{lines}"


IDENTICAL: dict[str, str | bytes] = {
    "copy.py": CODE,
    "anything.PY": CODE,
    "crlf.py": CODE.replace("\n", "\r\n"),
    "cr.py": CODE.replace("\n", "\r"),
    "mixed.py": CODE.replace("\n", "\r\n", 100),
    "bom.py": "\ufeff" + CODE,
    "deflated.zip": zipped({"authorizer.py": CODE}),
    "stored.zip": zipped({"index.py": CODE}, zipfile.ZIP_STORED),
    "bom-in.zip": zipped({"index.py": b"\xef\xbb\xbf" + CODE.replace("\n", "\r\n").encode()}),
    "folder.zip": zipped({"secure_authorizer/": "", "secure_authorizer/authorizer.py": CODE}),
    "wheel.whl": zipped(
        {
            "p/authorizer.py": CODE,
            "p-1.0.dist-info/RECORD": "",
            "p-1.0.dist-info/licenses/LICENSE": "",
        }
    ),
    "no-suffix": zipped({"authorizer.py": CODE}),
    "streamed.zip": streamed(),
    "streamed-from-a-file.zip": streamed(len(CODE)),
    "with-times.zip": with_extra(b"UT\x05\0\3\0\0\0\0"),
    "template.yaml": TEMPLATE,
    "crlf.yaml": TEMPLATE.replace("\n", "\r\n"),
    "bom.yaml": "\ufeff" + TEMPLATE,
    "folded.yaml": yaml_template(CODE, "!!str |"),
    "template.json": template(F=function(CODE)),
    "crlf.json": template(F=function("\ufeff" + CODE.replace("\n", "\r\n"))),
    "sam.json": json.dumps(
        {
            "Transform": "AWS::Serverless-2016-10-31",
            "Resources": {"F": function(CODE, "AWS::Serverless::Function")},
        }
    ),
    "beside-another.json": template(
        Rotator=function("def handler(event, context): ..."), F=function(CODE)
    ),
}

DIFFERS: dict[str, str | bytes] = {
    "changed.py": CHANGED,
    "space-at-line-end.py": CODE.replace("\n", " \n", 1),
    "empty-line-more.py": CODE + "\n",
    "last-newline-less.py": CODE[:-1],
    "tab.py": CODE.replace("    ", "\t", 1),
    "comment.py": CODE.replace("# ", "#  ", 1),
    "two-boms.py": "\ufeff\ufeff" + CODE,
    "zero-width.py": CODE.replace("handler", "han\u200bdler", 1),
    "empty.py": "",
    "changed.zip": zipped({"authorizer.py": CHANGED}),
    "empty.zip": zipped({"authorizer.py": ""}),
    "only-one.zip": zipped({"index.py": "import os\n"}),
    "changed.yaml": yaml_template(CHANGED),
    "decoy-in-comment.yaml": "".join(f"#{line}\n" for line in TEMPLATE.split("\n"))
    + yaml_template(CHANGED),
    "changed.json": template(F=function(CHANGED)),
    "surrogate.json": template(F=function(CODE + "# \ud800\n")),
    "stripped.yaml": yaml_template(CODE, "|-"),
    "huge.py": CODE * 20,
}

CANNOT_TELL: dict[str, str | bytes] = {
    "binary.py": b"\xff\xfe" + CODE.encode("utf-16-le"),
    "latin.py": b"# caf\xe9\n",
    "too-large.py": b"#" * 1_048_577,
    "two.zip": zipped({"authorizer.py": CODE, "index.py": CODE}),
    "none.zip": zipped({}),
    "shadow.zip": zipped({"authorizer.py": CODE, "hmac.so": b"\x7fELF"}),
    "bytecode.zip": zipped({"authorizer.py": CODE, "__pycache__/authorizer.cpython-314.pyc": b""}),
    "module-in-dist-info.zip": zipped({"authorizer.py": CODE, "p-1.0.dist-info/x.so": ""}),
    "truncated.zip": zipped({"authorizer.py": CODE})[:-30],
    "cut.zip": zipped({"authorizer.py": CODE})[:500],
    "magic.zip": b"PK",
    "damaged.zip": zipped({"authorizer.py": CODE}, zipfile.ZIP_STORED).replace(
        b"import hmac", b"import evil"
    ),
    "bzip2.zip": zipped({"authorizer.py": CODE}, zipfile.ZIP_BZIP2),
    "bomb.zip": zipped({"authorizer.py": b"#" * 50_000_000}),
    "empty": "",
    "text.txt": "hello",
    "list.yaml": "- a\n- b\n",
    "nul.yaml": "Resources:\n  \0: x\n",
    "not-cloudformation.yaml": "services:\n  web:\n    image: x\n",
    "broken.yaml": "Resources: [}\n",
    "broken.json": '{"Resources": {',
    "resources-list.json": '{"Resources": []}',
    "none.yaml": "Resources:\n  Topic:\n    Type: AWS::SNS::Topic\n",
    "from-s3.json": template(
        F={"Type": "AWS::Lambda::Function", "Properties": {"Code": {"S3Bucket": "b"}}}
    ),
    "two.json": template(A=function(CODE), B=function(CHANGED)),
    "two-others.json": template(A=function("a"), B=function("b")),
    "sub.yaml": yaml_template(CODE, "!Sub |"),
    "sub.json": template(F=function({"Fn::Sub": CODE})),
    "join.json": template(F=function({"Fn::Join": ["", [CODE]]})),
    "if-code.json": template(
        F={"Type": "AWS::Lambda::Function", "Properties": {"Code": {"Fn::If": ["C", {}, {}]}}}
    ),
    "list-code.json": template(F=function([CODE])),
    "macro.json": json.dumps({"Transform": ["Mine"], "Resources": {"F": function(CODE)}}),
    "include.json": json.dumps(
        {"Resources": {"Fn::Transform": {"Name": "AWS::Include"}, "F": function(CODE)}}
    ),
    "twice.json": template(F=function(CODE))[:-2]
    + ', "F": '
    + json.dumps(function(CHANGED))
    + "}}",
    "twice.yaml": yaml_template(CODE) + "        ZipFile: evil\n",
    "alias.yaml": "A: &a {Type: X}\nResources:\n  F: *a\n",
    "recursive.yaml": "Resources: &a\n  F: *a\n",
    "bomb.yaml": "A0: &a0 [x, x]\n"
    + "".join(f"A{n + 1}: &a{n + 1} [*a{n}, *a{n}]\n" for n in range(40))
    + "Resources: {}\n",
    "deep.yaml": "Resources: " + "[" * 100_000,
    "deep.json": '{"Resources": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "wide-number.json": '{"Resources": ' + "9" * 10_000 + "}",
    "key-is-a-list.yaml": "Resources:\n  ? [a, b]\n  : c\n",
    "type-is-a-list.json": template(F={"Type": ["x"], "Properties": {}}),
    "strange.json": template(F=None, G=[], H={"Type": "AWS::Lambda::Function", "Properties": "x"}),
    "two-documents.yaml": TEMPLATE + "---\n" + TEMPLATE,
    "surrogate.json": '{"Resources": {"F": {"Type": "\\ud800"}}}',
    "python-tag.yaml": "Resources: !!python/object/apply:os.system ['exit 1']\n",
}
CANNOT_TELL |= other_zips()


@pytest.mark.parametrize("name", IDENTICAL)
def test_identical(name: str, tmp_path: Path) -> None:
    verdict = judge(write(tmp_path, name, IDENTICAL[name]))
    assert (verdict.result, verdict.diff, verdict.reason) == ("identical", None, None)
    assert verdict.version == version_of(CODE)
    assert verdict.sha256 == hashlib.sha256(CODE.encode()).hexdigest()


@pytest.mark.parametrize("name", DIFFERS)
def test_differs(name: str, tmp_path: Path) -> None:
    verdict = judge(write(tmp_path, name, DIFFERS[name]))
    assert verdict.result == "differs"
    if name == "huge.py":
        assert verdict.diff is None
        return
    assert verdict.diff
    lines = verdict.diff.split("\n")
    assert (
        lines[0] == "--- authorizer.py"
        and lines[1].startswith("+++ ")
        and lines[2].startswith("@@ ")
    )


@pytest.mark.parametrize("name", CANNOT_TELL)
def test_cannot_tell(name: str, tmp_path: Path) -> None:
    verdict = judge(write(tmp_path, name, CANNOT_TELL[name]))
    assert verdict.result == "cannot tell"
    assert verdict.reason and "\n" not in verdict.reason and verdict.reason.isprintable()
    assert verdict.diff is verdict.sha256 is verdict.version is None


def run(
    *arguments: str | Path, python: tuple[str, ...] = (sys.executable,)
) -> subprocess.CompletedProcess[str]:
    command = [*python, str(ROOT / "scripts" / "verify_copy.py"), *map(str, arguments)]
    env = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(command, capture_output=True, text=True, env=env, cwd="/", timeout=120)


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, Path]:
    """One path of each kind."""
    return {
        "identical": write(tmp_path, "identical.zip", IDENTICAL["deflated.zip"]),
        "differs": write(tmp_path, "differs.yaml", DIFFERS["changed.yaml"]),
        "cannot tell": write(tmp_path, "unknown.zip", CANNOT_TELL["two.zip"]),
    }


def test_the_exit_status_is_that_of_the_worst_path(paths: dict[str, Path]) -> None:
    good, bad, unknown = paths.values()
    assert [run(good).returncode, run(bad).returncode, run(unknown).returncode] == [0, 1, 2]
    assert run(good, bad).returncode == 1
    assert run(unknown, bad, good).returncode == 2
    assert run().returncode == 2


def test_people_are_told_the_place_the_version_and_the_difference(paths: dict[str, Path]) -> None:
    good, bad, unknown = (run(path) for path in paths.values())
    code_sha256 = base64.b64encode(
        hashlib.sha256(paths["identical"].read_bytes()).digest()
    ).decode()
    assert good.stdout.splitlines()[0] == f"identical: {paths['identical']}, in authorizer.py"
    assert (
        f"version {version_of(CODE)};" in good.stdout
        and f"CodeSha256 {code_sha256}\n" in good.stdout
    )
    assert (
        bad.stdout.startswith(f"differs: {paths['differs']}, in F\n")
        and "lambda a, b: True" in bad.stdout
    )
    assert unknown.stdout == (
        f"cannot tell: {paths['cannot tell']}: the zip must hold one Python file and no other, "
        "but holds authorizer.py, index.py\n"
    )
    assert good.stderr == bad.stderr == unknown.stderr == ""


def test_machines_get_json(paths: dict[str, Path]) -> None:
    done = run("--json", *paths.values())
    verdicts = json.loads(done.stdout)
    assert [(verdict["path"], verdict["result"]) for verdict in verdicts] == [
        (str(p), r) for r, p in paths.items()
    ]
    assert all(tuple(verdict) == verify_copy.Verdict._fields for verdict in verdicts)
    assert done.returncode == 2


@pytest.mark.parametrize("path", ["missing.py", "missing.zip", ".", "/dev/null", "new\nline.py"])
def test_what_is_no_file_is_one_line(path: str, tmp_path: Path) -> None:
    done = run(tmp_path / path)
    assert (done.returncode, done.stdout.count("\n"), done.stderr) == (2, 1, "")
    why = "it is no file" if path in (".", "/dev/null") else "there is no such file"
    assert done.stdout.startswith("cannot tell: ") and done.stdout.endswith(f": {why}\n")


def test_another_version_is_named(tmp_path: Path) -> None:
    old = write(
        tmp_path,
        "old.py",
        CODE.replace(f'__version__ = "{version_of(CODE)}"', '__version__ = "0.9.0"'),
    )
    none = write(tmp_path, "none.py", CODE.replace("__version__ = ", "__version__: str = "))
    assert (
        "version 0.9.0;" in run(old).stdout
        and f"has version {version_of(CODE)};" in run(old).stdout
    )
    assert "version not stated;" in run(none).stdout


def test_a_copy_is_never_run(tmp_path: Path) -> None:
    code = f"open({str(tmp_path / 'ran')!r}, 'w')\n" + CODE
    write(tmp_path, "hmac.py", code)
    for path in (
        write(tmp_path, "copy.py", code),
        write(tmp_path, "a.zip", zipped({"authorizer.py": code})),
    ):
        assert run(path).returncode == 1
    assert not (tmp_path / "ran").exists()


def test_a_terminal_that_lacks_a_character_gets_it_escaped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "copy.py", CODE + "# caf\u00e9\n")
    command = [sys.executable, str(ROOT / "scripts" / "verify_copy.py"), str(path)]
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (1, "") and "+# caf\\xe9" in done.stdout


def test_a_copy_cannot_command_the_terminal(tmp_path: Path) -> None:
    path = write(tmp_path, "copy.py", CODE + "# \x1b]0;title\x07 \u202e\n")
    done = run(path)
    assert done.returncode == 1
    assert "\\x1b]0;title\\x07 \\u202e" in done.stdout
    assert not set("\x1b\x07\u202e") & set(done.stdout)


def test_a_python_without_pyyaml_uses_the_locked_one(
    paths: dict[str, Path], tmp_path: Path
) -> None:
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    base = Path(sys.base_prefix, "bin", f"python{version}")  # that the virtual environment is of
    if not base.exists():
        pytest.skip(f"there is no {base}")
    bare = (str(base), "-S")  # without site-packages
    assert subprocess.run([*bare, "-c", "import yaml"], capture_output=True).returncode == 1
    good = write(tmp_path, "template.yaml", TEMPLATE)
    assert run(good, python=bare).returncode == 0
    done = run("--json", paths["differs"], good, python=bare)
    assert (done.returncode, len(json.loads(done.stdout))) == (1, 2)


@given(st.integers(0, 30_000), st.integers(0, 255), st.sampled_from(["zip", "py", "yaml"]))
def test_no_damage_is_taken_for_identical(
    tmp_path_factory: pytest.TempPathFactory, at: int, byte: int, kind: str
) -> None:
    """One byte changed: whatever is said, nothing is raised.

    And what is called identical has the text.
    """
    whole = {
        "zip": IDENTICAL["deflated.zip"],
        "py": CODE.encode(),
        "yaml": yaml_template(CODE).encode(),
    }[kind]
    assert isinstance(whole, bytes)
    at %= len(whole)
    damaged = whole[:at] + bytes([byte]) + whole[at + 1 :]
    path = write(tmp_path_factory.mktemp("damaged"), f"copy.{kind}", damaged)
    verdict = judge(path)
    if verdict.result == "identical":
        assert verdict.sha256 == hashlib.sha256(CODE.encode()).hexdigest()
        if kind == "py":
            assert damaged.replace(b"\r", b"\n") == whole
