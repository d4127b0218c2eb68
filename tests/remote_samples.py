"""A real S3 endpoint on this machine, which may be told to break connections; and a web server that lists its files."""

from __future__ import annotations

import contextlib
import http.server
import itertools
import socket
import threading
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest


@dataclass
class Endpoint:
    """`url` of the server; `broken` counts the connections that it dropped, `requests` those that came."""

    url: str = ""
    every: int = 0
    requests: int = 0
    broken: int = 0
    _count: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def drops(self) -> bool:
        """Whether the connection of this request is to be cut before an answer."""
        self.requests = next(self._count)
        if not self.every or self.requests % self.every:
            return False
        self.broken += 1
        return True


@contextlib.contextmanager
def s3_endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    """A server that speaks S3, and the environment in which clients find it."""
    import s3fs
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    endpoint = Endpoint()
    answer = DomainDispatcherApplication(create_backend_app)

    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if endpoint.drops():
            # Not an error in words: the line goes dead, as when a switch restarts.
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            raise ConnectionResetError
        result: Iterable[bytes] = answer(environ, start_response)
        return result

    server = make_server("127.0.0.1", 0, application, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    endpoint.url = f"http://127.0.0.1:{server.server_port}"
    # The buckets of a former server of this process are forgotten.
    urllib.request.urlopen(urllib.request.Request(f"{endpoint.url}/moto-api/reset", method="POST")).close()
    endpoint.requests, endpoint._count = 0, itertools.count(1)
    s3fs.S3FileSystem.clear_instance_cache()  # it remembers the endpoint of the test before
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    try:
        yield endpoint
    finally:
        server.shutdown()
        thread.join()


def upload(endpoint: Endpoint, directory: Path, bucket: str, before: str = "") -> None:
    """Put every file below `directory` into a bucket, under `before` and its name relative to it."""
    import boto3

    client = boto3.client("s3", endpoint_url=endpoint.url)
    client.create_bucket(Bucket=bucket)
    for path in sorted(p for p in directory.rglob("*") if p.is_file()):
        client.upload_file(str(path), bucket, before + path.relative_to(directory).as_posix())


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None: ...


@contextlib.contextmanager
def web_server(directory: Path) -> Iterator[str]:
    """Python's web server, which lists the files of `directory` and knows no parts of files; gives its URL."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(directory)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
