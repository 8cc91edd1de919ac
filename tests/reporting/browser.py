"""Headless Chromium, controlled through a pipe by its DevTools protocol: no port, no library."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync --hide-scrollbars "
    "--remote-debugging-pipe"
).split()


class Tab:
    """One page of the browser."""

    def __init__(self, to: int, back: int) -> None:
        self.to, self.back = to, os.fdopen(back, "rb")
        self.session, self.calls, self.unread = "", 0, b""
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Return the answer to a command; keep events that come before it."""
        self.calls += 1
        message = {"id": self.calls, "method": method, "params": parameters}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != self.calls:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, address: str) -> None:
        """Load a page and wait until it is loaded."""
        self.events.clear()
        self.call("Page.navigate", url=address)
        while not self.happened("Page.loadEventFired"):
            self.events.append(self._read())

    def happened(self, *methods: str) -> list[dict[str, Any]]:
        """Return the events of some kinds since the page was opened."""
        return [event["params"] for event in self.events if event.get("method") in methods]

    def value(self, expression: str) -> Any:
        """Evaluate JavaScript in the page; the page's policy forbids its own scripts, not these."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def resize(self, width: int) -> None:
        """Emulate a screen of this width, in pixels."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=True)

    def media(self, *, kind: str = "", scheme: str = "light") -> None:
        """Emulate print (`kind="print"`) or dark mode (`scheme="dark"`); without arguments neither."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media=kind, features=features)

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self.unread:
            part = os.read(self.back.fileno(), 1 << 16)
            assert part, "the browser went away"
            self.unread += part
        message, self.unread = self.unread.split(b"\0", 1)
        return json.loads(message)


@contextmanager
def tab(profile: Path) -> Iterator[Tab]:
    """Start a browser with one page; it reads commands from its descriptor 3 and answers at 4."""
    commands, answers = os.pipe(), os.pipe()
    command = shlex.join([str(CHROMIUM), *_FLAGS, f"--user-data-dir={profile}"])
    script = f"exec {command} 3<&{commands[0]} 4>&{answers[1]}"
    with subprocess.Popen(
        ["bash", "-c", script], pass_fds=(commands[0], answers[1]), stderr=subprocess.DEVNULL
    ) as browser:
        os.close(commands[0])
        os.close(answers[1])
        try:
            yield Tab(commands[1], answers[0])
        finally:
            browser.kill()
