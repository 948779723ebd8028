"""A headless Chromium, driven through a pipe by its own protocol: no driver, no port, nothing to install.

https://chromedevtools.github.io/devtools-protocol; messages are JSON, each ended by a zero byte.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = [
    "--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
    "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--force-color-profile=srgb",
]  # fmt: skip

# The protocol's places are descriptors 3 and 4; copies above them first, lest one be written over.
START = """
import fcntl, os, sys
copies = [fcntl.fcntl(int(word), fcntl.F_DUPFD, 10) for word in sys.argv[1:3]]
for copy, place in zip(copies, (3, 4)):
    os.dup2(copy, place, inheritable=True)
os.execv(sys.argv[3], sys.argv[3:])
"""


def find() -> str | None:
    """The browser's path; None where there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """One tab: what it asked of the network, what its console said, and what it shows."""

    def __init__(self, commands: int, answers: int) -> None:
        self.commands, self.answers, self.session, self.number = commands, answers, None, 0
        self.rest = b""
        self.requests: list[str] = []
        self.faults: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command and its result; events that come before it are noted."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self.number:
            self._note(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self.rest:
            came = os.read(self.answers, 1 << 16)
            assert came, "the browser has ended"
            self.rest += came
        message, _, self.rest = self.rest.partition(b"\0")
        return json.loads(message)

    def _note(self, event: dict[str, Any]) -> str:
        method, told = event.get("method", ""), event.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])
        elif method == "Runtime.exceptionThrown" or (
            method == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning", "assert")
        ):
            self.faults.append(json.dumps(told))
        elif method == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            self.faults.append(told["entry"]["text"])
        return method

    def open(self, path: Path, width: int = 1200, dark: bool = False) -> None:
        """Load a file in a window so wide, and wait until everything of it has come."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=900, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=path.resolve().as_uri())
        while self._note(self._next()) != "Page.loadEventFired":
            pass
        self.evaluate("Promise.all([...document.images].map(i => i.decode().catch(() => 0))).then(() => 0)")

    def evaluate(self, script: str) -> Any:
        """What a script comes to in the page."""
        told = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )  # fmt: skip
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def picture(self, whole: bool = True) -> bytes:
        """The page as PNG, all its length."""
        told = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(told["data"])


@contextmanager
def browser(path: str) -> Iterator[Page]:
    """A tab of a fresh browser with a home of its own, ended afterwards."""
    to_it, ours = os.pipe()
    theirs, from_it = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        start = [
            sys.executable,
            "-c",
            START,
            str(to_it),
            str(from_it),
            path,
            *QUIET,
            f"--user-data-dir={home}",
        ]
        told = subprocess.Popen(
            start, pass_fds=(to_it, from_it), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(to_it)
        os.close(from_it)
        try:
            page = Page(ours, theirs)
            yield page
            page.session = None
            page.call("Browser.close")
            told.wait(20)
        finally:
            told.kill()
            told.wait()
            os.close(ours)
            os.close(theirs)
