"""Datasets for notebooks: ``Dataset``, its immutable versions, their splits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quintile.core import errors
from quintile.sdk import blocking, submission

if TYPE_CHECKING:
    from quintile.core import datasets
    from quintile.sdk import async_session, importing
    from quintile.sdk.importing import LabelsFrom

SourcePath = str | Path


@dataclass(frozen=True)
class SplitRef:
    """One split of one version, for ``Experiment.run(dataset_version_split=...)``."""

    dataset: str
    version: int
    split: str = ""
    train: str = "train"
    evaluate: str = "test"

    def __str__(self) -> str:
        return f"{self.dataset}:{self.version}" + (f"/{self.split}" if self.split else "")

    def document(self) -> dict[str, Any]:
        """Return the JSON of ``spec.dataset``."""
        names = {"name": self.dataset, "version": self.version}
        if not self.split:
            return names
        return {**names, "split": self.split, "train": self.train, "evaluate": self.evaluate}


class DatasetVersion:
    """One immutable version of a dataset.

    Attributes:
        view: What the server says about it.
        report: How it was imported, with the files that were left out; None when it was read.
    """

    def __init__(
        self,
        session: blocking.Session,
        view: datasets.VersionView,
        report: datasets.ImportView | None = None,
    ) -> None:
        self._session = session
        self.view = view
        self.report = report

    def __repr__(self) -> str:
        view = self.view
        return (
            f"<DatasetVersion {view.dataset}:{view.version}, {view.items:,} items, "
            f"{view.labelled:,} labelled, {len(view.classes)} classes>"
        )

    @property
    def name(self) -> str:
        """Return the name of the dataset."""
        return self.view.dataset

    @property
    def version(self) -> int:
        """Return the number."""
        return self.view.version

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the class names in order of id."""
        return tuple(one.name for one in self.view.classes)

    def ref(self, split: str = "", *, train: str = "train", evaluate: str = "test") -> SplitRef:
        """Return the reference to this version and one of its splits."""
        return SplitRef(self.name, self.version, split, train, evaluate)

    def items(self, **filters: str) -> Iterator[datasets.ItemView]:
        """Yield items by id; filters: label, source (``none`` = unlabelled), split, part."""
        calls, project = self._session.client.datasets, self._session.project
        return self._session.iterate(calls.items(project, self.name, self.version, filters))

    def split(
        self,
        name: str,
        parts: Mapping[str, float | int | str],
        *,
        seed: int = 0,
        truth: str | SourcePath = "",
        keep_truth: Sequence[str] = (),
    ) -> SplitRef:
        """Split the version and return the reference to the split.

        Args:
            name: Of the split.
            parts: Size by part: a count, a fraction below 1, or a percentage as "20%".
            seed: Of the draw.
            truth: CSV file (or text) ``name,label`` with true labels, to stratify and evaluate by.
            keep_truth: The parts for which true labels are kept.
        """
        from quintile.core import datasets
        from quintile.sdk import checking

        body = {
            "name": name,
            "seed": seed,
            "parts": {part: str(size) for part, size in parts.items()},
            "truth": truth_text(truth),
            "keep_truth": list(keep_truth),
        }
        wanted = checking.parse(datasets.SplitCreate, body, what="The split")
        calls, project = self._session.client.datasets, self._session.project
        self._session.run(calls.create_split(project, self.name, self.version, wanted))
        return self.ref(name)

    def splits(self) -> list[datasets.SplitView]:
        """Return the splits by name."""
        calls, project = self._session.client.datasets, self._session.project
        return self._session.collect(calls.splits(project, self.name, self.version))

    def labels_csv(self) -> str:
        """Return the labels of all items with their provenance as CSV."""
        calls, project = self._session.client.datasets, self._session.project
        return self._session.run(calls.labels_csv(project, self.name, self.version)).decode()


class Dataset:
    """A named dataset."""

    def __init__(self, session: blocking.Session, name: str) -> None:
        self._session = session
        self.name = name

    def __repr__(self) -> str:
        return f"<Dataset {self.name}>"

    @classmethod
    def create(cls, name: str, description: str = "") -> Dataset:
        """Make an empty dataset; one that exists is taken as it is."""
        from quintile.sdk import importing

        session = blocking.current()
        session.run(
            importing.ensure_dataset(session.client, session.project, name, description=description)
        )
        return cls(session, name)

    @classmethod
    def get(cls, name: str) -> Dataset:
        """Return a dataset that exists."""
        session = blocking.current()
        session.run(session.client.datasets.get(session.project, name))
        return cls(session, name)

    @classmethod
    def list(cls) -> Sequence[Dataset]:
        """Return all datasets of the project by name."""
        session = blocking.current()
        found = session.collect(session.client.datasets.list(session.project))
        return [cls(session, one.name) for one in found]

    def import_folder(
        self, folder: SourcePath, *, labels: LabelsFrom = "none", classes: Sequence[str] = ()
    ) -> DatasetVersion:
        """Import the images below a folder; ``labels="folders"`` takes folder names as classes."""
        return self._import(folder, labels=labels, classes=classes)

    def import_zip(
        self, path: SourcePath, *, labels: LabelsFrom = "none", classes: Sequence[str] = ()
    ) -> DatasetVersion:
        """Import the images of a zip file."""
        return self._import(path, labels=labels, classes=classes)

    def import_csv(
        self, path: SourcePath, *, images: SourcePath | None = None, classes: Sequence[str] = ()
    ) -> DatasetVersion:
        """Import the images that a table ``file[,label]`` names.

        Args:
            path: The table.
            images: Folder or zip of the images; None = the folder of the table.
            classes: All class names in order; empty = those that occur.
        """
        from quintile.sdk import importing

        place = Path(images) if images is not None else None
        return self._run(importing.plan(Path(path), classes=tuple(classes), images=place))

    def import_numpy(
        self, source: SourcePath | Mapping[str, Any], *, classes: Sequence[str] = ()
    ) -> DatasetVersion:
        """Import an .npz or .npy file, or arrays: images, maybe labels and names."""
        from quintile.sdk import importing, sources

        if isinstance(source, Mapping):
            held = sources.arrays(source)
            return self._run(importing.Plan(held, "numpy", classes=tuple(classes)))
        return self._import(source, labels="auto", classes=classes)

    def version(self, number: int = 0) -> DatasetVersion:
        """Return a version; 0 = the newest."""
        calls, project = self._session.client.datasets, self._session.project
        view = self._session.run(calls.version(project, self.name, number))
        return DatasetVersion(self._session, view)

    def versions(self) -> Sequence[DatasetVersion]:
        """Return all versions, oldest first."""
        calls, project = self._session.client.datasets, self._session.project
        found = self._session.collect(calls.versions(project, self.name))
        return [DatasetVersion(self._session, view) for view in found]

    def delete(self) -> None:
        """Delete the dataset with all its versions."""
        self._session.run(self._session.client.datasets.delete(self._session.project, self.name))

    def _import(
        self, path: SourcePath, *, labels: LabelsFrom, classes: Sequence[str]
    ) -> DatasetVersion:
        from quintile.sdk import importing

        return self._run(importing.plan(Path(path), labels_from=labels, classes=tuple(classes)))

    def _run(self, wanted: importing.Plan) -> DatasetVersion:
        from quintile.sdk import importing, progress

        session = self._session
        with progress.Progress(f"import into {self.name}") as shown:
            report = session.run(
                importing.run(
                    session.client,
                    session.project,
                    self.name,
                    wanted,
                    on_progress=lambda step, done, total: shown.update(done, total, step),
                )
            )
            for one in report.rejected[:10]:
                shown.say(f"left out: {one.name}: {one.message}")
            if report.rejected_total > 10:
                shown.say(f"left out: {report.rejected_total - 10} more, see .report")
        assert report.version is not None
        view = session.run(
            session.client.datasets.version(session.project, self.name, report.version)
        )
        return DatasetVersion(session, view, report)


def reference(
    session: blocking.Session, given: str | SplitRef | DatasetVersion | Dataset | None
) -> dict[str, Any] | None:
    """Return the JSON of ``spec.dataset``; see ``resolve``."""
    return session.run(resolve(session.aio, given))


async def resolve(
    session: async_session.AsyncSession, given: str | SplitRef | DatasetVersion | Dataset | None
) -> dict[str, Any] | None:
    """Return the JSON of ``spec.dataset`` for whatever names a dataset version.

    Raises:
        NotFound: There is no such dataset or version.
        InvalidSpec: It names none.
    """
    if given is None:
        return None
    if isinstance(given, SplitRef):
        return given.document()
    if isinstance(given, DatasetVersion):
        return given.ref().document()
    if isinstance(given, Dataset):
        given = given.name
    if not isinstance(given, str):
        raise errors.InvalidSpec(
            f"dataset_version_split is a {type(given).__name__}; expected text as digits:2/holdout "
            "or what Dataset gives.",
            field="dataset_version_split",
        )
    found = submission.parse_reference(given)
    calls = session.client.datasets
    view = await calls.version(session.project, found.name, found.version)
    return SplitRef(found.name, view.version, found.split).document()


def truth_text(given: str | SourcePath) -> str:
    """Return the CSV text of true labels, read from a file unless it is the text itself."""
    if isinstance(given, str) and (not given or "\n" in given):
        return given
    try:
        return Path(given).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise errors.InvalidSpec(
            f"The table of true labels {str(given)!r} cannot be read: "
            f"{getattr(error, 'strerror', None) or error}.",
            hint="Give a CSV file with the columns name,label.",
            field="truth",
        ) from error
