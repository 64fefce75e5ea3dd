"""The certificate as a value: figures, outcome and the sentences that people read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from quintile.core import errors

Outcome = Literal["Certified", "CertifiedPartial", "Uncertified"]


@dataclass(frozen=True)
class Certificate:
    """What was shown about one job, with every integer it follows from.

    Attributes:
        outcome: ``Certified`` = the bound holds and no row is left uncovered; ``CertifiedPartial``
            = it holds, some rows are uncovered; ``Uncertified`` = it does not hold.
        mode: ``crossfit``, ``strict`` or ``audit``.
        words: How exact the mode is, in words.
        guarantee: ``dataset`` or ``precision``.
        target_error: e.
        confidence: 1 - a over all looks.
        alpha: What this look spent.
        look: Number of this look, from 1.
        items: Rows of the dataset (N).
        population: Items that the certifying sample was drawn from.
        random_items: Certifying items of R (n).
        random_wrong: Accepted and wrong among them (k).
        upper_wrong: K_up, the most accepted and wrong items in the population.
        certified_error: Bound on the share of wrong rows; 1 when Uncertified.
        accept_share: Share of R that the rule accepts (q).
        accepted: Rows that the machine labels.
        measured_error: Machine error over all rows as measured on R, nothing rejected.
        measured_low: Lower end of its two-sided interval.
        measured_high: Upper end.
        commitment: sha256 committed for the draw of R, empty if unknown.
        lines: Sentences for people.
    """

    outcome: Outcome
    mode: str
    words: str
    guarantee: str
    target_error: float
    confidence: float
    alpha: float
    look: int
    items: int
    population: int
    random_items: int
    random_wrong: int
    upper_wrong: int
    certified_error: float
    accept_share: float
    accepted: int
    measured_error: float
    measured_low: float
    measured_high: float
    commitment: str
    lines: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {**asdict(self), "lines": list(self.lines)}

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Certificate:
        """Return the certificate from ``document``.

        Raises:
            InvalidSpec: A field is missing or unknown.
        """
        names = {field.name for field in fields(cls)}
        if set(document) != names:
            differing = ", ".join(sorted(names ^ set(document)))
            raise errors.InvalidSpec(
                f"The certificate document has missing or unknown fields: {differing}.",
                hint="Use the certificate file as the engine wrote it.",
            )
        return cls(**{**document, "lines": tuple(document["lines"])})


def settle(certificate: Certificate, *, uncovered_left: int) -> Certificate:
    """Return the certificate after finishing: how many uncovered rows are still without a label.

    With none left the whole dataset is ``Certified``. Rows left empty are not exported, so the
    bound becomes a share of fewer rows; when that exceeds the target the outcome says so.
    """
    if certificate.outcome == "Uncertified":
        return certificate
    if uncovered_left == 0:
        return replace(certificate, outcome="Certified")
    if certificate.guarantee == "precision":
        return replace(certificate, outcome="CertifiedPartial")
    exported = max(1, certificate.items - uncovered_left)
    error = (certificate.upper_wrong - certificate.random_wrong) / exported
    holds = error <= certificate.target_error + 1e-12
    outcome: Outcome = "CertifiedPartial" if holds else "Uncertified"
    return replace(certificate, outcome=outcome, certified_error=error)


def settled_outcome(certificate: Certificate, *, uncovered_left: int) -> Outcome:
    """Return the outcome word of ``settle``."""
    return settle(certificate, uncovered_left=uncovered_left).outcome


def rows_meant(guarantee: str, *, partial: bool = False) -> str:
    """Return the words for the rows that a bound is a share of; ``partial``: some stay empty."""
    if guarantee != "dataset":
        return "the rows that the machine labelled"
    return "the rows that it covers" if partial else "all rows"


def sentences(
    *,
    among: str,
    mode: str,
    words: str,
    confidence: float,
    error: float | None,
    measured: tuple[float, float, float] | None = None,
) -> tuple[str, ...]:
    """Return the lines that people read: machine part, human part.

    Args:
        among: The rows that the bound is a share of, as ``rows_meant`` words them.
        mode: Mode of the certificate.
        words: How exact that is.
        confidence: 1 - a.
        error: The bound; None when there is none, and then the word certified never appears.
        measured: Error with nothing rejected (low, estimate, high), told when there is no bound.
    """
    human = "Human part: not measured; no random item was answered twice, blind."
    if error is None:
        machine = "The random items do not show that the target error is met."
        if measured is not None:
            low, middle, high = (f"{100 * share:.1f}" for share in measured)
            machine += (
                f" Labelling everything, the machine errs in {middle} % of rows ({low} to {high} % "
                f"with {100 * confidence:g} % confidence)."
            )
        return machine, human
    return (
        f"With {100 * confidence:g} % confidence at most {100 * error:.2f} % of {among} differ "
        f"from what the people of this job would answer ({mode}: {words}).",
        human,
    )
