# SPDX-License-Identifier: MIT
"""An AWS account and an API for the rotation function, on this machine and over real HTTP.

moto stands in for Secrets Manager and CloudFront. ``Aws`` is a thin, stateful stand-in before it.
It adds what moto lacks: the way from InProgress to Deployed, what edges send meanwhile, an ETag
that is compared, a pending version that keeps its value, and faults. moto runs a rotation function
only in Docker, so ``World`` invokes the steps as Secrets Manager does.

Needs the environment of scripts/locks/rotator.txt.
"""

from __future__ import annotations

import contextlib
import datetime
import http.server
import importlib.util
import io
import json
import logging
import re
import socket
import ssl
import threading
import traceback
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from moto.secretsmanager.models import secretsmanager_backends
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from lib.chain import ROTATOR, STEPS

SECRET, MEMBER, HEADER = "prod/origin-key", "key", "x-origin-verify"
OLD_TOKEN, TOKEN = "o" * 32, "n" * 32
OLD_KEY = "OldCanary" + "0123456789abcdefghijklmnopqrstuvwxyz"
GET, UPDATE = "GetDistribution", "UpdateDistribution"
DONE = {OLD_TOKEN: {"AWSPREVIOUS"}, TOKEN: {"AWSCURRENT"}}  # the labels after a rotation
ROLLOUT = 15  # seconds until a distribution is deployed; some polls of the rotator's

Answer = tuple[str, list[tuple[str, str]], bytes]  # status, headers, body
Fault = Callable[[Callable[[], Answer]], Answer]  # is given what the stand-in would answer


class Interrupted(BaseException):
    """The execution environment ends at this point; nothing in the function sees it coming."""


class NotLive(BaseException):
    """CloudFront sends a key that is not live. Nothing takes this for a failed step."""


class Clock:
    """Virtual time in place of the module ``time``, and of the context's; nobody waits."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.watch: Callable[[str, str], None] = lambda name, when: None

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.watch("sleep", "before")
        self.now += seconds
        self.watch("sleep", "after")


class Distribution:
    """What moto does not know of a distribution."""

    def __init__(self, values: set[str], now: float) -> None:
        self.version, self.changed_at = 1, now - ROLLOUT
        self.values = [values]  # of the header: deployed last, and in each configuration since

    @property
    def etag(self) -> str:
        return f"E{self.version}"

    def deployed(self, now: float) -> bool:
        return now >= self.changed_at + ROLLOUT

    def sent(self, now: float) -> set[str]:
        """The values that some edge location may be sending."""
        return self.values[-1] if self.deployed(now) else set().union(*self.values)

    def change(self, values: set[str], now: float) -> None:
        self.values = [*([self.values[-1]] if self.deployed(now) else self.values), values]
        self.version, self.changed_at = self.version + 1, now


class Aws:
    """moto on a loopback port, and in front of it what moto lacks."""

    def __init__(self) -> None:
        self.app = DomainDispatcherApplication(create_backend_app)
        quiet = type("Quiet", (WSGIRequestHandler,), {"log": lambda *_: None})
        self.server = make_server("127.0.0.1", 0, self.serve, threaded=True, request_handler=quiet)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def reset(self, clock: Clock) -> None:
        """Begin an account without anything in it."""
        self.clock = clock
        self.distributions: dict[str, Distribution] = {}
        self.faults: dict[str, list[Fault]] = defaultdict(list)  # by operation, for the next calls
        self.stored: list[str] = []  # keys, in the order in which versions got them
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        opener.open(f"{self.url}/moto-api/reset", data=b"").close()

    def serve(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request: a WSGI application."""
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        found = re.fullmatch(r"/2020-05-31/distribution/(\w+)(/config)?", environ["PATH_INFO"])
        distribution = self.distributions.get(found[1]) if found else None
        operation = environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2]
        if found:
            operation = {"GET": GET, "PUT": UPDATE}[environ["REQUEST_METHOD"]]

        def answer() -> Answer:
            if distribution and operation == UPDATE:
                if environ.get("HTTP_IF_MATCH") != distribution.etag:
                    return error(UPDATE, "PreconditionFailed", status="412 Precondition Failed")
                pattern = rf"<HeaderName>{HEADER}</HeaderName>\s*<HeaderValue>([^<]*)<"
                values = set(re.findall(pattern, body.decode(), re.IGNORECASE))
            if operation == "PutSecretValue":
                request = json.loads(body)
                version = versions().get(request["ClientRequestToken"], {})
                if version.get("secret_string", request["SecretString"]) != request["SecretString"]:
                    return error(operation, "ResourceExistsException")
                self.stored.append(key_in(request))
            given: list[Any] = []
            environ["wsgi.input"] = io.BytesIO(body)
            content = b"".join(self.app(environ, lambda *head: given.extend(head)))
            status, headers = given[:2]
            if distribution and status.startswith("200"):
                if operation == UPDATE:
                    distribution.change(values, self.clock.now)
                state = b"Deployed" if distribution.deployed(self.clock.now) else b"InProgress"
                content = re.sub(rb"(?<=<Status>)\w+(?=</Status>)", state, content)
                headers = [header for header in headers if header[0].lower() != "etag"]
                headers.append(("ETag", distribution.etag))
            return status, headers, content

        fault = self.faults[operation].pop(0) if self.faults[operation] else None
        try:
            status, headers, content = fault(answer) if fault else answer()
        except ConnectionError:
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            status, headers, content = "200 OK", [], b""
        headers = [header for header in headers if header[0].lower() != "content-length"]
        start(status, [*headers, ("Content-Length", str(len(content)))])
        return [content]


def versions() -> dict[str, dict[str, Any]]:
    """The secret's versions, in moto's memory."""
    secret = secretsmanager_backends["123456789012"]["eu-west-1"].secrets.get(SECRET)
    return secret.versions if secret else {}


def key_in(version: dict[str, Any]) -> str:
    """The key in a version, or an empty string."""
    try:
        key = json.loads(version.get("secret_string") or version.get("SecretString", ""))[MEMBER]
    except (ValueError, TypeError, LookupError):
        return ""
    return key if isinstance(key, str) else ""


def error(operation: str, code: str, message: str = "none", status: str = "400 Bad") -> Answer:
    """An error as the operation's service sends it."""
    if operation not in (GET, UPDATE):
        return status, [], json.dumps({"__type": code, "message": message}).encode()
    inner = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
    return status, [], f"<ErrorResponse>{inner}<RequestId>r</RequestId></ErrorResponse>".encode()


def instead(answer: Answer) -> Fault:
    """A fault: that answer, and nothing happens."""
    return lambda proceed: answer


def first(action: Callable[[], object]) -> Fault:
    """No fault, but something else that happens just before."""
    return lambda proceed: (action(), proceed())[1]


def lost(proceed: Callable[[], Answer]) -> Answer:
    """A fault: the request is carried out, and the connection breaks before the answer."""
    proceed()
    raise ConnectionError


def origin(id: str, **headers: str) -> dict[str, Any]:
    """An origin with custom headers; an underscore in a name stands for a hyphen."""
    pairs = headers.items()
    items = [{"HeaderName": name.replace("_", "-"), "HeaderValue": it} for name, it in pairs]
    ports = {"HTTPPort": 80, "HTTPSPort": 443, "OriginProtocolPolicy": "https-only"}
    return {
        "Id": id,
        "DomainName": f"{id}.example.com",
        "CustomOriginConfig": ports,
        "CustomHeaders": {"Quantity": len(items), "Items": items},
    }


class World:
    """A secret with one version, distributions that carry its key, and the rotation function."""

    def __init__(self, aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
        self.aws, self.clock, self.env = aws, Clock(), monkeypatch.setenv
        aws.reset(self.clock)
        self.calls: list[tuple[str, str, float]] = []  # step, operation, time
        self.interruption = -1  # after which call
        self.running = ""
        self.checks = True  # unless a test itself takes a live key away
        self.before: dict[str, Any] = {}  # configurations when the rotation began
        self.env("AWS_ENDPOINT_URL", aws.url)
        self.env("AWS_ACCESS_KEY_ID", "id")
        self.env("AWS_SECRET_ACCESS_KEY", "secret")
        self.env("AWS_DEFAULT_REGION", "eu-west-1")
        self.env("SECRET_KEY_NAME", MEMBER)
        for name in ("HEADER_NAME", "KEY_LENGTH", "ORIGIN_IDS", "TEST_URL"):
            monkeypatch.delenv(name, raising=False)
        self.secrets, self.cloudfront = boto3.client("secretsmanager"), boto3.client("cloudfront")
        value = json.dumps({"user": "café", MEMBER: OLD_KEY, "n": [1, None]})
        self.secrets.create_secret(Name=SECRET, SecretString=value, ClientRequestToken=OLD_TOKEN)
        self.secret = secretsmanager_backends["123456789012"]["eu-west-1"].secrets[SECRET]
        self.secret.rotation_requested = self.secret.rotation_enabled = True
        self.load()
        self.clock.watch = self.watch

    def load(self) -> None:
        """Begin a new execution environment."""
        spec = importlib.util.spec_from_file_location("rotator", ROTATOR)
        assert spec and spec.loader
        module: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.time, module.boto3 = self.clock, SimpleNamespace(client=self.client)
        self.rotator = module

    def client(self, service: str) -> Any:
        """A real client of boto3's that tells when it calls and when it has called."""
        client = boto3.client(service)
        for when in ("before", "after"):
            watch = lambda model, when=when, **_: self.watch(model.name, when)  # noqa: E731
            client.meta.events.register(f"{when}-call", watch)
        return client

    def watch(self, operation: str, when: str) -> None:
        """At each call and sleep of the function's: look around, and interrupt it if it is time."""
        if when == "before":
            self.calls.append((self.running, operation, self.clock.now))
        self.check()
        if when == "after" and self.interruption == len(self.calls) - 1:
            self.interruption = -1
            raise Interrupted

    def check(self) -> None:
        """Every value that CloudFront sends is the key of a pending or current version."""
        live = {*self.keys("AWSPENDING"), *self.keys("AWSCURRENT")}
        for distribution in self.aws.distributions.values():
            if self.checks and not distribution.sent(self.clock.now) <= live:
                raise NotLive

    def add(self, *origins: dict[str, Any]) -> str:
        """Make a distribution with these origins, give it to the rotator, and return its id."""
        cache = {"TargetOriginId": origins[0]["Id"], "ViewerProtocolPolicy": "https-only"}
        forward = {"QueryString": True, "Cookies": {"Forward": "none"}}
        config = {
            "CallerReference": str(len(self.aws.distributions)),
            "Comment": "as it was",
            "Enabled": True,
            "Origins": {"Quantity": len(origins), "Items": list(origins)},
            "DefaultCacheBehavior": {**cache, "ForwardedValues": forward},
        }
        made = self.cloudfront.create_distribution(DistributionConfig=config)
        id: str = made["Distribution"]["Id"]
        self.aws.distributions[id] = Distribution(set(), self.clock.now)
        self.aws.distributions[id].values = [set(self.carried(id))]
        self.env("DISTRIBUTION_IDS", ",".join(self.ids))
        return id

    @property
    def ids(self) -> list[str]:
        return list(self.aws.distributions)

    def config(self, id: str) -> Any:
        return self.cloudfront.get_distribution_config(Id=id)["DistributionConfig"]

    def carried(self, id: str) -> list[str]:
        """The header's values in a distribution's configuration."""
        origins = self.config(id)["Origins"]["Items"]
        entries = [entry for item in origins for entry in item["CustomHeaders"]["Items"]]
        return [it["HeaderValue"] for it in entries if it["HeaderName"].lower() == HEADER]

    def change(self, id: str, **members: Any) -> None:
        """Somebody else changes a distribution."""
        config, etag = {**self.config(id), **members}, self.aws.distributions[id].etag
        self.cloudfront.update_distribution(Id=id, IfMatch=etag, DistributionConfig=config)

    def keys(self, label: str) -> list[str]:
        """The key in the version that bears a label, if it has one."""
        keys = [key_in(it) for it in versions().values() if label in it["version_stages"]]
        return [key for key in keys if key]

    def labels(self) -> dict[str, set[str]]:
        found = {id: set(it["version_stages"]) for id, it in versions().items()}
        return {id: labels for id, labels in found.items() if labels}

    def store(self, text: str, token: str = TOKEN) -> None:
        """Put a value into a version, whatever it has."""
        versions()[token]["secret_string"] = text

    def begin(self, token: str = TOKEN) -> None:
        """What RotateSecret does: AWSPENDING on a version without a value, or a refusal."""
        for labels in self.labels().values():
            if "AWSPENDING" in labels and "AWSCURRENT" not in labels:
                raise RuntimeError("a previous rotation is not complete")
        self.secret.remove_version_stages_from_old_versions(["AWSPENDING"])
        versions()[token] = {
            "createdate": 1, "version_id": token, "version_stages": ["AWSPENDING"],
        }  # fmt: skip
        self.before = {id: self.config(id) for id in self.ids}

    def rotate(self, *steps: str, token: str = TOKEN, seconds: float = 900) -> None:
        """What Secrets Manager does next: all steps in order, each with that much time, up to the
        first error.
        """
        for self.running in steps or STEPS:
            event = {"Step": self.running, "SecretId": SECRET, "ClientRequestToken": token}
            end = self.clock.now + seconds
            left = lambda end=end: int(1000 * (end - self.clock.now))  # noqa: E731
            self.rotator.handler(event, SimpleNamespace(get_remaining_time_in_millis=left))

    def fails(self, *steps: str, match: str | None = None, **more: Any) -> str:
        """The text of the error in which these steps end."""
        with pytest.raises(self.rotator.RotationError, match=match) as caught:
            self.rotate(*steps, **more)
        return str(caught.value)

    def attempt(self) -> bool:
        """Whether the rotation, begun at createSecret, came to its end; else a new environment."""
        try:
            self.rotate()
        except (Interrupted, self.rotator.RotationError):
            self.load()
            return False
        return True

    def assert_done(self) -> None:
        """Each rotation ends so: the key first stored is everywhere, and nothing else changed."""
        (key,) = self.keys("AWSCURRENT")
        assert self.labels() == DONE and self.aws.stored[0] == key != OLD_KEY
        for id, config in self.before.items():
            assert self.config(id) == json.loads(json.dumps(config).replace(OLD_KEY, key))
            assert self.aws.distributions[id].sent(self.clock.now) == {key}

    @property
    def operations(self) -> list[str]:
        return [operation for _, operation, _ in self.calls]


class Api:
    """An API on a loopback port, over HTTPS, which answers by a list of statuses; then with 200.

    Its certificate is for localhost and vouches for itself.
    """

    def __init__(self, folder: Path) -> None:
        self.statuses: list[int] = []
        self.seen: list[tuple[str, str, str]] = []  # method, path, the header's value
        self.moment: Callable[[], None] = lambda: None
        api, self.certificate, pem = self, folder / "cert.pem", serialization.Encoding.PEM
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
        now, day = datetime.datetime.now(datetime.timezone.utc), datetime.timedelta(days=1)
        for_name = x509.SubjectAlternativeName([x509.DNSName("localhost")])
        made = x509.CertificateBuilder(name, name, key.public_key(), 1, now - day, now + day)
        signed = made.add_extension(for_name, critical=False).sign(key, hashes.SHA256())
        plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        self.certificate.write_bytes(signed.public_bytes(pem) + key.private_bytes(pem, *plain))

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                api.seen.append((self.command, self.path, self.headers.get(HEADER, "")))
                api.moment()
                self.send_response(api.statuses.pop(0) if api.statuses else 200)
                self.send_header("Location", f"https://localhost:{api.server.server_port}/moved")
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        # A client that rejects the certificate is no error here.
        self.server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.url = f"https://localhost:{self.server.server_port}/health?deep=1"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@contextlib.contextmanager
def nothing_shows(*more: str) -> Iterator[io.StringIO]:
    """See that no eight characters in a row of a key, or of these texts, show anywhere.

    Captured are all log records, the standard streams, and errors as Lambda and logging show them.
    """
    text, root = io.StringIO(), logging.getLogger()
    handler, level = logging.StreamHandler(text), root.level
    root.setLevel(logging.DEBUG)
    root.addHandler(handler)
    try:
        with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
            yield text
            logging.getLogger("control").debug("a line of another logger")
    except Exception as error:
        text.write(f"{error!r} {error} {error.args} {''.join(traceback.format_exception(error))}")
        raise
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        keys = [key for it in versions().values() if (key := key_in(it))]
        for key in (*keys, *more):
            assert not any(key[i : i + 8] in text.getvalue() for i in range(len(key) - 7))
        assert len(keys) > 1 or more
