"""A project of a real cluster as tests see it: its Experiments, Trials and pods, and waiting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from quintile.adapters import client_kube
from quintile.core import errors, meta
from quintile.testing import waiting

PATIENCE_S = 240.0
LOOK_S = 0.1
"""How often to ask: a cluster on the machine of the tests has other work, too."""


@dataclass
class Project:
    """One namespace."""

    kube: client_kube.KubeClient
    namespace: str

    def path(self, plural: str, name: str = "") -> str:
        """Return where a resource lies, or its collection."""
        roots = {"pods": "/api/v1", "jobs": "/apis/batch/v1"}
        root = roots.get(plural, f"/apis/{meta.API_VERSION}")
        whole = f"{root}/namespaces/{self.namespace}/{plural}"
        return f"{whole}/{name}" if name else whole

    def submit(self, name: str, spec: meta.Document) -> None:
        """Create an Experiment."""
        document = {
            "apiVersion": meta.API_VERSION,
            "kind": "Experiment",
            "metadata": {"name": name},
            "spec": spec,
        }
        self.kube.create(self.path("experiments"), document)

    def trial(self, experiment: str) -> meta.Document:
        """Return the first trial of an experiment, empty before it exists."""
        items: list[meta.Document] = self.kube.get(self.path("trials"))["items"]
        for item in items:
            if item["spec"]["experiment"] == experiment:
                return item
        return {}

    def status(self, experiment: str) -> meta.Document:
        """Return the status of the first trial."""
        found: meta.Document = self.trial(experiment).get("status", {})
        return found

    def condition(self, experiment: str, kind: str) -> meta.Document:
        """Return a condition of the first trial, empty without one."""
        for entry in self.status(experiment).get("conditions", ()):
            if entry["type"] == kind:
                return dict(entry)
        return {}

    def pods(self, experiment: str, role: str = "") -> list[meta.Document]:
        """Return the pods of the first trial, or those of a role."""
        labels = f"quintile.dev/trial-uid={self.trial(experiment)['metadata']['uid']}"
        if role:
            labels += f",quintile.dev/role={role}"
        found: list[meta.Document] = self.kube.get(self.path("pods"), labelSelector=labels)["items"]
        return found

    def until(self, look: Callable[[], Any]) -> Any:
        """Wait; an API server that is busy for a moment is asked again."""

        def patient() -> Any:
            try:
                return look()
            except errors.Unavailable:
                return None

        return waiting.until(patient, timeout_s=PATIENCE_S, look_s=LOOK_S)

    def until_told(self, experiment: str, look: Callable[[meta.Document], object]) -> meta.Document:
        """Wait for something of a status; a trial that fails meanwhile is a fault of the test."""

        def is_so() -> bool:
            status = self.status(experiment)
            assert status.get("phase") != "Failed" or look(status), status
            return bool(look(status))

        self.until(is_so)
        return self.status(experiment)

    def until_phase(self, experiment: str, *phases: str) -> meta.Document:
        """Wait for a phase of the trial; return its status."""
        ends = {*phases, "Failed", "Stopped"}
        self.until(lambda: self.status(experiment).get("phase") in ends)
        status = self.status(experiment)
        assert status["phase"] in phases, status
        return status

    def remove(self, experiment: str) -> None:
        """Delete an experiment and wait until its trial is gone."""
        self.kube.delete(self.path("experiments", experiment))
        self.until(lambda: not self.trial(experiment))
