# SPDX-License-Identifier: MIT
"""What the measured handlers ask, in a process of its own: ``backend.py extension`` or ``backend.py
moto``.

Reads one JSON object a line and answers each with a number: ``{"do": "start", "name": secret,
"member": M, "token": T, "current": key, "pending": key or null}`` with the port, ``{"do":
"calls"}`` with the requests so far.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from lib.standins import PENDING, Extension, Secret

DAY = 86_400  # seconds: the current version was not made just now, so no rotation is running


class SlowSecret(Secret):
    """A secret whose every read takes time."""

    seconds = 0.0

    def answer(self, secret_id: str, stage: str) -> tuple[int, bytes]:
        time.sleep(self.seconds)
        return super().answer(secret_id, stage)


class ExtensionBackend:
    """The stand-in for the Extension. Each call to Secrets Manager takes so many seconds."""

    def start(
        self,
        name: str,
        member: str,
        token: str,
        current: str,
        pending: str | None,
        seconds: float = 0.0,
    ) -> int:
        secret = SlowSecret(name, member)
        secret.seconds = seconds
        secret.versions[secret.put(current)].created -= DAY
        if pending:
            secret.put(pending, PENDING)
        self.extension = Extension(secret, token)
        return self.extension.port

    def calls(self) -> int:
        return len(self.extension.seen)


class MotoBackend:
    """Secrets Manager by moto. Calls that set it up count too, so only differences tell."""

    def __init__(self) -> None:
        self.requests = 0

    def start(self, name: str, member: str, token: str, current: str, pending: str | None) -> int:
        import boto3
        from moto.server import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        application = DomainDispatcherApplication(create_backend_app)

        def counted(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            self.requests += 1
            response: Iterable[bytes] = application(environ, start_response)
            return response

        server = make_server("127.0.0.1", 0, counted, threaded=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        client = boto3.client("secretsmanager", endpoint_url=f"http://127.0.0.1:{server.port}")
        client.create_secret(Name=name, SecretString=json.dumps({member: current}))
        if pending:
            text = json.dumps({member: pending})
            client.put_secret_value(SecretId=name, SecretString=text, VersionStages=[PENDING])
        return int(server.port)

    def calls(self) -> int:
        return self.requests


def main() -> None:
    backend: Any = {"extension": ExtensionBackend, "moto": MotoBackend}[sys.argv[1]]()
    for line in sys.stdin:
        task = json.loads(line)
        print(getattr(backend, task.pop("do"))(**task), flush=True)


if __name__ == "__main__":
    main()
