"""A headless browser for tests of pages."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import subprocess
from pathlib import Path
from typing import Any

#: Names of the browser's program.
PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
#: Events that report an error of a page.
COMPLAINTS = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
#: Seconds to wait for an answer; it takes one on an idle machine.
PATIENCE_S = 60.0


class Browser:
    """A headless Chromium with one page, which needs no library: its DevTools protocol goes through a pipe as JSON."""

    def __init__(self, program: str, profile: Path) -> None:
        # The browser reads from 3 and writes to 4; ends above 9 are in nobody's way while a shell puts them there.
        ends = []
        for end in (*os.pipe(), *os.pipe()):
            ends.append(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10))
            os.close(end)
        browser_input, self._output, self._input, browser_output = ends
        # Containers run tests as root, which Chromium's sandbox refuses; the page is our own.
        options = ("--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe")
        run = f'exec "$0" "$@" 3<&{browser_input} 4>&{browser_output}'
        self._process = subprocess.Popen(
            ["bash", "-c", run, program, *options, f"--user-data-dir={profile}"],
            pass_fds=(browser_input, browser_output),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(browser_input)
        os.close(browser_output)
        self._asked = 0
        self._unread = b""
        self._session: dict[str, str] = {}
        self.events: list[dict[str, Any]] = []

    def start(self) -> None:
        """Open an empty page, and listen to all that it says."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = {"sessionId": self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: object) -> Any:
        """Send a command and return its answer; events that come meanwhile are kept."""
        self._asked += 1
        message = {"id": self._asked, "method": method, "params": parameters, **self._session}
        os.write(self._output, json.dumps(message).encode() + b"\0")
        while "id" not in (answer := self._read()):
            self.events.append(answer)
        assert "result" in answer, answer
        return answer["result"]

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._input], [], [], PATIENCE_S)
            came = os.read(self._input, 1 << 20) if ready else b""
            assert came, "the browser ended or says nothing"
            self._unread += came
        message, _, self._unread = self._unread.partition(b"\0")
        return dict(json.loads(message))

    def open(self, page: Path, width: int, scheme: str = "light") -> None:
        """Load a page at a width, in CSS pixels, and wait until it is there."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False)
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.events.clear()
        self.ask("Page.navigate", url=page.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._read())

    def value(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        return self.ask("Runtime.evaluate", expression=expression, returnByValue=True)["result"]["value"]

    def screenshot(self, path: Path) -> None:
        """Write an image of the whole page."""
        image = self.ask("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(image))

    def close(self) -> None:
        """End the browser, however it is."""
        os.close(self._output)
        os.close(self._input)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
