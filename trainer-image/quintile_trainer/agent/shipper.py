"""Ships what the ranks wrote: metrics, checkpoints, artifacts, logs. One thread, in passes.

While the API is away everything stays on disk and later passes deliver it. Logs beyond their quota
lose the oldest lines, with a counted marker; nothing else is ever dropped. A record that the API
cannot take is replaced by an empty one of the same number, since numbers must have no gaps.
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
import threading
import time
from pathlib import Path

from quintile_trainer import folders, layout, spool
from quintile_trainer.agent import inbox, link, wire

PERIOD_S = 0.5
BATCH = 2000
URL_BATCH = 60
LOGS_SLICE_S = 2.0
"""After so long with logs, metrics and checkpoints are looked after again."""
SHIPPED = ".shipped"
StreamKey = tuple[int, int, str]
"""(generation, rank, metrics | logs)."""


class Shipper:
    """One per agent; ``run`` has its own thread. All it knows lies in the state folder."""

    def __init__(
        self,
        shared: link.Link,
        state: layout.StateFolder,
        box: inbox.Inbox,
    ) -> None:
        self._link = shared
        self._state = state
        self._box = box
        self._client = shared.client()
        self._readers: dict[StreamKey, spool.Reader] = {}
        self._wake = threading.Condition()
        self._asked = 0
        self._finished = 0
        self._fenced = False
        # Segments in a batch under way must not be trimmed, whoever trims.
        self._reading = threading.Lock()
        self._held: dict[StreamKey, int] = {}

    def flush(self, timeout_s: float, cancelled: threading.Event | None = None) -> bool:
        """Wait until a pass that begins now has delivered everything; False when time ran out."""
        deadline = time.monotonic() + timeout_s
        with self._wake:
            self._asked += 1
            wanted = self._asked
            self._wake.notify_all()
            while self._finished < wanted and not self._fenced:
                left = deadline - time.monotonic()
                if left <= 0 or (cancelled is not None and cancelled.is_set()):
                    return False
                self._wake.wait(min(left, 0.2))
        return True

    def run(self) -> None:
        """Make passes until the process ends or the attempt is over."""
        pause_s = PERIOD_S
        while not self._fenced:
            with self._wake:
                if self._asked == self._finished:
                    self._wake.wait(pause_s)
                wanted = self._asked
            try:
                self._pass()
                pause_s = PERIOD_S
            except (link.Away, OSError) as error:
                # The API is away, or the disk refuses our notes: nothing is lost, it waits.
                if not isinstance(error, link.Away):
                    note(f"shipping waits: {error}")
                pause_s = min(pause_s * 2, link.LONGEST_PAUSE_S)
                time.sleep(min(pause_s, 1.0))
                continue
            except link.Refused as refused:
                self._refused(refused)
                continue
            with self._wake:
                self._finished = max(self._finished, wanted)
                self._wake.notify_all()

    def _pass(self) -> None:
        self._ship_what_counts()
        for key in self._streams("logs"):
            self._ship_logs(key)

    def _ship_what_counts(self) -> None:
        for key in self._streams("metrics"):
            # What is there now: a rank may log every step, faster than it can be shipped.
            folder = self._state.generation(key[0]).stream(key[1], key[2])
            self._ship_stream(key, end=spool.end(folder))
        self._ship_checkpoint()
        self._ship_artifacts()

    def _ship_logs(self, key: StreamKey) -> None:
        """Ship what is there now: a rank may print faster than anybody can ship."""
        folder = self._state.generation(key[0]).stream(key[1], key[2])
        end = spool.end(folder)
        while self._reader(key).place < end:
            until = time.monotonic() + LOGS_SLICE_S
            if not self._ship_stream(key, until=until, end=end):
                return
            self._ship_what_counts()

    def _streams(self, name: str) -> list[StreamKey]:
        found = []
        for folder in self._state.root.glob(f"g*/spool/rank-*/{name}"):
            generation = int(folder.parents[2].name[1:])
            found.append((generation, int(folder.parent.name.partition("-")[2]), name))
        return sorted(found)

    def _ship_stream(
        self,
        key: StreamKey,
        *,
        until: float = math.inf,
        end: spool.Place = spool.NO_END,
    ) -> bool:
        """Ship a stream; return whether time (of the monotonic clock) was over before its end."""
        reader, limit = self._reader(key), BATCH
        while reader.place < end:
            if time.monotonic() > until:
                return True
            records = self._take(key, limit)
            if not records:
                return False
            try:
                seq = self._post_records(key, records, reader.next_seq)
            except link.Refused as refused:
                if _is_final(refused):
                    raise
                if len(records) > 1:
                    limit = len(records) // 2
                    continue
                note(f"{key[2]} of rank {key[1]}: a record is left out: {refused}")
                seq = self._post_records(key, [_emptied(records[0], key[2])], reader.next_seq)
            stored = seq - reader.next_seq + 1
            if stored <= 0:
                raise link.Away(f"{key[2]} of rank {key[1]} were not stored")
            with self._reading:
                reader.ack(min(stored, len(records)))
            limit = min(limit * 2, BATCH)
        return False

    def _take(self, key: StreamKey, limit: int) -> list[wire.Json]:
        reader = self._reader(key)
        with self._reading:
            records = reader.batch(limit)
            self._held[key] = reader.tail
        return records

    def _post_records(self, key: StreamKey, records: list[wire.Json], first_seq: int) -> int:
        generation, rank, name = key
        render = wire.metrics if name == "metrics" else wire.logs
        body = render(self._link.envelope(generation), rank, records, first_seq)
        return int(self._client.post(self._link.path(name), body)["seq"])

    def trim_logs(self, generation: int, rank: int) -> None:
        """Drop the oldest lines of a rank beyond the quota. Called by whoever writes them."""
        key = (generation, rank, "logs")
        folder = self._state.generation(generation).stream(rank, "logs")
        quota = self._link.env.log_quota_bytes
        if spool.size_bytes(folder) <= quota:
            return
        with self._reading, contextlib.suppress(OSError):
            head = max(self._held.get(key, 0), self._reader(key).head)
            spool.trim(folder, quota_bytes=quota, head=head, marker=_marker)

    def _reader(self, key: StreamKey) -> spool.Reader:
        generation, rank, name = key
        known = self._readers.get(key)
        if known is None:
            folder = self._state.generation(generation).stream(rank, name)
            # Two threads may come here at once; both get the same one.
            known = self._readers.setdefault(key, spool.Reader(folder))
        return known

    def _ship_checkpoint(self) -> None:
        """Commit the newest local checkpoint; older ones are superseded."""
        mine = layout.local_checkpoints(self._state.checkpoints)
        if not mine or (mine[-1].folder / SHIPPED).exists():
            return
        try:
            self._commit(mine[-1])
        except FileNotFoundError:
            # The rank made a newer one and removed this; the next pass takes the newer.
            return
        except link.Refused as refused:
            if _is_final(refused):
                raise
            note(f"checkpoint of step {mine[-1].step} stays here alone: {refused}")
            (mine[-1].folder / SHIPPED).touch()

    def _commit(self, checkpoint: layout.Checkpoint) -> None:
        manifest = json.loads((checkpoint.folder / layout.MANIFEST).read_text())
        files = [entry["path"] for entry in manifest["files"]] + [layout.MANIFEST]
        envelope = self._link.envelope(checkpoint.generation)
        body = wire.url_request(envelope, step=checkpoint.step, files=files)
        answer = self._client.post(self._link.path("checkpoints/urls"), body)
        for name in files:
            put_once(answer["urls"][name], checkpoint.folder / name)
        envelope = self._link.envelope(checkpoint.generation)
        body = wire.commit(envelope, prefix=answer["prefix"], manifest=manifest)
        self._client.post(self._link.path("checkpoints"), body)
        (checkpoint.folder / SHIPPED).touch()

    def _ship_artifacts(self) -> None:
        for folder in sorted(self._state.root.glob("g*/artifacts")):
            if (folder / SHIPPED).exists():
                continue
            generation = int(folder.parent.name[1:])
            files = sorted(path.name for path in folder.iterdir() if path.is_file())
            try:
                for start in range(0, len(files), URL_BATCH):
                    self._put_artifacts(generation, folder, files[start : start + URL_BATCH])
            except link.Refused as refused:
                if _is_final(refused):
                    raise
                note(f"artifacts of generation {generation} stay here: {refused}")
            (folder / SHIPPED).touch()

    def _put_artifacts(self, generation: int, folder: Path, files: list[str]) -> None:
        body = wire.artifact_request(self._link.envelope(generation), files)
        answer = self._client.post(self._link.path("artifacts/urls"), body)
        for name in files:
            put_once(answer["urls"][name], folder / name)

    def _refused(self, refused: link.Refused) -> None:
        with self._wake:
            self._fenced = True
            self._wake.notify_all()
        if refused.directive == "fenced":
            self._box.post(inbox.Advice("fenced", "stopped", 0, asked=0))
            return
        self._box.post(inbox.Broken("ApiRefused", f"the API refused what we ship: {refused}"))


def put_once(url: str, path: Path) -> None:
    """Store a file; that equal bytes lie there already is fine.

    Raises:
        Away: The store cannot be reached.
        Refused: Other bytes lie there, or the URL is not good.
    """
    try:
        link.put_file(url, path)
    except link.Refused as refused:
        if refused.status != 409:
            raise
        note(f"{path.name} ({folders.digest(path)[:12]}) was stored before: {refused}")


def note(text: str) -> None:
    """Say something in the agent's own output, which the Executor keeps."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{stamp} agent: {text}\n")
        sys.stderr.flush()


def _is_final(refused: link.Refused) -> bool:
    return refused.directive == "fenced" or refused.status in (401, 403)


def _emptied(record: wire.Json, name: str) -> wire.Json:
    if name == "metrics":
        step = record.get("step")
        return {"step": step if isinstance(step, int) else 0, "time": time.time(), "values": {}}
    words = "[quintile] a line that cannot be stored was left out"
    return {"time": time.time(), "line": words, "stream": "agent"}


def _marker(count: int) -> spool.Record:
    words = f"[quintile] {count} lines dropped: the log spool of this rank is full"
    return {"time": time.time(), "line": words, "stream": "agent", "dropped": count}
