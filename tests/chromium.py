"""A headless Chromium that tests and benchmarks drive by its own protocol, so that no driver has to be installed."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

PROGRAM = shutil.which("chromium")
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-port=0"),
)


class Tab:
    """A page: `requests` are the addresses that it asked for, `complaints` what it wrote to its console."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._sent = 0
        self.requests: list[str] = []
        self.complaints: list[str] = []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The answer to a command; what happens meanwhile is noted."""
        self._sent += 1
        self._connection.send(json.dumps({"id": self._sent, "method": method, "params": parameters}))
        while True:
            told = json.loads(self._connection.recv(timeout=120))
            if told.get("id") == self._sent:
                assert "error" not in told, told["error"]
                result: dict[str, Any] = told["result"]
                return result
            self._note(told)

    def open(self, address: str) -> float:
        """Go to `address` and wait until it has loaded and its script has run; seconds until the load event."""
        self.ask("Page.navigate", url=address)
        self.wait("document.readyState === 'complete' && document.documentElement.classList.contains('js')")
        milliseconds: float = self.run("performance.timing.loadEventEnd - performance.timing.navigationStart")
        return milliseconds / 1000

    def run(self, script: str) -> Any:
        """The value of an expression of the page, waited for where it is a promise."""
        answer = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, script: str, seconds: float = 60) -> None:
        """Until the expression is true."""
        end = time.monotonic() + seconds
        while not self.run(script):
            assert time.monotonic() < end, f"never true: {script}"
            time.sleep(0.02)

    def key(self, name: str) -> None:
        """Press a key, such as ``ArrowRight`` or ``Enter``, where the focus is."""
        code = {"Enter": 13, "Tab": 9, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}[name]
        text = {"text": "\r"} if name == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.ask("Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=code, **text)

    def look(self, width: int, height: int, *, dark: bool = False, scale: float = 1) -> None:
        """Show the page in a window of that size, in px, as somebody has it who prefers light or dark."""
        self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=False
        )
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.ask("Emulation.setEmulatedMedia", features=features)

    def photograph(self, path: Path, *, whole: bool = False) -> None:
        """Write what is seen as a PNG; `whole` is all of the page."""
        shot = self.ask("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def _note(self, told: dict[str, Any]) -> None:
        method, what = told.get("method"), told.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(what["request"]["url"])
        elif method == "Runtime.consoleAPICalled" or method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(what))
        elif method == "Log.entryAdded":
            self.complaints.append(what["entry"]["text"])


@contextmanager
def chromium(profile: Path) -> Iterator[Tab]:
    """A tab of a new Chromium with an empty profile; it ends with the block."""
    assert PROGRAM is not None
    command = [PROGRAM, *_FLAGS, f"--user-data-dir={profile}", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        port = _port(profile / "DevToolsActivePort", process)
        pages = httpx.get(f"http://127.0.0.1:{port}/json/list", timeout=30, trust_env=False).json()
        address = next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page")
        with connect(address, max_size=None, proxy=None) as connection:
            yield Tab(connection)
    finally:
        process.terminate()
        process.wait(timeout=30)


def _port(announced: Path, process: subprocess.Popen[bytes]) -> int:
    """Where Chromium listens, which it writes to a file when it does."""
    end = time.monotonic() + 60
    while not (announced.is_file() and announced.read_text().strip()):
        assert process.poll() is None, "Chromium ended before it listened"
        assert time.monotonic() < end, "Chromium did not listen within a minute"
        time.sleep(0.05)
    return int(announced.read_text().split()[0])
