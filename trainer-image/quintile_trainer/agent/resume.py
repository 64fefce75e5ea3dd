"""What ranks need on this machine before they start: bundle, checkpoint. Files only, verified."""

from __future__ import annotations

import hashlib
import json
import shutil
import urllib.parse
from dataclasses import dataclass
from pathlib import Path

from quintile_trainer import folders, layout
from quintile_trainer.agent import bundles, link, wire


@dataclass(frozen=True)
class Sources:
    """Bundle and checkpoints in a state folder."""

    state: layout.StateFolder

    def has_bundle(self, sha256: str) -> bool:
        """Return whether the bundle lies here, unpacked."""
        mark = self.state.root / "bundle.sha256"
        return mark.is_file() and mark.read_text() == sha256

    def keep_bundle(self, sha256: str, data: bytes) -> None:
        """Check and unpack a bundle.

        Raises:
            BadBundle: The digest differs, or it is not one that we unpack.
        """
        found = hashlib.sha256(data).hexdigest()
        if found != sha256:
            raise bundles.BadBundle(f"the code bundle has SHA-256 {found[:12]}, not {sha256[:12]}")
        archive = self.state.root / "bundle.zip"
        archive.write_bytes(data)
        bundles.unpack(archive, self.state.bundle)
        archive.unlink()
        (self.state.root / "bundle.sha256").write_text(sha256)

    def checkpoint(self, plan: wire.Json) -> Path:
        """Return a folder with the checkpoint that a plan resumes from: ours, or downloaded.

        Raises:
            Away: It could not be read whole.
            Refused: The store said no.
        """
        point = plan["resume"]
        local = self._local(str(point["key"]))
        if local is not None:
            return local
        folder = self.state.resume
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        raw = link.get_small(point["manifest_url"])
        for entry in json.loads(raw)["files"]:
            link.get_file(
                point["urls"][entry["path"]],
                folder / entry["path"],
                sha256=entry["sha256"],
                size_bytes=entry["size"],
            )
        (folder / layout.MANIFEST).write_bytes(raw)
        return folder

    def _local(self, key: str) -> Path | None:
        """Return our own copy of a committed checkpoint when it verifies."""
        for entry in reversed(layout.local_checkpoints(self.state.checkpoints)):
            manifest = folders.manifest_of(entry.folder)
            if manifest is None:
                continue
            place = f"{manifest['attempt']}-{manifest['generation']}/step-{manifest['step']}"
            same = key.endswith(f"/{place}/{layout.MANIFEST}")
            if same and not folders.problems(entry.folder):
                return entry.folder
        return None


def dataset_query(dataset: wire.Json) -> str:
    """Return the query that asks for what a trial reads."""
    fields = {"name": dataset["name"], "version": dataset["version"]}
    if dataset.get("split"):
        fields["split"] = dataset["split"]
    return "?" + urllib.parse.urlencode(fields)
