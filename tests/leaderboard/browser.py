"""A headless Chromium, spoken to in its DevTools protocol through two pipes: no library and no driver are needed.

The protocol (https://chromedevtools.github.io/devtools-protocol): JSON messages that end with a zero byte, written to
file descriptor 3 of the browser and read from 4.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_PATIENCE = 30.0
"""Longest wait for an answer [s]; a busy machine starts a browser slowly."""

_PHONE = 600
"""Widths [px] below it are those of phones, which lay pages out as their viewport tag says."""


def find() -> str:
    """Return the path of a Chromium, empty if there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), "")


class Browser:
    """One tab; use as a context manager."""

    def __init__(self, profile: Path) -> None:
        to_read, self._to = os.pipe()
        self._from, to_write = os.pipe()
        options = [
            "--headless",
            "--remote-debugging-pipe",
            "--no-sandbox",  # which needs rights that a container does not give
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--no-first-run",
            f"--user-data-dir={profile}",
            "about:blank",
        ]
        redirect = f'exec "$0" "$@" 3</dev/fd/{to_read} 4>/dev/fd/{to_write}'
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", redirect, find(), *options],
            pass_fds=(to_read, to_write),
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        self._buffer = b""
        self._count = 0
        self._session: dict[str, str] = {}
        self.events: deque[dict[str, Any]] = deque()
        pages = [item for item in self.ask("Target.getTargets")["targetInfos"] if item["type"] == "page"]
        attached = self.ask("Target.attachToTarget", targetId=pages[0]["targetId"], flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._session = {}
        self.ask("Browser.close")
        self._process.wait(_PATIENCE)
        os.close(self._to)
        os.close(self._from)

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result; what happens meanwhile is kept in ``events``."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters, **self._session}
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next(method)
            if answer.get("id") == self._count:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self.events.append(answer)

    def _next(self, awaited: str) -> dict[str, Any]:
        deadline = time.monotonic() + _PATIENCE
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._from], [], [], max(deadline - time.monotonic(), 0))
            assert ready, f"no answer to {awaited} in {_PATIENCE:g} s"
            part = os.read(self._from, 1 << 20)
            assert part, f"the browser ended before it answered {awaited}"
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def seen(self, *methods: str) -> list[dict[str, Any]]:
        """Return the parameters of the events of these methods so far."""
        return [event["params"] for event in self.events if event.get("method") in methods]

    def open(self, address: str) -> None:
        """Load a page, waiting until it is there; what happened before is forgotten."""
        self.run("0")  # reads what is still on its way from the page before
        self.events.clear()
        self.ask("Page.navigate", url="about:blank")
        self.ask("Page.navigate", url=address)
        deadline = time.monotonic() + _PATIENCE
        while self.run("document.readyState + location.protocol") != "completefile:":
            assert time.monotonic() < deadline, f"{address} did not load"

    def run(self, code: str) -> Any:
        """Return the value of a JavaScript expression, that of a promise once it is kept."""
        answer = self.ask("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True, userGesture=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        """Press and release a key: ``Tab`` or ``Enter``."""
        codes = {"Tab": (9, ""), "Enter": (13, "\r")}
        code, text = codes[key]
        common = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.ask("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        self.ask("Input.dispatchKeyEvent", type="keyUp", **common)

    def look(self, width: int, height: int = 900, *, dark: bool = False, scripts: bool = True) -> None:
        """Set the size of the window, the colour scheme of the reader, and whether scripts run on the next page."""
        phone = width < _PHONE
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])
        self.ask("Emulation.setScriptExecutionDisabled", value=not scripts)

    def complaints(self) -> list[str]:
        """Return errors and warnings of the console, exceptions, and entries of the log."""
        self.run("0")
        logged = [entry["entry"]["text"] for entry in self.seen("Log.entryAdded")]
        thrown = [str(item["exceptionDetails"]) for item in self.seen("Runtime.exceptionThrown")]
        console = [str(item["args"]) for item in self.seen("Runtime.consoleAPICalled")]
        return logged + thrown + console

    def requests(self) -> list[str]:
        """Return the addresses that were asked for."""
        self.run("0")
        return [item["request"]["url"] for item in self.seen("Network.requestWillBeSent")]
