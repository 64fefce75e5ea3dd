"""Images per second and core: our reader beside WebDataset, MosaicML Streaming and torch + Pillow.

    python bench/training/loader.py [--quick] [--out FILE]

Every side reads the same JPEG files of 200 x 128 pixels (crops of the photographs that ship with
scikit-learn) in its own storage form, decodes them and yields batches [64, 128, 200, 3] of bytes,
in processes of their own that take turns. Time is processor time of all threads: "per core" holds
on a shared machine too. Peers come from the environment that ``make bench-peers`` makes.
"""

from __future__ import annotations

import argparse
import io
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import pairs

IMAGES, BATCH, QUALITY = 1024, 64, 90
HEIGHT, WIDTH = 128, 200
BARS = {"webdataset": 3.0, "streaming": 2.5, "torch": 1.8}
NAMES = {
    "webdataset": "WebDataset",
    "streaming": "MosaicML Streaming",
    "torch": "torch DataLoader + Pillow",
}
PEERS = pathlib.Path(__file__).parents[2] / ".venv-peers" / "bin" / "python"
Epoch = Callable[[], Iterable[Any]]


def main() -> None:
    """Measure, print, and store the rows as JSON with ``--out``."""
    parser = argparse.ArgumentParser(prog="bench/training/loader.py", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer blocks")
    parser.add_argument("--out", type=pathlib.Path, help="where to write the rows as JSON")
    parser.add_argument("--side", choices=["ours", *BARS], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=pathlib.Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.side:
        print(json.dumps(SIDES[asked.side](asked.folder)))
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(pathlib.Path(folder), blocks=3 if asked.quick else 7)
    for row in rows:
        print(
            f"{row.name:44} {row.ours:7.0f} {row.peer:7.0f} {row.unit}  {row.ratio:5.2f} "
            f"({row.low:.2f} to {row.high:.2f}), bar {row.bar}: {'met' if row.met else 'MISSED'}"
        )
    if asked.out:
        asked.out.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


def measure(folder: pathlib.Path, *, blocks: int) -> list[pairs.Row]:
    """Return one row per peer that is there."""
    write_photographs(folder / "files")
    write_ours(folder)
    peers = [name for name in BARS if name == "torch" or PEERS.exists()]
    if not PEERS.exists():
        print("WebDataset and Streaming are left out: run `make bench-peers` first.")
    rates: dict[str, list[float]] = {name: [] for name in ("ours", *peers)}
    for block in range(blocks):
        order = ["ours", *peers] if block % 2 else [*peers, "ours"]
        for name in order:
            rates[name].append(rate(name, folder))
    return [
        pairs.row(
            f"loader / {NAMES[name]}",
            rates["ours"],
            rates[name],
            unit="images/s/core",
            bar=BARS[name],
            better="more",
        )
        for name in peers
    ]


def rate(name: str, folder: pathlib.Path) -> float:
    """Return images per second of processor time of one side, in a fresh process."""
    python = sys.executable if name == "ours" else str(PEERS if PEERS.exists() else sys.executable)
    command = [python, __file__, "--side", name, "--folder", str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.splitlines()[-1])


def write_photographs(folder: pathlib.Path) -> None:
    """Write JPEG crops of real photographs."""
    from PIL import Image
    from sklearn import datasets

    folder.mkdir()
    chance = random.Random(0)
    photographs = datasets.load_sample_images().images
    for place in range(IMAGES):
        image = photographs[place % len(photographs)]
        top = chance.randrange(image.shape[0] - HEIGHT)
        left = chance.randrange(image.shape[1] - WIDTH)
        crop = Image.fromarray(image[top : top + HEIGHT, left : left + WIDTH])
        crop.save(folder / f"{place:04d}.jpg", quality=QUALITY)


def write_ours(folder: pathlib.Path) -> None:
    """Store the files as a dataset version in a directory."""
    from quintile.adapters import dataset_tables, shards
    from quintile.testing import objects

    def images() -> Iterator[tuple[str, bytes, int, int, str]]:
        for path in sorted((folder / "files").iterdir()):
            yield path.name, path.read_bytes(), WIDTH, HEIGHT, "JPEG"

    labels = {
        f"{n:04d}.jpg": dataset_tables.Label("", n % 2, str(n % 2), "human") for n in range(IMAGES)
    }
    store = objects.FakeObjectStore()
    written = shards.write_version(store, "photographs/1", images(), labels=labels)
    names = {
        "manifest": written.manifest_key,
        "labels": written.labels_key,
        "shards": [shard.key for shard in written.shards],
    }
    for number, key in enumerate([names["manifest"], *names["shards"]]):
        (folder / f"stored-{number}").write_bytes(store.get(str(key)))


def timed(epoch: Epoch) -> float:
    """Return images per second of processor time; the first epoch warms up."""
    for _ in range(2):
        begun, count = time.process_time(), 0
        for batch in epoch():
            assert batch.shape[1:] == (HEIGHT, WIDTH, 3) and batch.dtype == np.uint8
            count += len(batch)
    return count / (time.process_time() - begun)


def ours(folder: pathlib.Path) -> float:
    """Our own reader: one shard, decoded by a thread, nothing kept decoded."""
    from quintile.adapters import dataset_tables
    from quintile_trainer.data import dataset, images

    manifest = dataset_tables.read_manifest((folder / "stored-0").read_bytes())
    part = dataset.Part(np.arange(IMAGES), np.zeros(IMAGES, np.int64))
    shards = {
        number: folder / f"stored-{number + 1}" for number in np.unique(manifest.shards).tolist()
    }
    opened = dataset.Dataset("photographs", 1, "", ("0", "1"), manifest, part, part, shards)
    source = images.ImageSource(opened, part, images.Shape(HEIGHT, WIDTH, 3), images.Means(1, 0))
    starts = range(0, IMAGES, BATCH)

    def epoch() -> Iterator[Any]:
        for start in starts:
            taken = source.batch(np.arange(start, start + BATCH))
            if start + BATCH < IMAGES:
                source.expect(np.arange(start + BATCH, start + 2 * BATCH))
            yield taken

    return timed(epoch)


def torch_and_pillow(folder: pathlib.Path) -> float:
    """DataLoader of torch over files, decoded by Pillow."""
    from PIL import Image
    from torch.utils import data

    paths = sorted((folder / "files").iterdir())

    class Files(data.Dataset[Any]):
        def __len__(self) -> int:
            return len(paths)

        def __getitem__(self, index: int) -> Any:
            with Image.open(paths[index]) as image:
                return np.asarray(image.convert("RGB"))

    loader = data.DataLoader(Files(), batch_size=BATCH, collate_fn=np.stack)
    return timed(lambda: loader)


def webdataset(folder: pathlib.Path) -> float:
    """WebDataset over one tar, as its documentation shows for PIL images."""
    import tarfile

    import webdataset as wds

    path = folder / "web.tar"
    if not path.exists():
        with tarfile.open(path, "w") as file:
            for one in sorted((folder / "files").iterdir()):
                file.add(one, one.name)
    made = wds.WebDataset(str(path), shardshuffle=False).decode("pil").to_tuple("jpg")
    made = made.map(lambda pair: np.asarray(pair[0])).batched(BATCH, collation_fn=np.stack)
    return timed(lambda: made)


def streaming(folder: pathlib.Path) -> float:
    """MosaicML Streaming over MDS shards of JPEG columns, batched by torch's DataLoader."""
    import streaming as mosaic
    from PIL import Image
    from torch.utils import data

    place = folder / "mds"
    if not place.exists():
        with mosaic.MDSWriter(out=str(place), columns={"x": "jpeg"}) as out:
            for one in sorted((folder / "files").iterdir()):
                out.write({"x": Image.open(io.BytesIO(one.read_bytes()))})
    mosaic.base.util.clean_stale_shared_memory()
    made = mosaic.StreamingDataset(local=str(place), shuffle=False, batch_size=BATCH)
    loader = data.DataLoader(
        made,
        batch_size=BATCH,
        collate_fn=lambda found: np.stack([np.asarray(one["x"]) for one in found]),
    )
    return timed(lambda: loader)


SIDES: dict[str, Callable[[pathlib.Path], float]] = {
    "ours": ours,
    "torch": torch_and_pillow,
    "webdataset": webdataset,
    "streaming": streaming,
}

if __name__ == "__main__":
    main()
