#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Mutation testing of authorizer.py: change it in one place at a time, and see that a test fails
for each change.

Needs nothing but Python 3.11 or newer, on Linux or macOS. Not part of CI: a run takes about an
hour on two cores. The changes are mutmut's, and two more: a condition negated, a call left out.
Each mutant is a file in a temporary folder; AUTHORIZER_UNDER_TEST aims the tests at it. They run
from this checkout, so leave it alone meanwhile. Tests that compare authorizer.py with its
own copies take no part: they would fail for any change.

A survivor is a gap in the tests, unless no test could tell it from the original or its effect is
promised to nobody. scripts/lab/mutants.txt lists such mutants, each with the reason. An entry names
the function and the text of the lines that change, so it stays valid while other lines change.

Exit status: 0 all survivors are listed and no entry is out of date, 1 otherwise, 2 nothing could be
tested.
"""

from __future__ import annotations

import argparse
import difflib
import multiprocessing
import os
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from lib.console import ROOT, colour, progress
from lib.environments import ToolsError, run_inside

CHANGED = ROOT / "authorizer.py"
LISTED = ROOT / "scripts" / "lab" / "mutants.txt"
# The fast half of the tests judges each mutant; those that find most in the least time come first.
# If it survives and is not listed, the tests follow that take longer or start processes. The tests
# that are not here judge scripts or the repository's own files, whatever is under test.
FAST = [
    "rule",
    "decision",
    "answers",
    "reading",
    "settings",
    "rotation_cases",
    "headers",
    "logs",
    "secrecy",
    "partial_failure",
    "isolation",
    "comparison",
    "threads",
    "hostile_answers",
]
SLOW = [
    "project",
    "papers",
    "servers",
    "reader",
    "runtime",
    "rotation_model",
    "faults",
    "exhaustive",
    "chain",
    "rotation_report",
    "deploy",
]
STAGES = [FAST, SLOW]
# A string with words in it is for people; no test holds it to the letter.
WORDING = re.compile("[a-zA-Z],? [a-zA-Z]")
TEST_SECONDS = 60  # the longest test takes some ten; one that takes longer is an endless loop
STAGE_SECONDS = 600  # whatever else hangs

RUNNING: set[Any] = set()  # the processes that run tests now


class Mutant(NamedTuple):
    """A changed text of authorizer.py, and by what it is known: its function and the lines that
    differ.
    """

    name: str
    code: str


def negated(node: Any) -> Iterator[Any]:
    """``if x`` as ``if not (x)``, and ``while`` likewise."""
    import libcst

    inner = node.test.with_changes(lpar=[libcst.LeftParen()], rpar=[libcst.RightParen()])
    yield node.with_changes(test=libcst.UnaryOperation(libcst.Not(), inner))


def left_out(node: Any) -> Iterator[Any]:
    """A call whose value nobody takes, as ``...``."""
    import libcst

    if isinstance(node.value, libcst.Call):
        yield node.with_changes(value=libcst.Ellipsis())


def mutants(original: str) -> Iterator[Mutant]:
    """Every mutant of a text, in the order of its lines."""
    import libcst
    from mutmut.mutation.file_mutation import MutationVisitor
    from mutmut.mutation.mutators import mutation_operators
    from mutmut.mutation.pragma_handling import IgnoredCode

    own = [(libcst.If, negated), (libcst.While, negated), (libcst.Expr, left_out)]
    visitor = MutationVisitor([*mutation_operators, *own], IgnoredCode(set(), set(), set()))
    module: Any = libcst.MetadataWrapper(libcst.parse_module(original)).visit(visitor)
    known: Counter[str] = Counter()
    texts = {original}
    for mutation in visitor.mutations:
        text = getattr(mutation.original_node, "value", "")
        if isinstance(text, str) and WORDING.search(text):
            continue
        code = module.deep_replace(mutation.original_node, mutation.mutated_node).code
        if code in texts:
            continue
        texts.add(code)
        function: Any = mutation.contained_by_top_level_function
        lines = list(
            difflib.unified_diff(original.splitlines(), code.splitlines(), n=0, lineterm="")
        )[2:]
        difference = "\n".join(f"{line[0]} {line[1:].strip()}" for line in lines if line[0] in "-+")
        name = f"@ {getattr(getattr(function, 'name', None), 'value', 'module')}\n{difference}"
        known[name] += 1
        # The same change of an equal line further down.
        again = f" ({known[name]})" if known[name] > 1 else ""
        yield Mutant(name.replace("\n", f"{again}\n", 1), code)


def listed() -> dict[str, str]:
    """The reasons in scripts/lab/mutants.txt by the mutants' names. Raises ToolsError."""
    reasons: dict[str, str] = {}
    reason = ""
    for paragraph in LISTED.read_text("utf-8").split("\n\n"):
        text = paragraph.strip("\n")
        if text.startswith("#"):
            reason = " ".join(line.lstrip("# ") for line in text.splitlines())
        elif text.startswith("@ ") and reason:
            if text in reasons:
                raise ToolsError(f"{LISTED.name} has an entry twice:\n{text}")
            reasons[text] = reason
        elif text:
            raise ToolsError(
                f"{LISTED.name} has a paragraph that is neither a reason nor a mutant:\n{text}"
            )
    return reasons


def run_tests(subject: str, stage: list[str], output: str, limit: int) -> None:
    """Run tests of one file, none longer than ``limit`` seconds: a process's whole work.

    Its exit status is pytest's.
    """
    import pytest

    os.setsid()  # so that whatever the tests start can be ended with them
    with open(output, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(ROOT)
    # Pytest keeps the tests that it has rewritten for the next mutant.
    sys.dont_write_bytecode = False
    os.environ["AUTHORIZER_UNDER_TEST"] = subject
    options = ["-x", "-q", "-p", "no:cacheprovider"]
    options += [
        f"--override-ini=faulthandler_timeout={limit}",
        "--override-ini=faulthandler_exit_on_timeout=true",
    ]
    # Of Hypothesis, which is loaded once for all.
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    sys.exit(pytest.main([*options, *[f"tests/test_{name}.py" for name in stage]]))


def end(process: Any) -> None:
    """End a process that runs tests, and all that they started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        process.kill()  # it has no group of its own yet


def judge(mutant: Mutant, stages: list[list[str]], method: Any) -> tuple[str, str]:
    """Whether a mutant was "killed", "timed out" or "survived", and what the tests printed last.

    Raises ToolsError.
    """
    with tempfile.TemporaryDirectory(prefix="mutant-", ignore_cleanup_errors=True) as name:
        subject, output = Path(name, "authorizer.py"), Path(name, "output")
        subject.write_text(mutant.code, "utf-8")
        for stage in stages:
            process = method.Process(
                target=run_tests, args=(str(subject), stage, str(output), TEST_SECONDS)
            )
            process.start()
            RUNNING.add(process)
            process.join(STAGE_SECONDS)
            status = process.exitcode
            end(process)
            process.join()
            RUNNING.discard(process)
            printed = output.read_text(errors="replace") if output.exists() else ""
            if status is None or "\nTimeout (0:" in f"\n{printed}":
                return "timed out", printed[-500:]
            if status in (3, 4, 5):  # pytest's own errors
                raise ToolsError(f"pytest could not run:\n{printed[-2000:]}")
            if status:
                return "killed", printed[-500:]
    return "survived", ""


def test(jobs: int, match: str) -> int:
    """Test all mutants whose names hold ``match``.

    Print the summary and return the exit status. Raises ToolsError.
    """
    started = time.monotonic()
    method = multiprocessing.get_context("forkserver")
    method.set_forkserver_preload(["pytest", "hypothesis"])
    original = CHANGED.read_text("utf-8")
    reasons = listed()
    results: dict[str, str] = {}
    with ThreadPoolExecutor(jobs) as pool:
        try:
            for outcome, printed in pool.map(
                judge, [Mutant("", original)] * jobs, [STAGES] * jobs, [method] * jobs
            ):
                if outcome != "survived":
                    raise ToolsError(
                        f"the tests must pass before a mutant can fail them:\n{printed}"
                    )
            running = {}
            for mutant in mutants(original):
                if match in mutant.name:
                    stages = STAGES[:1] if mutant.name in reasons else STAGES
                    running[pool.submit(judge, mutant, stages, method)] = mutant.name
                    progress(f"{time.monotonic() - started:5.0f} s, {len(running)} mutants made")
            if not running:
                raise ToolsError(f"no mutant's changed lines hold {match!r}")
            for future in as_completed(running):
                name, (outcome, _) = running[future], future.result()
                results[name] = outcome
                counts = ", ".join(
                    f"{count} {outcome}" for outcome, count in Counter(results.values()).items()
                )
                passed = f"{time.monotonic() - started:5.0f} s"
                progress(f"{passed}, {len(results)} of {len(running)}: {counts}")
                if outcome == "survived" and name not in reasons:
                    progress("")
                    print(f"{colour('red', 'survived')} {name}\n", flush=True)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            # They have sessions of their own, which an interrupt does not reach.
            for process in set(RUNNING):
                end(process)
            raise
        finally:
            progress("")
    survivors = {name for name, outcome in results.items() if outcome == "survived"}
    stale = [name for name in reasons if match in name and name not in survivors]
    for name in stale:
        became = results.get(name, "is no mutant")
        print(f"{colour('red', 'out of date')}: {LISTED.name} lists what {became}\n{name}\n")
    counted = Counter(results.values())
    print(f"{len(results)} mutants in {time.monotonic() - started:.0f} s on {jobs} workers")
    print(f"{counted['killed']:5} killed\n{counted['timed out']:5} timed out")
    print(f"{counted['survived']:5} survived, of which")
    print(f"{len(survivors & set(reasons)):5}   are listed with a reason")
    print(f"{len(survivors - set(reasons)):5}   are not")
    print(f"{len(stale):5} entries of {LISTED.name} are out of date")
    return 1 if stale or survivors - set(reasons) else 0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=os.cpu_count() or 1,
        help="mutants at once (default: %(default)s)",
    )
    parser.add_argument(
        "--match",
        default="",
        metavar="TEXT",
        help="only the mutants whose changed lines hold this text",
    )
    arguments = parser.parse_args()
    if arguments.jobs < 1:
        parser.error("--jobs must be at least 1")
    status = run_inside("mutation")
    return test(arguments.jobs, arguments.match) if status is None else status


if __name__ == "__main__":
    if sys.version_info < (3, 11):
        sys.exit("mutate.py needs Python 3.11 or newer")
    try:
        sys.exit(main())
    except (ToolsError, OSError) as error:
        print(f"mutate.py: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
