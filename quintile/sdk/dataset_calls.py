"""Calls about datasets: uploads, imports, versions, splits, items. A group of ``AsyncClient``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping

from quintile.core import datasets
from quintile.sdk import http, paths
from quintile.sdk.http import Call

NDJSON = "application/x-ndjson"


class UploadCalls:
    """Uploads of a project."""

    def __init__(self, link: http.Http) -> None:
        self._link = link

    async def create(self, project: str, wanted: datasets.UploadCreate) -> datasets.UploadView:
        """Begin an upload."""
        path = paths.project(project, "uploads")
        call = Call("POST", path, json=wanted.model_dump(), repeat="keyed")
        return await self._link.model(call, datasets.UploadView)

    async def get(self, project: str, upload_id: str) -> datasets.UploadView:
        """Return how far an upload is."""
        call = Call("GET", paths.project(project, "uploads", upload_id))
        return await self._link.model(call, datasets.UploadView)

    async def append(
        self, project: str, upload_id: str, *, offset: int, data: bytes
    ) -> datasets.UploadView:
        """Send the piece that begins at ``offset``.

        Raises:
            Conflict: The server expects another offset; ``get`` tells which.
        """
        call = Call(
            "PUT",
            paths.project(project, "uploads", upload_id),
            params={"offset": offset},
            content=data,
            headers={"Content-Type": "application/octet-stream"},
        )
        return await self._link.model(call, datasets.UploadView)


class DatasetCalls:
    """Datasets of a project; version 0 means the newest."""

    def __init__(self, link: http.Http) -> None:
        self._link = link

    async def create(self, project: str, wanted: datasets.DatasetCreate) -> datasets.DatasetView:
        """Make an empty dataset."""
        path = paths.project(project, "datasets")
        call = Call("POST", path, json=wanted.model_dump(), repeat="keyed")
        return await self._link.model(call, datasets.DatasetView)

    def list(self, project: str) -> AsyncIterator[datasets.DatasetView]:
        """Yield the datasets by name."""
        call = Call("GET", paths.project(project, "datasets"))
        return self._link.pages(call, datasets.DatasetView)

    async def get(self, project: str, name: str) -> datasets.DatasetView:
        """Return one dataset."""
        call = Call("GET", paths.project(project, "datasets", name))
        return await self._link.model(call, datasets.DatasetView)

    async def delete(self, project: str, name: str) -> None:
        """Delete a dataset with all its versions."""
        await self._link.send(Call("DELETE", paths.project(project, "datasets", name)))

    async def create_import(
        self, project: str, name: str, wanted: datasets.ImportCreate
    ) -> datasets.ImportView:
        """Turn a complete upload into the next version, in the background."""
        path = paths.project(project, "datasets", name, "imports")
        call = Call("POST", path, json=wanted.model_dump(), repeat="keyed")
        return await self._link.model(call, datasets.ImportView)

    async def get_import(self, project: str, name: str, import_id: str) -> datasets.ImportView:
        """Return progress and result of an import."""
        call = Call("GET", paths.project(project, "datasets", name, "imports", import_id))
        return await self._link.model(call, datasets.ImportView)

    def versions(self, project: str, name: str) -> AsyncIterator[datasets.VersionView]:
        """Yield the versions, oldest first."""
        call = Call("GET", paths.project(project, "datasets", name, "versions"))
        return self._link.pages(call, datasets.VersionView)

    async def version(self, project: str, name: str, version: int = 0) -> datasets.VersionView:
        """Return one version."""
        call = Call("GET", _version(project, name, version))
        return await self._link.model(call, datasets.VersionView)

    async def create_version(
        self,
        project: str,
        name: str,
        wanted: datasets.VersionCreate,
        rows: Iterable[datasets.LabelRow],
    ) -> datasets.VersionView:
        """Make a version from labels; idempotent by the key in ``wanted``."""
        lines = [wanted.model_dump_json(), *(row.model_dump_json() for row in rows)]
        call = Call(
            "POST",
            paths.project(project, "datasets", name, "versions"),
            content=("\n".join(lines) + "\n").encode(),
            headers={"Content-Type": NDJSON},
        )
        return await self._link.model(call, datasets.VersionView)

    async def create_split(
        self, project: str, name: str, version: int, wanted: datasets.SplitCreate
    ) -> datasets.SplitView:
        """Split a version into named parts."""
        path = f"{_version(project, name, version)}/splits"
        call = Call("POST", path, json=wanted.model_dump(), repeat="keyed")
        return await self._link.model(call, datasets.SplitView)

    def splits(self, project: str, name: str, version: int) -> AsyncIterator[datasets.SplitView]:
        """Yield the splits of a version by name."""
        call = Call("GET", f"{_version(project, name, version)}/splits")
        return self._link.pages(call, datasets.SplitView)

    def items(
        self, project: str, name: str, version: int = 0, filters: Mapping[str, str] | None = None
    ) -> AsyncIterator[datasets.ItemView]:
        """Yield items by id; ``filters``: label, source (``none`` = unlabelled), split, part."""
        path = f"{_version(project, name, version)}/items"
        call = Call("GET", path, params=dict(filters or {}))
        return self._link.pages(call, datasets.ItemView)

    def all_items(
        self, project: str, name: str, version: int = 0
    ) -> AsyncIterator[datasets.ItemView]:
        """Yield all items in order of id, in one stream."""
        call = Call("GET", f"{_version(project, name, version)}/items.ndjson")
        return self._link.lines(call, datasets.ItemView)

    async def image(self, project: str, name: str, version: int, item_id: str) -> bytes:
        """Return the stored bytes of an image."""
        path = f"{_version(project, name, version)}{paths.join('items', item_id, 'image')}"
        return (await self._link.send(Call("GET", path))).content

    async def labels_csv(self, project: str, name: str, version: int = 0) -> bytes:
        """Return the labels of all items with their provenance as CSV."""
        path = f"{_version(project, name, version)}/labels.csv"
        return (await self._link.send(Call("GET", path))).content

    async def why(self, project: str, name: str, version: int, item_id: str) -> datasets.WhyView:
        """Return where an item and its label came from."""
        path = f"{_version(project, name, version)}{paths.join('why', item_id)}"
        return await self._link.model(Call("GET", path), datasets.WhyView)


def _version(project: str, name: str, version: int) -> str:
    return paths.project(project, "datasets", name, "versions", version)
