# SPDX-License-Identifier: MIT
"""The README's and SECURITY.md's snippets, checked by whatever here can check them."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

import package
from lib.console import ROOT
from lib.copies import parse_template, source
from test_template import SECRET_ARN, Stack, statements

FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


class Snippet:
    """A fenced block of a document, without the indentation of the list it may stand in."""

    def __init__(self, document: str, heading: str, language: str, text: str) -> None:
        self.document, self.heading, self.language, self.text = document, heading, language, text


def snippets() -> list[Snippet]:
    found = []
    for document in ("README.md", "SECURITY.md"):
        text = (ROOT / document).read_text(encoding="utf-8")
        fences = {match.start(): match for match in FENCE.finditer(text)}
        inside = [range(match.start(), match.end()) for match in fences.values()]
        headings = [
            match
            for match in re.finditer(r"^#+ (.*)$", text, re.MULTILINE)
            if not any(match.start() in block for block in inside)
        ]
        for start, match in fences.items():
            heading = [entry[1] for entry in headings if entry.start() < start][-1]
            found.append(Snippet(document, heading, match[2], textwrap.dedent(match[3])))
    return found


SNIPPETS = snippets()
SHELL = [snippet for snippet in SNIPPETS if snippet.language in ("sh", "bash")]
DATA = [snippet for snippet in SNIPPETS if snippet.language in ("json", "yaml")]


def the(heading: str, language: str) -> str:
    """The one snippet of that language under that heading."""
    (text,) = [
        entry.text for entry in SNIPPETS if (entry.heading, entry.language) == (heading, language)
    ]
    return text


def name(snippet: Snippet) -> str:
    return f"{snippet.heading} ({snippet.language})"


def test_every_fence_is_one_that_is_checked_here() -> None:
    # The last two are pictures.
    known = {"sh", "bash", "json", "yaml", "python", "hcl"} | {"mermaid", "text"}
    for document in ("README.md", "SECURITY.md"):
        text = (ROOT / document).read_text(encoding="utf-8")
        fences = [snippet for snippet in SNIPPETS if snippet.document == document]
        assert text.count("```") == 2 * len(fences)
        assert {snippet.language for snippet in fences} <= known
    assert len(SHELL) > 5 and len(DATA) > 2


@pytest.mark.parametrize("snippet", SHELL, ids=name)
def test_shell_snippets_parse(snippet: Snippet) -> None:
    subprocess.run(
        ["bash" if snippet.language == "bash" else "sh", "-n"],
        input=snippet.text,
        text=True,
        check=True,
    )


@pytest.mark.parametrize("snippet", DATA, ids=name)
def test_json_and_yaml_snippets_parse(snippet: Snippet) -> None:
    if snippet.language == "json":
        assert json.loads(snippet.text)
    else:
        whole = (
            snippet.text
            if "\nResources:" in snippet.text
            else f"Resources:\n{textwrap.indent(snippet.text, '  ')}"
        )
        assert parse_template(whole)["Resources"]


def test_all_ways_give_the_role_what_the_template_gives() -> None:
    wanted = statements(Stack(SecretArn=SECRET_ARN))[0]
    sam = parse_template(the("SAM", "yaml"))["Resources"]["Authorizer"]["Properties"]["Policies"][
        0
    ]["Statement"][0]
    by_hand = json.loads(the("By hand in the console", "json"))["Statement"][0]
    for statement in (sam, by_hand):
        assert {**statement, "Resource": SECRET_ARN} == wanted


def test_all_ways_set_the_function_up_alike() -> None:
    function = Stack(SecretArn=SECRET_ARN).properties("Function")
    sam = parse_template(the("SAM", "yaml"))["Resources"]["Authorizer"]["Properties"]
    for setting in ("Runtime", "Architectures", "MemorySize", "Timeout", "Layers"):
        assert sam[setting] == function[setting]
    variables = {**function["Environment"]["Variables"], "SECRET_NAME": {"Ref": "SecretArn"}}
    assert sam["Environment"]["Variables"] == {
        key: value for key, value in variables.items() if key != "HEADER_NAME"
    }
    for text in (
        the("CDK (Python)", "python"),
        the("Terraform", "hcl"),
        the("By hand in the console", "json"),
    ):
        assert "AWSPENDING" in text and "AWSPREVIOUS" in text
    for text in (the("CDK (Python)", "python"), the("Terraform", "hcl")):
        for value in variables.values():
            assert isinstance(value, dict) or value == "x-origin-verify" or f'"{value}"' in text
        for key in sam["Environment"]["Variables"]:
            assert key in text
        assert (
            function["Runtime"] in text
            and "authorizer.handler" in text
            and "dist/authorizer.zip" in text
        )


def test_cfn_lint_finds_nothing_in_the_sam_snippet(tmp_path: Path) -> None:
    path = tmp_path / "template.yaml"
    path.write_text(the("SAM", "yaml"))
    cfn_lint = str(Path(sys.executable).with_name("cfn-lint"))
    done = subprocess.run(
        [cfn_lint, "--", str(path)], capture_output=True, text=True, cwd=tmp_path, timeout=120
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_terraform_would_not_format_its_snippet_otherwise(tmp_path: Path) -> None:
    """Also that it parses; to validate it, Terraform would have to fetch the AWS provider."""
    terraform = shutil.which("terraform")
    if not terraform:
        pytest.skip("this machine has no terraform")
    done = subprocess.run(
        [terraform, "fmt", "-check", "-diff", "-"],
        input=the("Terraform", "hcl"),
        text=True,
        capture_output=True,
        cwd=tmp_path,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_cdk_snippet_compiles() -> None:
    compile(the("CDK (Python)", "python"), "app.py", "exec")


def test_the_cdk_snippet_synthesises(tmp_path: Path) -> None:
    if not importlib.util.find_spec("aws_cdk") or not shutil.which("node"):
        pytest.skip("needs aws-cdk-lib (the extra cdk of pyproject.toml, some 450 MB) and node")
    (tmp_path / "app.py").write_text(the("CDK (Python)", "python"))
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "authorizer.zip").write_bytes(
        package.stored_zip({"authorizer.py": source("authorizer.py")})
    )
    env = {**os.environ, "CDK_OUTDIR": str(tmp_path / "out")}
    subprocess.run(
        [sys.executable, "app.py"],
        cwd=tmp_path,
        env=env,
        check=True,
        timeout=300,
        capture_output=True,
    )
    text = (tmp_path / "out" / "origin-authorizer.template.json").read_text()
    resources: dict[str, Any] = json.loads(text)["Resources"]
    (authorizer,) = [
        entry["Properties"]
        for entry in resources.values()
        if entry["Type"].endswith("V2::Authorizer")
    ]
    assert (
        authorizer["AuthorizerPayloadFormatVersion"] == "2.0"
        and authorizer["EnableSimpleResponses"] is True
    )
    assert authorizer["IdentitySource"] == ["$request.header.x-origin-verify"]
    (function,) = [
        entry["Properties"]
        for entry in resources.values()
        if entry["Type"] == "AWS::Lambda::Function"
    ]
    wanted = Stack(SecretArn=SECRET_ARN).properties("Function")
    assert (function["Runtime"], function["Layers"]) == (wanted["Runtime"], wanted["Layers"])
    (policy,) = [
        entry["Properties"] for entry in resources.values() if entry["Type"] == "AWS::IAM::Policy"
    ]
    statement = policy["PolicyDocument"]["Statement"][0]
    assert statement["Condition"] == statements(Stack())[0]["Condition"]


def test_the_pasted_header_is_the_stacks_output() -> None:
    (item,) = parse_template(
        "Resources:\n" + textwrap.indent(the("CloudFront's header", "yaml"), "  ")
    )["Resources"]["OriginCustomHeaders"]
    arn = re.search(r"arn:[^']*(?=:SecretString)", item["HeaderValue"]["Fn::Join"][1][1])
    assert arn
    assert Stack(SecretArn=arn[0]).outputs["OriginCustomHeader"] in the(
        "CloudFront's header", "yaml"
    )


def test_cfn_lint_takes_the_pasted_header_in_a_distribution(tmp_path: Path) -> None:
    headers = textwrap.indent(the("CloudFront's header", "yaml"), " " * 12)
    path = tmp_path / "distribution.yaml"
    path.write_text(DISTRIBUTION + headers)
    cfn_lint = str(Path(sys.executable).with_name("cfn-lint"))
    done = subprocess.run(
        [cfn_lint, "--", str(path)], capture_output=True, text=True, cwd=tmp_path, timeout=120
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    path.write_text(DISTRIBUTION + headers.replace("HeaderValue", "HeaderValu"))
    assert (
        subprocess.run(
            [cfn_lint, "--", str(path)], stdout=subprocess.DEVNULL, timeout=120
        ).returncode
        == 2
    )


DISTRIBUTION = """\
Resources:
  Distribution:
    Type: AWS::CloudFront::Distribution
    Properties:
      DistributionConfig:
        Enabled: true
        DefaultCacheBehavior:
          TargetOriginId: api
          ViewerProtocolPolicy: redirect-to-https
          CachePolicyId: 4135ea2d-6df8-44a3-9df3-4b5a84be39ad
        Origins:
          - Id: api
            DomainName: a1b2c3d4e5.execute-api.eu-west-1.amazonaws.com
            CustomOriginConfig:
              OriginProtocolPolicy: https-only
"""


# The shell snippet for CloudFront's header, run with a stand-in for the aws command

KEY = "canary-key-0123456789-abcdefghijklmnopqrstuvwxyz"
AWS = f"""#!{sys.executable}
import json, os, pathlib, sys
state = pathlib.Path(os.environ["STATE"])
with open(state / "calls", "a") as calls:
    print(json.dumps(sys.argv[1:]), file=calls)
command = sys.argv[2]
if os.environ.get("FAIL") == command:
    sys.exit(254)
if command == "get-distribution-config":
    print((state / "was.json").read_text())
elif command == "get-secret-value":
    print(json.dumps({{"SecretString": json.dumps({{"key": "{KEY}"}})}}))
elif command == "update-distribution":
    path = pathlib.Path(sys.argv[sys.argv.index("--distribution-config") + 1].removeprefix("file://"))
    (state / "modes").write_text(json.dumps([path.stat().st_mode, path.parent.stat().st_mode]))
    (state / "new.json").write_text(path.read_text())
    print("its answer holds {KEY} too")
"""


def origin(identity: str, *headers: tuple[str, str]) -> dict[str, object]:
    items = [{"HeaderName": header, "HeaderValue": value} for header, value in headers]
    return {
        "Id": identity,
        "CustomHeaders": {"Quantity": len(items), **({"Items": items} if items else {})},
    }


def set_header(
    folder: Path, *origins: dict[str, object], **env: str
) -> subprocess.CompletedProcess[str]:
    """Run the snippet on a distribution with those origins; what it did is then in that folder."""
    for made in ("bin", "tmp"):
        (folder / made).mkdir()
    (folder / "bin" / "aws").write_text(AWS)
    (folder / "bin" / "aws").chmod(0o755)
    config = {"Comment": "kept", "Origins": {"Quantity": len(origins), "Items": list(origins)}}
    (folder / "was.json").write_text(json.dumps({"ETag": "E1", "DistributionConfig": config}))
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    given = {**os.environ, "PATH": path, "TMPDIR": str(folder / "tmp"), "STATE": str(folder), **env}
    command = ["bash", "-c", the("CloudFront's header", "bash")]
    return subprocess.run(command, env=given, capture_output=True, text=True, timeout=60)


def test_the_header_is_set_and_the_key_shows_nowhere_else(tmp_path: Path) -> None:
    others = origin("other", ("x-origin-verify", "not-ours"))
    done = set_header(tmp_path, others, origin("api", ("x-kept", "1"), ("X-Origin-Verify", "old")))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert json.loads((tmp_path / "new.json").read_text()) == {
        "Comment": "kept",
        "Origins": {
            "Quantity": 2,
            "Items": [others, origin("api", ("x-kept", "1"), ("x-origin-verify", KEY))],
        },
    }
    calls = (tmp_path / "calls").read_text()
    assert KEY not in calls and '"--if-match", "E1"' in calls
    assert [json.loads(line)[1] for line in calls.splitlines()] == [
        "get-distribution-config",
        "get-secret-value",
        "update-distribution",
        "wait",
    ]
    modes = json.loads((tmp_path / "modes").read_text())
    assert [stat.S_IMODE(mode) for mode in modes] == [0o600, 0o700]
    assert list((tmp_path / "tmp").iterdir()) == []


def test_an_origin_without_headers_gets_its_first(tmp_path: Path) -> None:
    assert set_header(tmp_path, origin("api")).returncode == 0
    new = json.loads((tmp_path / "new.json").read_text())
    assert new["Origins"]["Items"] == [origin("api", ("x-origin-verify", KEY))]


@pytest.mark.parametrize(
    "failing", ["get-distribution-config", "get-secret-value", "no such origin"]
)
def test_nothing_is_updated_after_a_failure(tmp_path: Path, failing: str) -> None:
    there = origin("elsewhere" if failing == "no such origin" else "api")
    done = set_header(tmp_path, there, FAIL=failing)
    assert done.returncode != 0
    assert not {"update-distribution", "wait"} & set(
        re.findall(r"[a-z-]+", (tmp_path / "calls").read_text())
    )
    assert list((tmp_path / "tmp").iterdir()) == []
    assert KEY not in done.stdout + done.stderr
