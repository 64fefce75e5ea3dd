"""What every ResourceStore does, as tests: the fake, the SQL store, the custom resources.

A subclass of ``Contract`` gives the fixture ``store``. What is owned may go a little later than
its owner, so those tests wait.
"""

# ruff: noqa: D102 the name of a test says what it holds

from __future__ import annotations

import concurrent.futures
import re
import threading
import time

import pytest

from quintile import ports
from quintile.core import errors, meta
from quintile.testing import waiting
from quintile.testing.resource_documents import KEY, KINDS, SPEC, add, document, job, seen, trial


class Contract:
    """What every ResourceStore does; a subclass gives the fixture ``store``."""

    def test_a_new_resource_gets_its_identity_and_defaults(
        self, store: ports.ResourceStore
    ) -> None:
        made = add(store)
        assert made["metadata"]["uid"]
        assert made["metadata"]["generation"] == 1
        assert re.fullmatch(
            r"\d{4}(-\d\d){2}T(\d\d:){2}\d\dZ", made["metadata"]["creationTimestamp"]
        )
        assert made["spec"]["run"]["workers"] == {"replicas": 1}
        assert store.get(KEY) == made

    def test_the_status_of_an_applied_document_is_ignored(self, store: ports.ResourceStore) -> None:
        made = add(store, {**document(), "status": {"phase": "Succeeded"}})
        assert "status" not in made

    def test_what_the_caller_says_of_the_stores_fields_is_ignored(
        self, store: ports.ResourceStore
    ) -> None:
        made = add(store, document(metadata={"uid": "mine", "generation": 7}))
        assert made["metadata"]["uid"] != "mine"
        assert made["metadata"]["generation"] == 1

    def test_an_equal_apply_changes_nothing(self, store: ports.ResourceStore) -> None:
        made = add(store)
        assert add(store) == made
        assert seen(store, made["metadata"]["resourceVersion"]) == []

    def test_only_a_new_spec_is_a_new_generation(self, store: ports.ResourceStore) -> None:
        made = add(store)
        labelled = add(store, document(metadata={"labels": {"team": "a"}}))
        assert labelled["metadata"]["labels"] == {"team": "a"}
        assert labelled["metadata"]["generation"] == 1
        assert labelled["metadata"]["resourceVersion"] != made["metadata"]["resourceVersion"]
        changed = add(store, document(suspend=True))
        assert changed["metadata"]["generation"] == 2
        assert changed["metadata"]["uid"] == made["metadata"]["uid"]
        assert changed["metadata"]["labels"] == {}

    def test_an_old_version_conflicts(self, store: ports.ResourceStore) -> None:
        made = add(store)
        add(store, document(suspend=True))
        with pytest.raises(errors.Conflict):
            add(store, made)
        assert store.get(KEY)["spec"]["suspend"] is True

    def test_create_only_refuses_a_known_name(self, store: ports.ResourceStore) -> None:
        store.apply(document(), manager="test", create_only=True)
        with pytest.raises(errors.Conflict, match="digits exists already"):
            store.apply(document(), manager="test", create_only=True)

    def test_equal_names_in_two_namespaces_are_two_resources(
        self, store: ports.ResourceStore
    ) -> None:
        add(store, document(namespace="b"))
        add(store, document(namespace="a"))
        add(store, document("cats", namespace="b"))
        assert [meta.key_of(item)[1:] for item in store.list("Experiment").items] == [
            ("a", "digits"),
            ("b", "cats"),
            ("b", "digits"),
        ]
        assert len(store.list("Experiment", namespace="b").items) == 2
        assert store.list("Trial").items == ()

    @pytest.mark.parametrize(
        ("wanted", "field"),
        [
            ({"kind": "Pod", "metadata": {"name": "a"}, "spec": {}}, "kind"),
            ({"metadata": {"name": "a"}, "spec": SPEC}, "kind"),
            ({"kind": ["Trial"], "metadata": {"name": "a"}, "spec": SPEC}, "kind"),
            (document("Digits"), "metadata.name"),
            (document(run={"workers": {"replicas": 0}}), "spec.run.workers.replicas"),
            (document(workers=3), "spec.workers"),
            ({"kind": "Experiment", "metadata": {"name": "a"}}, "spec"),
            (document(estimator={}), "spec.estimator"),
            (job(labels=["a"]), "spec.labels"),
            (job(target={"error": "0.7"}), "spec.target"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_a_document_that_does_not_fit_names_its_field(
        self, store: ports.ResourceStore, wanted: meta.Document, field: str
    ) -> None:
        with pytest.raises(errors.InvalidSpec) as caught:
            add(store, wanted)
        assert caught.value.field == field
        assert store.list("Experiment").items == ()

    @pytest.mark.parametrize(
        ("before", "after", "field"),
        [
            (document(), document(seed=1), "spec.seed"),
            (document(), document(run={"workers": {"replicas": 2}}), "spec.run.workers.replicas"),
            (
                document(hparams=[{"name": "lr", "value": "0.1"}]),
                document(hparams=[{"name": "lr", "value": "0.2"}]),
                "spec.hparams",
            ),
            (job(), job(dataset={"name": "digits", "version": 2}), "spec.dataset.version"),
            (job(), job(labels=["1", "0"]), "spec.labels"),
            (job(), job(labels=["0", "x", "1"]), "spec.labels"),
            (job(), job(seed=4), "spec.seed"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_an_immutable_field_is_refused_by_name(
        self,
        store: ports.ResourceStore,
        before: meta.Document,
        after: meta.Document,
        field: str,
    ) -> None:
        made = add(store, before)
        with pytest.raises(errors.InvalidSpec) as caught:
            add(store, after)
        assert caught.value.field == field
        assert store.get(meta.key_of(made)) == made

    def test_suspend_labels_at_the_end_and_budget_of_a_job_may_change(
        self, store: ports.ResourceStore
    ) -> None:
        add(store, job())
        after = add(
            store, job(suspend=True, labels=["0", "1", "2"], budget={"maxHumanLabels": "30%"})
        )
        assert after["metadata"]["generation"] == 2
        assert after["spec"]["labels"] == ["0", "1", "2"]

    def test_suspend_of_a_trials_template_may_change(self, store: ports.ResourceStore) -> None:
        parent = add(store)
        add(store, trial(parent))
        after = add(store, trial(parent, suspend=True))
        assert after["spec"]["template"]["suspend"] is True
        with pytest.raises(errors.InvalidSpec) as caught:
            add(store, {**trial(parent), "spec": {**after["spec"], "number": 3}})
        assert caught.value.field == "spec.number"

    def test_the_size_of_an_elastic_run_may_change_within_its_bounds(
        self, store: ports.ResourceStore
    ) -> None:
        def sized(replicas: int, **bounds: int) -> meta.Document:
            wanted = document()
            workers = {"replicas": replicas, **bounds}
            return {**wanted, "spec": {**wanted["spec"], "run": {"workers": workers}}}

        add(store, sized(2, min=1, max=4))
        for replicas in (4, 1, 2):
            after = add(store, sized(replicas, min=1, max=4))
            assert after["spec"]["run"]["workers"]["replicas"] == replicas
        for wrong in (sized(5, min=1, max=4), sized(2, min=1, max=8), sized(2, min=2, max=4)):
            with pytest.raises(errors.InvalidSpec):
                add(store, wrong)
        only_max = {**sized(2, max=4), "metadata": {"name": "grows", "namespace": "default"}}
        add(store, only_max)
        only_max["spec"]["run"]["workers"]["replicas"] = 3
        add(store, only_max)
        only_max["spec"]["run"]["workers"]["replicas"] = 2
        with pytest.raises(errors.InvalidSpec) as caught:
            add(store, only_max)
        assert caught.value.field == "spec.run.workers.replicas"

    def test_the_size_of_a_run_that_is_not_elastic_stays(self, store: ports.ResourceStore) -> None:
        made = add(store)
        made["spec"]["run"]["workers"]["replicas"] += 1
        with pytest.raises(errors.InvalidSpec) as caught:
            add(store, made)
        assert caught.value.field == "spec.run.workers.replicas"

    def test_a_status_replaces_the_one_before(self, store: ports.ResourceStore) -> None:
        made = add(store)
        uid = made["metadata"]["uid"]
        first = store.patch_status(KEY, {"phase": "Running", "restarts": 1}, uid=uid)
        second = store.patch_status(KEY, {"phase": "Running"}, uid=uid)
        assert (first["status"]["restarts"], second["status"]["restarts"]) == (1, 0)
        assert second["metadata"]["generation"] == 1
        assert second["spec"] == made["spec"]
        assert add(store, document(suspend=True))["status"]["phase"] == "Running"

    def test_an_equal_status_changes_nothing(self, store: ports.ResourceStore) -> None:
        uid = add(store)["metadata"]["uid"]
        first = store.patch_status(KEY, {"phase": "Running"}, uid=uid)
        assert store.patch_status(KEY, {"phase": "Running"}, uid=uid) == first

    @pytest.mark.parametrize("phase", ["Succeeded", "Failed", "Stopped"])
    def test_a_final_phase_stays(self, store: ports.ResourceStore, phase: str) -> None:
        uid = add(store)["metadata"]["uid"]
        store.patch_status(KEY, {"phase": phase}, uid=uid)
        for other in ({"phase": "Running"}, {}, {"phase": "Pending"}):
            with pytest.raises(errors.Conflict, match="for good"):
                store.patch_status(KEY, other, uid=uid)
        again = store.patch_status(KEY, {"phase": phase, "message": "why"}, uid=uid)
        assert again["status"]["message"] == "why"

    def test_a_status_that_does_not_fit_is_refused(self, store: ports.ResourceStore) -> None:
        uid = add(store)["metadata"]["uid"]
        with pytest.raises(errors.InvalidSpec) as caught:
            store.patch_status(KEY, {"phase": "Sleeping"}, uid=uid)
        assert caught.value.field == "status.phase"

    def test_the_status_of_another_uid_or_nothing_is_not_found(
        self, store: ports.ResourceStore
    ) -> None:
        with pytest.raises(errors.NotFound):
            store.patch_status(KEY, {}, uid="any")
        add(store)
        with pytest.raises(errors.NotFound):
            store.patch_status(KEY, {}, uid="any")
        with pytest.raises(errors.NotFound):
            store.get(KEY._replace(name="cats"))

    def test_deleting_takes_along_what_is_owned(self, store: ports.ResourceStore) -> None:
        parent, other = add(store), add(store, document("cats"))
        add(store, trial(parent))
        kept = add(store, trial(other, name="cats-t0"))
        version = store.list("Trial").version
        store.delete(KEY)
        store.delete(KEY)
        waiting.until(lambda: store.list("Trial").items == (kept,))
        assert sorted(seen(store, version)) == [("DELETED", "digits"), ("DELETED", "digits-t0")]

    def test_grandchildren_go_too(self, store: ports.ResourceStore) -> None:
        made = add(store, job())
        held = made["metadata"]
        owner = {"kind": "LabelingJob", "name": held["name"], "uid": held["uid"]}
        parent = add(store, document("parts-r0", metadata={"ownerReferences": [owner]}))
        add(store, trial(parent))
        store.delete(meta.key_of(made))
        waiting.until(lambda: [store.list(kind).items for kind in KINDS] == [(), (), ()])

    def test_deleting_another_uid_changes_nothing(self, store: ports.ResourceStore) -> None:
        made = add(store)
        store.delete(KEY, uid="other")
        assert store.get(KEY) == made
        store.delete(KEY, uid=made["metadata"]["uid"])
        assert store.list("Experiment").items == ()

    def test_a_name_that_became_free_is_another_resource(self, store: ports.ResourceStore) -> None:
        first = add(store)
        store.delete(KEY)
        second = add(store, document(run={"workers": {"replicas": 2}}))
        assert second["metadata"]["uid"] != first["metadata"]["uid"]
        assert second["metadata"]["generation"] == 1

    def test_another_controller_conflicts(self, store: ports.ResourceStore) -> None:
        parent, other = add(store), add(store, document("cats"))
        made = add(store, trial(parent))
        for wanted in (
            trial(other, name="digits-t0"),
            {**trial(parent), "metadata": {"name": "digits-t0"}},
        ):
            with pytest.raises(errors.Conflict, match="another owner"):
                add(store, wanted)
        assert store.get(meta.key_of(made)) == made

    def test_nothing_is_created_for_an_owner_that_is_gone(self, store: ports.ResourceStore) -> None:
        parent = add(store)
        store.delete(KEY)
        waiting.until(lambda: store.list("Experiment").items == ())
        with pytest.raises(errors.Conflict, match="owner was deleted"):
            add(store, trial(parent))
        assert store.list("Trial").items == ()

    def test_a_watch_tells_changes_in_order(self, store: ports.ResourceStore) -> None:
        version = store.list("Experiment").version
        uid = add(store)["metadata"]["uid"]
        add(store, job())
        changes = list(store.watch(("Experiment",), since=version, wait_s=0))
        assert [(change.type, meta.key_of(change.document)) for change in changes] == [
            ("ADDED", KEY)
        ]
        patched = store.patch_status(KEY, {"phase": "Running"}, uid=uid)
        changes = list(store.watch(KINDS, since=changes[-1].version, wait_s=0))
        of_key = [change for change in changes if meta.key_of(change.document) == KEY]
        assert [change.type for change in of_key] == ["MODIFIED"]
        assert of_key[0].document == patched
        assert seen(store, changes[-1].version) == []

    def test_a_watch_without_a_version_tells_everything(self, store: ports.ResourceStore) -> None:
        add(store)
        add(store, document("cats"))
        assert seen(store, "") == [("ADDED", "digits"), ("ADDED", "cats")]

    def test_a_waiting_watch_wakes_at_once_and_sees_all_that_follows(
        self, store: ports.ResourceStore
    ) -> None:
        version = store.list("Experiment").version
        found: list[str] = []
        enough = threading.Event()

        def follow() -> None:
            for change in store.watch(KINDS, since=version, wait_s=30):
                found.append(meta.key_of(change.document).name)
                if len(found) == 3:
                    enough.set()
                    return

        thread = threading.Thread(target=follow)
        thread.start()
        for name in ("a", "b", "c"):
            add(store, document(name))
        assert enough.wait(10)
        thread.join()
        assert found == ["a", "b", "c"]

    def test_a_watch_ends_when_nothing_comes(self, store: ports.ResourceStore) -> None:
        begun = time.monotonic()
        assert seen(store, store.list("Trial").version, wait_s=0.05) == []
        assert time.monotonic() - begun >= 0.05

    def test_threads_write_without_losing_a_change(self, store: ports.ResourceStore) -> None:
        def work(number: int) -> str:
            made = store.apply(document(f"e{number}"), manager="test", create_only=True)
            key, uid = meta.key_of(made), made["metadata"]["uid"]
            return str(
                store.patch_status(key, {"phase": "Running"}, uid=uid)["metadata"][
                    "resourceVersion"
                ]
            )

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            versions = list(pool.map(work, range(24)))
        assert len(set(versions)) == 24
        last = {name: kind for kind, name in seen(store, "")}
        assert len(last) == 24

    def test_one_of_many_creators_wins(self, store: ports.ResourceStore) -> None:
        def work(_number: int) -> bool:
            try:
                store.apply(document(), manager="test", create_only=True)
            except errors.Conflict:
                return False
            return True

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(work, range(8))) == 1
