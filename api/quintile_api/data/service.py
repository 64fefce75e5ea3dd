"""The parts behind the data routes, made once per application."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Annotated, Final

import fastapi

from quintile import ports
from quintile.adapters import sql
from quintile_api.data import catalogue, decoders, imports, jobs, uploads, worker

DECODERS: Final = min(4, os.cpu_count() or 1)
THUMBNAIL_DECODERS: Final = 2


@dataclass(frozen=True)
class DataParts:
    """Shared by all requests; ``start`` and ``stop`` are idempotent."""

    uploads: uploads.UploadStore
    catalogue: catalogue.Catalogue
    thumbnails: decoders.DecoderPool
    importer: imports.Importer
    worker: worker.Worker

    def start(self) -> None:
        """Begin to work on jobs."""
        self.worker.start()

    def stop(self) -> None:
        """Give running jobs back and end all decoders."""
        self.worker.stop()
        self.importer.close()
        self.thumbnails.close()


def make_parts(database: sql.Database, objects: ports.ObjectStore, clock: ports.Clock) -> DataParts:
    """Put the parts together; nothing runs before ``start``."""
    queue = jobs.JobQueue(database, clock)
    store = uploads.UploadStore(database, objects, clock)
    importer = imports.Importer(
        database=database,
        objects=objects,
        clock=clock,
        queue=queue,
        decoder_count=DECODERS,
    )
    return DataParts(
        uploads=store,
        catalogue=catalogue.Catalogue(objects),
        thumbnails=decoders.DecoderPool(THUMBNAIL_DECODERS),
        importer=importer,
        worker=worker.Worker(
            queue=queue, importer=importer, objects=objects, uploads=store, clock=clock
        ),
    )


def current(request: fastapi.Request) -> DataParts:
    """Return the parts of the application that serves this request."""
    found = request.app.state.data
    assert isinstance(found, DataParts)
    return found


Parts = Annotated[DataParts, fastapi.Depends(current)]
