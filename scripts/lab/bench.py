#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Measure the authorizer beside its peers. Needs nothing but Python 3.11 or newer, on Linux.

Each measurement is a fresh process. It has the modules of Lambda's runtime client loaded and logs
through that client's root handler. What the handlers ask runs in other processes: a stand-in for
the Extension, and moto for Secrets Manager. The handlers take turns, forwards and backwards;
figures are medians over the runs, with the least and the greatest. A machine's speed changes, so
take the ratios: each is the median of one ratio per run. Deployed files are compiled anew, as in a
new Lambda environment. A run's cold figure is the least of five cold starts.

Exit status: 0 all targets met, 1 a target was missed, 2 nothing could be measured.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any, cast

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from lib.console import ROOT, colour, progress
from lib.environments import ToolsError, environment
from lib.standins import TOKEN, http_api_2

CPU_INFO = Path("/proc/cpuinfo")
MEASURED = ROOT / "scripts" / "lab" / "measured"

# What is measured, by the name it is reported by: its module, and what it asks.
OWN, FLOOR, NAIVE = (
    "this authorizer",
    "floor: digest, compare, log",
    "naive Extension client, urllib",
)
# As the authorizer does; logger.log() looks for the calling line first.
LEAST = "floor, log record made directly"
SUBJECTS = {
    OWN: ("authorizer", "extension"),
    FLOOR: ("floor", "extension"),
    LEAST: ("least", "extension"),
    NAIVE: ("naive_client", "extension"),
}
PREDECESSOR = "secure_authorizer.authorizer"  # without AWSPENDING it raises in place of refusing
PEERS = {
    "predecessor 0.1.0, boto3": (PREDECESSOR, "moto"),
    "boto3, Powertools parameters": ("toolkit", "moto"),
    "boto3, aws-secretsmanager-caching": ("caching_client", "moto"),
}

SECRET, MEMBER = "prod/origin-key", "key"
CURRENT, PENDING = "current-" + "c" * 24, "pending-" + "p" * 24
# The longest that one kind of request is repeated: the slowest peer takes 0.3 s for each.
PHASE_SECONDS = 1.5
BURST = 1000  # wrong keys, in one second if the handler keeps up
BURST_SECONDS = 3.0  # the longest burst; what is then missing is extrapolated
RESCAN_SECONDS = 1.1  # after this long a wrong key makes the authorizer look again
CALL_SECONDS = 0.015  # of one call to Secrets Manager, on the production path
REFRESHES = 7  # measured in each run
COLD_STARTS = 5  # in each run, of which the least counts: what else the machine does only ever adds
SCANS = 3  # measured in each run
ANSWER_SECONDS = 60  # the longest wait for a process

Summary = dict[str, dict[str, Any]]  # by measure: median, min, max, and the figures of all runs


def event(key: str) -> dict[str, Any]:
    """An event as an HTTP API makes it of a request from CloudFront."""
    return http_api_2(
        {
            "accept": "*/*",
            "accept-encoding": "br,gzip",
            "accept-language": "en",
            "content-length": "0",
            "host": "abcdef1234.execute-api.eu-central-1.amazonaws.com",
            "user-agent": "Amazon CloudFront",
            "via": "2.0 0123456789abcdef.cloudfront.net (CloudFront)",
            "x-amz-cf-id": "0123456789abcdef0123456789abcdef0123456789abcdef",
            "x-amzn-trace-id": "Root=1-65f0a0a0-0123456789abcdef01234567",
            "x-forwarded-for": "203.0.113.7, 198.51.100.9",
            "x-forwarded-port": "443",
            "x-forwarded-proto": "https",
            "x-origin-verify": key,
        }
    )


class Process:
    """A process that answers one line of JSON for each.

    Raises RuntimeError with its last words if it ends.
    """

    def __init__(self, command: list[str], env: dict[str, str]) -> None:
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            command,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )
        self.questions, self.answers = (
            cast(IO[str], self.process.stdin),
            cast(IO[str], self.process.stdout),
        )

    def ask(self, do: str, **task: object) -> Any:
        watchdog = threading.Timer(ANSWER_SECONDS, self.process.kill)
        watchdog.start()
        try:
            self.questions.write(json.dumps({"do": do, **task}) + "\n")
            self.questions.flush()
            line = self.answers.readline()
        except BrokenPipeError:
            line = ""
        finally:
            watchdog.cancel()
        if not line:
            self.process.wait()
            self.errors.seek(0)
            raise RuntimeError(
                (self.errors.read().strip().splitlines() or ["it did not answer in time"])[-1]
            )
        return json.loads(line)

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()
        self.errors.close()


class Bench:
    """The processes and settings of one run of this script."""

    def __init__(self, python: Path, folder: Path, requests: int) -> None:
        self.python = str(python)
        self.folder = folder
        self.requests = requests
        # By kind, AWSPENDING, and the seconds of a call: and its port.
        self.backends: dict[tuple[str, bool, float], tuple[Process, int]] = {}
        self.env = {  # and nothing else of this process's: no proxy, no profile
            "PATH": os.environ.get("PATH", ""),
            # Some builds of Python do not start without.
            "LD_LIBRARY_PATH": os.environ.get("LD_LIBRARY_PATH", ""),
            "PYTHONDONTWRITEBYTECODE": "1",
            "SECRET_NAME": SECRET,
            "SECRET_KEY_NAME": MEMBER,
            "ACCEPT_PREVIOUS_SECONDS": "900",
            "SECRETS_MANAGER_TTL": "0",
            "AWS_SESSION_TOKEN": TOKEN,
            "AWS_ACCESS_KEY_ID": "measured",
            "AWS_SECRET_ACCESS_KEY": "measured",
            "AWS_DEFAULT_REGION": "eu-central-1",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def backend(self, kind: str, pending: bool, seconds: float = 0.0) -> tuple[Process, int]:
        """The process that serves the secret, with or without an AWSPENDING version, and its
        port.
        """
        if (kind, pending, seconds) not in self.backends:
            slow = {"seconds": seconds} if seconds else {}
            process = Process([self.python, str(MEASURED / "backend.py"), kind], self.env)
            port = process.ask(
                "start",
                name=SECRET,
                member=MEMBER,
                token=TOKEN,
                current=CURRENT,
                pending=PENDING if pending else None,
                **slow,
            )
            self.backends[kind, pending, seconds] = process, port
        return self.backends[kind, pending, seconds]

    def worker(
        self, module: str, port: int, floor_key: str = CURRENT, cache_seconds: int = 60
    ) -> Process:
        """A new execution environment."""
        settings = {
            "PARAMETERS_SECRETS_EXTENSION_HTTP_PORT": str(port),
            "AWS_ENDPOINT_URL_SECRETS_MANAGER": f"http://127.0.0.1:{port}",
            "FLOOR_KEY": floor_key,
            "CACHE_SECONDS": str(cache_seconds),
        }
        return Process(
            [self.python, str(self.folder / "worker.py"), module], {**self.env, **settings}
        )

    def cold(self, module: str, kind: str) -> dict[str, Any]:
        """Import and first answer of a new environment."""
        with self.worker(module, self.backend(kind, False)[1]) as worker:
            return right(worker.ask("cold", event=event(CURRENT)), {"allow"})

    def measure(self, module: str, kind: str) -> dict[str, float]:
        """One run of one subject: its figures by measure."""
        process, port = self.backend(kind, False)
        limits = {"count": self.requests, "seconds": PHASE_SECONDS}
        refused = {"refuse", "ResourceNotFoundException"} if module == PREDECESSOR else {"refuse"}
        colds = [self.cold(module, kind) for _ in range(COLD_STARTS)]
        figures = {
            name: min(cold[name] for cold in colds)
            for name, value in colds[0].items()
            if value is not None
        }
        with self.worker(module, port) as worker:
            right(worker.ask("cold", event=event(CURRENT)), {"allow"})
            figures |= percentiles(
                "allow", right(worker.ask("warm", event=event(CURRENT), **limits), {"allow"})
            )
            figures |= percentiles(
                "refuse", right(worker.ask("warm", event=event(""), wrong=True, **limits), refused)
            )
            time.sleep(RESCAN_SECONDS)
            calls = process.ask("calls")
            burst = worker.ask(
                "warm", event=event(""), wrong=True, count=BURST, seconds=BURST_SECONDS, rate=BURST
            )
            asked = len(right(burst, refused)["times_ms"])
            figures["burst_calls"] = (process.ask("calls") - calls) * BURST / asked
            if module == "authorizer":
                times, calls = [], process.ask("calls")
                for _ in range(SCANS):
                    time.sleep(RESCAN_SECONDS)
                    times += right(
                        worker.ask("warm", event=event(""), wrong=True, count=1, seconds=1), refused
                    )["times_ms"]
                figures["scan_ms"] = statistics.median(times)
                figures["scan_calls"] = (process.ask("calls") - calls) / SCANS
        with self.worker(module, self.backend(kind, True)[1], PENDING) as worker:
            right(worker.ask("cold", event=event(PENDING)), {"allow"})
            figures |= percentiles(
                "pending", right(worker.ask("warm", event=event(PENDING), **limits), {"allow"})
            )
        if kind == "extension":
            figures |= self.production(module)
        return figures

    def production(self, module: str) -> dict[str, float]:
        """What users feel: cold, and at a refresh, where each call takes CALL_SECONDS."""
        figures: dict[str, float] = {}
        process, port = self.backend("extension", True, CALL_SECONDS)

        def calls(name: str, worker: Process, key: str, **task: Any) -> dict[str, Any]:
            before = process.ask("calls")
            expected = {"refuse"} if task.get("wrong") else {"allow"}
            result = right(worker.ask(event=event(key), **task), expected)
            figures[name] = process.ask("calls") - before
            return result

        colds = []
        for _ in range(COLD_STARTS):
            with self.worker(module, port) as worker:
                colds.append(calls("calls_cold", worker, CURRENT, do="cold")["cold_ms"])
        with self.worker(module, port, PENDING) as worker:
            calls("calls_pending", worker, PENDING, do="cold")
        one = {"do": "warm", "count": 1, "seconds": 9}
        with self.worker(module, port, cache_seconds=0) as worker:  # so each is a refresh
            calls("calls_cold", worker, CURRENT, do="cold")
            times = [
                calls("calls_refresh", worker, CURRENT, **one)["times_ms"][0]
                for _ in range(REFRESHES)
            ]
            calls("calls_wrong", worker, "", wrong=True, **one)
        refresh = statistics.median(times)
        return figures | {"slow_cold_ms": min(colds), "slow_refresh_ms": refresh}

    def close(self) -> None:
        for process, _ in self.backends.values():
            process.__exit__()


def right(result: dict[str, Any], expected: set[str]) -> dict[str, Any]:
    """``result`` without its outcomes, which must be expected ones: a wrong answer is not worth
    measuring.
    """
    wrong = set(result.pop("outcomes")) - expected
    if wrong:
        raise RuntimeError(
            f"it answered {', '.join(sorted(wrong))} in place of {', '.join(sorted(expected))}"
        )
    return result


def percentiles(name: str, result: dict[str, Any]) -> dict[str, float]:
    """The median and the 99th percentile of a phase, in milliseconds."""
    times = sorted(result["times_ms"])
    return {
        f"{name}_p50_ms": statistics.median(times),
        f"{name}_p99_ms": times[math.ceil(len(times) * 0.99) - 1],
    }


def summary(runs: list[dict[str, float]]) -> Summary:
    """Median, least and greatest of each measure."""
    measured = {measure: [run[measure] for run in runs] for measure in runs[0]}
    return {
        measure: {
            "median": statistics.median(values),
            "min": min(values),
            "max": max(values),
            "runs": values,
        }
        for measure, values in measured.items()
    }


def ratio(results: dict[str, Summary], name: str, measure: str, to: str) -> float:
    """One subject's figure divided by another's: the median of the ratios of all runs."""
    pairs = zip(results[name][measure]["runs"], results[to][measure]["runs"])
    return float(statistics.median(figure / other for figure, other in pairs))


def targets(results: dict[str, Summary]) -> list[dict[str, Any]]:
    """The authorizer's targets: the text, what was measured, the limit, and whether it is met.

    ``measured`` and ``met`` are null where a peer is missing.
    """
    boto3 = [name for name in results if name in PEERS]
    own = {measure: figure["max"] for measure, figure in results[OWN].items()}
    cold = "import + first answer"
    fastest_boto3 = max((ratio(results, OWN, "cold_ms", name) for name in boto3), default=None)
    rows: list[tuple[str, float | None, float]] = [
        ("calls for the current key, cold", own["calls_cold"], 1),
        ("calls for the current key, at a refresh", own["calls_refresh"], 1),
        ("calls for the pending key", own["calls_pending"], 2),
        ("calls for a wrong key", own["calls_wrong"], 10),
        (f"{cold} / naive client", ratio(results, OWN, "cold_ms", NAIVE), 0.55),
        (f"{cold}, 15 ms a call / naive client", ratio(results, OWN, "slow_cold_ms", NAIVE), 0.7),
        ("memory added / naive client", ratio(results, OWN, "memory_bytes", NAIVE), 0.65),
        (f"{cold} / fastest boto3 peer", fastest_boto3, 0.2),
        ("warm allow p50 / floor", ratio(results, OWN, "allow_p50_ms", FLOOR), 1.45),
        ("warm refusal p50 / floor", ratio(results, OWN, "refuse_p50_ms", FLOOR), 1.45),
    ]
    scans = results[OWN]["burst_calls"]["max"] / results[OWN]["scan_calls"]["median"]
    rows.append(("scans for 1,000 wrong keys in one second, the most in a run", scans, 2.0))
    return [
        {
            "target": text,
            "measured": value,
            "limit": limit,
            "met": None if value is None else value <= limit,
        }
        for text, value, limit in rows
    ]


def time_text(milliseconds: float) -> str:
    """A time with its unit and three digits."""
    if milliseconds < 1:
        return f"{milliseconds * 1e3:.3g} µs"
    return f"{milliseconds:.3g} ms" if milliseconds < 1000 else f"{milliseconds / 1e3:.3g} s"


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, its columns aligned."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| " + " | ".join(f"{cell:<{width}}" for cell, width in zip(row, widths)) + " |"
        for row in lines
    )


def tables(results: dict[str, Summary]) -> str:
    """The figures and their ratios, as Markdown."""

    def spread(name: str, measure: str) -> str:
        figure = results[name][measure]
        median, least, most = (time_text(figure[name]) for name in ("median", "min", "max"))
        return f"{median} ({least} – {most})"

    def times(name: str, measure: str, to: str) -> str:
        value = ratio(results, name, measure, to)
        return f"{value:.2f}" if value < 10 else f"{value:,.0f}"

    def number(name: str, measure: str, unit: float, digits: int) -> str:
        return (
            f"{results[name][measure]['median'] / unit:,.{digits}f}"
            if measure in results[name]
            else "-"
        )

    cold = table(
        ["cold", "import", "import + first answer", "× naive", "modules", "MiB"],
        [
            [
                name,
                spread(name, "import_ms"),
                spread(name, "cold_ms"),
                times(name, "cold_ms", NAIVE),
                number(name, "modules", 1, 0),
                number(name, "memory_bytes", 2**20, 1),
            ]
            for name in results
        ],
    )
    warm = table(
        [
            "warm",
            "allow p50",
            "× floor",
            "p99",
            "refusal p50",
            "× floor",
            "p99",
            "pending key p50",
            "p99",
            "calls, 1,000 wrong keys",
        ],
        [
            [name]
            + [
                cell
                for phase in ("allow", "refuse")
                for cell in (
                    spread(name, f"{phase}_p50_ms"),
                    times(name, f"{phase}_p50_ms", FLOOR),
                    time_text(results[name][f"{phase}_p99_ms"]["median"]),
                )
            ]
            + [time_text(results[name][f"pending_{at}_ms"]["median"]) for at in ("p50", "p99")]
            + [number(name, "burst_calls", 1, 0)]
            for name in results
        ],
    )
    production = table(
        ["15 ms a call", "cold", "× naive", "refresh", "calls: current, refresh, pending, wrong"],
        [
            [
                name,
                spread(name, "slow_cold_ms"),
                times(name, "slow_cold_ms", NAIVE),
                spread(name, "slow_refresh_ms"),
                ", ".join(
                    number(name, f"calls_{kind}", 1, 0)
                    for kind in ("cold", "refresh", "pending", "wrong")
                ),
            ]
            for name in (OWN, FLOOR, NAIVE)
        ],
    )
    scan = (
        f"A scan before a refusal, three looks over the labels: {spread(OWN, 'scan_ms')}, "
        f"{results[OWN]['scan_calls']['median']:.0f} calls to the Extension."
    )
    return f"{production}\n\n{cold}\n\n{warm}\n\n{scan}"


def interpreter(peers: bool) -> tuple[Path, dict[str, str]]:
    """The interpreter to measure with, and why peers are left out. Raises ToolsError."""
    if not peers:
        return environment(sys.executable), dict.fromkeys(PEERS, "--no-peers was given")
    try:
        return environment(sys.executable, "bench"), {}
    except ToolsError as error:
        return environment(sys.executable), dict.fromkeys(PEERS, str(error))


def run(bench: Bench, runs: int, left_out: dict[str, str]) -> dict[str, Summary]:
    """Measure all subjects that work; those that do not go into ``left_out``, with the reason."""
    subjects = {
        name: subject for name, subject in {**SUBJECTS, **PEERS}.items() if name not in left_out
    }
    for name, subject in list(subjects.items()):  # not counted: it fills the file cache
        progress(f"starting: {name}")
        try:
            bench.cold(*subject)
        except RuntimeError as error:
            if name in SUBJECTS:
                raise RuntimeError(f"{name}: {error}") from None
            left_out[name] = str(error)
            del subjects[name]
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in subjects}
    for number in range(runs):
        for name in list(subjects)[:: -1 if number % 2 else 1]:
            progress(f"run {number + 1} of {runs}: {name}")
            try:
                figures[name].append(bench.measure(*subjects[name]))
            except RuntimeError as error:
                raise RuntimeError(f"{name}: {error}") from None
    progress("")
    return {name: summary(measured) for name, measured in figures.items()}


def machine() -> str:
    """System, architecture, processors and, on Linux, the processor's model."""
    try:
        models = re.findall(r"^model name\s*: (.+)$", CPU_INFO.read_text(), re.MULTILINE)
    except OSError:
        models = []
    model = f", {models[0]}" if models else ""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs{model}"


def commit() -> str:
    """The commit that is measured, with "+changes" if files differ from it; "unknown" without git.

    A repository around the checkout does not count.
    """

    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        env = {**os.environ, "GIT_CEILING_DIRECTORIES": str(ROOT.parent)}
        done = subprocess.run(
            command, cwd=ROOT, env=env, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--runs", type=int, default=7, metavar="N", help="processes for each figure (default 7)"
    )
    parser.add_argument(
        "--requests",
        type=int,
        default=20_000,
        metavar="N",
        help="at most, of a kind (default 20000)",
    )
    parser.add_argument("--no-peers", action="store_true", help="only what needs no boto3")
    parser.add_argument("--json", action="store_true", help="print JSON: milliseconds, bytes")
    options = parser.parse_args()
    if min(options.runs, options.requests) < 1:
        parser.error("the numbers must be at least 1")
    python, left_out = interpreter(not options.no_peers)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in [ROOT / "authorizer.py", *MEASURED.glob("*.py")]:
            shutil.copy(file, folder)
        bench = Bench(python, folder, options.requests)
        try:
            results = run(bench, options.runs, left_out)
        finally:
            bench.close()
    reached = targets(results)
    if options.json:
        about = {
            "date": f"{datetime.now(timezone.utc):%Y-%m-%d}",
            "python": platform.python_version(),
            "machine": machine(),
            "commit": commit(),
            "runs": options.runs,
        }
        print(
            json.dumps(
                {**about, "results": results, "left_out": left_out, "targets": reached}, indent=2
            )
        )
    else:
        print(tables(results), end="\n\n")
        for name, reason in left_out.items():
            print(f"{colour('yellow', 'left out')}  {name}: {reason}")
        for row in reached:
            words = {
                True: ("green", "met   "),
                False: ("red", "MISSED"),
                None: ("yellow", "not measured"),
            }
            measured = "" if row["measured"] is None else f"{row['measured']:.2f} "
            print(
                f"{colour(*words[row['met']])}  {row['target']}: {measured}(at most {row['limit']})"
            )
    return 1 if any(row["met"] is False for row in reached) else 0


if __name__ == "__main__":
    if sys.version_info < (3, 11):
        sys.exit("bench.py needs Python 3.11 or newer")
    try:
        sys.exit(main())
    except (ToolsError, OSError, RuntimeError) as error:
        progress("")
        print(f"bench.py: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
