"""What `helm test` does: sign in, write and read a dataset, run an Experiment, read its log.

Everything that it makes carries a random name and is deleted at the end.
"""

import os
import pathlib
import re
import secrets
import subprocess
import sys
import tempfile
import time

import httpx
import numpy as np

DEADLINE_S = 85.0
BEGUN_S = time.monotonic()
URL = os.environ["QUINTILE_API_URL"]
PROJECT = os.environ["PROJECT"]
NAME = f"check-{secrets.token_hex(3)}"
WORDS = f"hello from {NAME}"
SAME_ORIGIN = {"Origin": URL, "X-Quintile-CSRF": "1"}
CLIENT = ("HOME", "PATH", "PYTHONSAFEPATH", "PYTHONUNBUFFERED")


def say(text):
    """Tell what is done, and when."""
    sys.stdout.write(f"{time.monotonic() - BEGUN_S:5.1f} s  {text}\n")
    sys.stdout.flush()


def ready():
    """Wait until the API answers."""
    while True:
        try:
            if httpx.get(f"{URL}/readyz", timeout=5).is_success:
                return
        except httpx.HTTPError:
            pass
        if time.monotonic() - BEGUN_S > 30:
            sys.exit(f"{URL}/readyz did not answer within 30 s")
        time.sleep(0.5)


def token():
    """Sign in as the first administrator by a one-time link; return an API token."""
    command = [sys.executable, "-m", "quintile_api.main", "admin-link"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"[?&]token=([\w.~-]+)", printed)
    if not found:
        sys.exit("admin-link printed no link")
    with httpx.Client(base_url=f"{URL}/api/v1", timeout=20, headers=SAME_ORIGIN) as client:
        client.post("/session", json={"token": found[1]}).raise_for_status()
        cookies = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
        asked = {"name": NAME, "days": 1}
        made = client.post("/tokens", json=asked, headers={"Cookie": cookies})
        made.raise_for_status()
        return made.json()["id"], made.json()["token"]


def quintile(*arguments, env, **more):
    """Run the command line; return what it prints."""
    left_s = DEADLINE_S - (time.monotonic() - BEGUN_S)
    command = [sys.executable, "-m", "quintile.cli", *arguments]
    return subprocess.run(
        command, env=env, check=True, text=True, capture_output=True, timeout=left_s, **more
    ).stdout


def data(env, folder):
    """Import ten images, read their labels back."""
    images = np.random.default_rng(0).integers(0, 255, (10, 8, 8), dtype=np.uint8)
    np.savez(folder / "images.npz", images=images, labels=np.array(list("ab" * 5)))
    quintile("dataset", "import", NAME, str(folder / "images.npz"), env=env)
    rows = quintile("dataset", "labels", NAME, env=env).splitlines()
    quintile("dataset", "delete", NAME, env=env)
    if len(rows) < 10:
        sys.exit(f"expected the labels of ten images, got {rows}")


def train(env, folder):
    """Run a script on one worker and read its log."""
    (folder / "code").mkdir()
    (folder / "code" / "hello.py").write_text(f"print({WORDS!r}, flush=True)\n")
    try:
        quintile("run", "hello.py", "--name", NAME, "--no-eval", env=env, cwd=folder / "code")
        log = quintile("experiment", "logs", NAME, env=env)
    finally:
        subprocess.run(
            [sys.executable, "-m", "quintile.cli", "experiment", "delete", NAME],
            env=env,
            check=False,
            timeout=30,
            capture_output=True,
        )
    if WORDS not in log:
        sys.exit(f"the log of the Experiment holds {log!r}, not {WORDS!r}")


def main():
    """Do all of it."""
    ready()
    say("the API answers")
    token_id, secret = token()
    say("signed in")
    env = {name: os.environ[name] for name in CLIENT if name in os.environ}
    env |= {"QUINTILE_URL": URL, "QUINTILE_TOKEN": secret, "QUINTILE_PROJECT": PROJECT}
    try:
        with tempfile.TemporaryDirectory() as folder:
            if PROJECT:
                data(env, pathlib.Path(folder))
                say("a dataset went in and out")
            if PROJECT and os.environ["TRAIN"] == "true":
                train(env, pathlib.Path(folder))
                say("an Experiment ran, its log is readable")
    finally:
        headers = {"Authorization": f"Bearer {secret}"}
        httpx.delete(f"{URL}/api/v1/tokens/{token_id}", headers=headers, timeout=20)
    say("all is well")


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        words = " ".join(error.cmd[2:])
        sys.exit(f"{words} ended with {error.returncode}:\n{error.stdout}{error.stderr}")
    except (httpx.HTTPError, subprocess.TimeoutExpired) as error:
        sys.exit(f"{type(error).__name__}: {error}")
