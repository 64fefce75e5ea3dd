"""What the scripted annotator answers, and how it goes on when things break."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from quintile.core import errors, labeling_job, meta, tasks
from quintile.sdk import simulate

CLASSES = ("cat", "dog", "eel")
TRUTH = {f"{number:03d}.png": CLASSES[number % 3] for number in range(300)}


def task(number: int, *, slot: int = 0) -> tasks.Task:
    return tasks.Task(
        slot_id=f"slot-{number}-{slot}",
        lease=f"lease-{number}-{slot}",
        expires="",
        item_id=f"item-{number:03d}",
        name=f"{number:03d}.png",
        image_url="",
        width=8,
        height=8,
        purpose="random",
        round=1,
        why="",
        base_revision=0,
    )


def annotator(**changes: object) -> simulate.Annotator:
    return simulate.Annotator(truth=TRUTH, **changes)  # type: ignore[arg-type]


class TestAnswers:
    def test_without_noise_the_truth(self) -> None:
        found = [simulate.decide(annotator(), task(number), CLASSES) for number in range(300)]
        assert found == [(CLASSES[number % 3], False) for number in range(300)]

    def test_noise_is_about_its_share_and_always_another_class(self) -> None:
        noisy = annotator(noise=0.1)
        found = [simulate.decide(noisy, task(number), CLASSES) for number in range(300)]
        wrong = [number for number, (_label, on_purpose) in enumerate(found) if on_purpose]
        assert 15 <= len(wrong) <= 45
        assert all(found[number][0] != CLASSES[number % 3] for number in wrong)
        assert {found[number][0] for number in wrong} == set(CLASSES)

    def test_the_same_again_and_another_annotator_errs_elsewhere(self) -> None:
        def errs(**changes: object) -> list[int]:
            who = annotator(noise=0.1, **changes)
            return [n for n in range(300) if simulate.decide(who, task(n), CLASSES)[1]]

        assert errs() == errs()
        assert errs() != errs(name="bob")
        assert errs() != errs(seed=1)

    def test_truth_by_item_id(self) -> None:
        known = simulate.Annotator(truth={"item-007": "eel"})
        assert simulate.decide(known, task(7), CLASSES) == ("eel", False)

    def test_no_truth_for_an_item(self) -> None:
        with pytest.raises(errors.InvalidSpec, match=r"no row for item '999\.png'"):
            simulate.decide(annotator(), task(999), CLASSES)

    def test_a_class_that_the_job_does_not_have(self) -> None:
        known = simulate.Annotator(truth={"000.png": "fox"})
        made, _wrong = simulate.answer(known, task(0), CLASSES, seconds=0.5)
        assert (made.payload.verdict, made.payload.labels) == ("other", [])

    def test_ids_are_equal_for_item_annotator_and_slot(self) -> None:
        def key(who: simulate.Annotator, one: tasks.Task) -> str:
            return simulate.answer(who, one, CLASSES, seconds=0.0)[0].client_id

        assert key(annotator(), task(1)) == key(annotator(seed=9), task(1))
        assert key(annotator(), task(1)) != key(annotator(name="bob"), task(1))
        assert key(annotator(), task(1)) != key(annotator(), task(1, slot=1))

    @pytest.mark.parametrize("changes", [{"noise": 1.5}, {"noise": -0.1}, {"seconds": 3600.0}])
    def test_numbers_that_make_no_sense(self, changes: dict[str, float]) -> None:
        with pytest.raises(errors.InvalidSpec, match="expected"):
            annotator(**changes)


class TestTruthFiles:
    def test_by_name(self, tmp_path: Path) -> None:
        path = tmp_path / "truth.csv"
        path.write_text("name, label ,extra\na.png,cat,1\nb.png,,\n", encoding="utf-8-sig")
        assert simulate.read_truth(path) == {"a.png": "cat"}

    def test_by_item_id(self, tmp_path: Path) -> None:
        path = tmp_path / "truth.csv"
        path.write_text("item_id,name,label\n01,a.png,cat\n")
        assert simulate.read_truth(path) == {"01": "cat"}

    @pytest.mark.parametrize("text", ["", "file,label\na,b\n", "name\na\n"])
    def test_columns_that_are_missing(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "truth.csv"
        path.write_text(text)
        with pytest.raises(errors.InvalidSpec, match="expected name"):
            simulate.read_truth(path)

    def test_no_such_file(self, tmp_path: Path) -> None:
        with pytest.raises(errors.InvalidSpec, match="cannot be read"):
            simulate.read_truth(tmp_path / "missing.csv")


class Desk:
    """A labeling service in memory: one slot an item, leases, answers by client id.

    ``failures`` are raised by the next calls; with ``late`` an answer is stored before its call
    fails, as when the connection breaks on the way back.
    """

    def __init__(self, n_items: int) -> None:
        self.open = list(range(n_items))
        self.leased: dict[str, int] = {}
        self.answers: dict[str, tasks.Answer] = {}
        self.failures: list[errors.QuintileError] = []
        self.late: list[errors.QuintileError] = []
        self.phase = "Labeling"
        self.conditions: list[meta.Condition] = []
        self.labeling = self

    async def get(self, _project: str, name: str) -> labeling_job.LabelingJob:
        return labeling_job.LabelingJob(
            metadata=meta.ObjectMeta(name=name),
            spec=labeling_job.LabelingJobSpec(
                dataset=labeling_job.Source(name="pets", version=1), labels=list(CLASSES)
            ),
            status=labeling_job.LabelingJobStatus(
                phase=self.phase,  # type: ignore[arg-type]
                conditions=self.conditions,
                message="experiment pets-r1 failed: no memory. Labels are safe.",
            ),
        )

    async def next_tasks(
        self, _project: str, _name: str, wanted: tasks.NextRequest, *, wait_s: float
    ) -> tasks.TaskBatch:
        assert wait_s > 0
        self._fail(self.failures)
        chosen, self.open = self.open[: wanted.count], self.open[wanted.count :]
        found = [task(number) for number in chosen]
        self.leased |= {one.lease: number for one, number in zip(found, chosen, strict=True)}
        if found:
            return tasks.TaskBatch(tasks=found, ready=len(self.open), state="labeling")
        word = "OthersWork" if self.leased else "Finished"
        return tasks.TaskBatch(tasks=[], ready=0, state="labeling", waiting=word)

    async def annotate(
        self, _project: str, _name: str, answers: Sequence[tasks.Answer]
    ) -> Sequence[tasks.AnswerResult]:
        self._fail(self.failures)
        results = []
        for one in answers:
            outcome = "repeated" if one.client_id in self.answers else "accepted"
            self.answers.setdefault(one.client_id, one)
            self.leased.pop(one.lease, None)
            results.append(tasks.AnswerResult(client_id=one.client_id, outcome=outcome))  # type: ignore[arg-type]
        self._fail(self.late)
        return results

    async def renew(
        self, _project: str, _name: str, wanted: tasks.LeaseRenewal
    ) -> tasks.LeaseAnswer:
        for lease in wanted.release:
            self.open.append(self.leased.pop(lease))
        return tasks.LeaseAnswer(extended=[], expires="")

    @staticmethod
    def _fail(planned: list[errors.QuintileError]) -> None:
        if planned:
            raise planned.pop(0)


def run(desk: Desk, who: simulate.Annotator, **of: object) -> simulate.Tally:
    return asyncio.run(simulate.run(desk, "default", "pets", who, **of))  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulate, "PAUSE_S", 0.001)


def away() -> errors.Unavailable:
    return errors.Unavailable("The server restarts.", retry_after_s=0.0)


class TestLoop:
    def test_answers_everything_once(self) -> None:
        desk, told = Desk(60), []
        tally = run(desk, annotator(), on_progress=told.append)
        assert tally.answered == len(desk.answers) == 60
        assert tally.outcomes == {"accepted": 60}
        assert told[-1].waiting == "Finished"

    def test_two_share_one_job(self) -> None:
        desk = Desk(60)

        async def both() -> list[simulate.Tally]:
            return await asyncio.gather(
                *(
                    simulate.run(desk, "default", "pets", annotator(name=name))  # type: ignore[arg-type]
                    for name in ("ann", "bob")
                )
            )

        tallies = asyncio.run(both())
        assert sum(one.answered for one in tallies) == len(desk.answers) == 60

    def test_goes_on_after_restarts_and_sends_answers_again(self) -> None:
        desk = Desk(60)
        desk.failures = [away(), away()]
        desk.late = [away()]
        tally = run(desk, annotator())
        assert tally.answered == len(desk.answers) == 60
        assert tally.outcomes == {"repeated": 25, "accepted": 35}

    def test_patience_ends(self) -> None:
        desk = Desk(60)
        desk.failures = [away() for _ in range(5)]
        with pytest.raises(errors.Unavailable):
            run(desk, annotator(patience_s=0.0))

    def test_what_is_leased_is_given_back(self) -> None:
        desk = Desk(60)
        with pytest.raises(errors.InvalidSpec, match="no row"):
            run(desk, simulate.Annotator(truth={"000.png": "cat"}))
        assert desk.leased == {}
        assert len(desk.open) == 60

    def test_a_job_that_failed(self) -> None:
        desk = Desk(0)
        desk.leased, desk.phase = {"of somebody else": 0}, "Failed"
        with pytest.raises(errors.RunFailed):
            run(desk, annotator())

    def test_a_round_that_failed_ends_the_waiting(self) -> None:
        desk = Desk(0)
        desk.leased = {"of somebody else": 0}
        desk.conditions = [meta.Condition(type="RoundFailed", status="True")]
        with pytest.raises(errors.RunFailed, match="pets cannot go on .*experiment pets-r1 failed"):
            run(desk, annotator())

    def test_slow_answers_go_one_by_one(self) -> None:
        desk, told = Desk(3), []
        run(desk, annotator(seconds=0.002), on_progress=told.append)
        assert {one.answered for one in told} == {0, 1, 2, 3}
        assert all(one.seconds >= 0.002 for one in desk.answers.values())
