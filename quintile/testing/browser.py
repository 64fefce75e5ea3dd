"""A real Chromium for tests of the web pages, driven over its debugging pipe. Nothing to install.

``find`` says where it is; ``Browser`` starts it with a profile of its own; ``Page`` opens
addresses, evaluates JavaScript, presses keys and takes pictures. Waiting is on conditions, with a
deadline, never for a fixed time.
"""

from __future__ import annotations

import base64
import json
import os
import pathlib
import shutil
import subprocess
import threading
import time
from types import TracebackType
from typing import Any, Final, Self

NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
DEADLINE_S: Final = 30.0
POLL_S: Final = 0.03
_FLAGS: Final = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-background-networking",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
    "--remote-allow-origins=*",
)


def find() -> str | None:
    """Return the path of a Chromium, None when there is none (Debian: apt install chromium)."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One Chromium process; use as a context manager."""

    def __init__(self, program: str, profile: pathlib.Path) -> None:
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        # The protocol wants its two ends at descriptors 3 and 4.
        wiring = f'exec "$@" 3<&{to_browser} 4>&{from_browser}'
        command = [program, *_FLAGS, f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(
            ["/bin/bash", "-c", wiring, "browser", *command],
            pass_fds=(to_browser, from_browser),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._count = 0
        self._answers: dict[int, dict[str, Any]] = {}
        self._events: list[dict[str, Any]] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._follow, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(10)
        os.close(self._write)
        os.close(self._read)

    def page(self, *, width: int = 1280, height: int = 860, dark: bool = False) -> Page:
        """Open an empty page of a size, in light or dark."""
        target = self.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        attached = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})
        page = Page(self, attached["sessionId"])
        for domain in ("Page", "Runtime", "Log"):
            page.call(f"{domain}.enable")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        page.call("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.call("Emulation.setEmulatedMedia", {"features": [scheme]})
        return page

    def call(
        self, method: str, params: dict[str, Any] | None = None, session: str = ""
    ) -> dict[str, Any]:
        """Send a command of the DevTools protocol and return its result."""
        with self._changed:
            self._count += 1
            number = self._count
            message = {"id": number, "method": method, "params": params or {}}
            if session:
                message["sessionId"] = session
            os.write(self._write, json.dumps(message).encode() + b"\0")
            if not self._changed.wait_for(lambda: number in self._answers, DEADLINE_S):
                raise TimeoutError(f"Chromium did not answer {method} in {DEADLINE_S:.0f} s")
            answer = self._answers.pop(number)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    def events(self, session: str) -> list[dict[str, Any]]:
        """Return what a page reported so far: console, errors, log entries."""
        with self._changed:
            return [event for event in self._events if event.get("sessionId") == session]

    def _follow(self) -> None:
        rest = b""
        while piece := os.read(self._read, 1 << 20):
            *messages, rest = (rest + piece).split(b"\0")
            with self._changed:
                for text in messages:
                    message = json.loads(text)
                    if "id" in message:
                        self._answers[message["id"]] = message
                    else:
                        self._events.append(message)
                self._changed.notify_all()


class Page:
    """One tab."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session

    def call(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send a command of the DevTools protocol to this page."""
        return self._browser.call(method, params, self._session)

    def again(self) -> Page:
        """Open another tab of the same browser."""
        return self._browser.page()

    def close(self) -> None:
        """Close the tab."""
        self.call("Page.close")

    def open(self, url: str) -> None:
        """Go to an address."""
        self.call("Page.navigate", {"url": url})
        self.wait("document.readyState === 'complete'")

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression; promises are awaited."""
        wanted = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        answer = self.call("Runtime.evaluate", wanted)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait(self, expression: str, *, timeout_s: float = DEADLINE_S) -> None:
        """Block until an expression is true.

        Raises:
            TimeoutError: It did not become true; carries the text of the page.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                if self.evaluate(f"Boolean({expression})"):
                    return
            except RuntimeError:
                pass  # the document is being replaced
            if time.monotonic() > deadline:
                text = self.evaluate("document.body?.innerText ?? ''")
                raise TimeoutError(f"not true within {timeout_s:g} s: {expression}\n{text[:2000]}")
            time.sleep(POLL_S)

    def press(self, key: str) -> None:
        """Press and release a key, by its DOM name (``a``, ``5``, ``Backspace``, ``Tab``)."""
        text = {"text": key} if len(key) == 1 else {}
        code = {"Enter": 13, "Tab": 9, "Backspace": 8, "Escape": 27}.get(key, 0)
        named = {"key": key, "windowsVirtualKeyCode": code or ord(key[0].upper())}
        self.call("Input.dispatchKeyEvent", {"type": "keyDown", **named, **text})
        self.call("Input.dispatchKeyEvent", {"type": "keyUp", **named})

    def picture(self, path: pathlib.Path) -> None:
        """Save what the page shows as PNG."""
        data = self.call("Page.captureScreenshot", {"format": "png"})["data"]
        path.write_bytes(base64.b64decode(data))

    def complaints(self) -> list[str]:
        """Return every error that the page logged: exceptions, refused resources, policy."""
        found: list[str] = []
        for event in self._browser.events(self._session):
            params = event.get("params", {})
            if event["method"] == "Runtime.exceptionThrown":
                details = params["exceptionDetails"]
                found.append(str(details.get("exception", {}).get("description", details)))
            elif event["method"] == "Log.entryAdded" and params["entry"]["level"] == "error":
                entry = params["entry"]
                found.append(f"{entry['text']} {entry.get('url', '')}".strip())
            elif event["method"] == "Runtime.consoleAPICalled" and params["type"] == "error":
                found.append(str(params["args"]))
        return found
