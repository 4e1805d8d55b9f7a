"""How far readers agree with each other, and a run's model with them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from db.reviews import read_reviews, reviewed_with
from db.runs import Run
from producer.run_findings import findings_of
from producer.session import Session
from worker.counted_words import counted


def agreement_lines(session: Session, run: Run) -> Iterator[str]:
    """How far readers agree with each other and the model with them; nothing where nothing was reviewed."""
    with session.ledger.read() as connection:
        labels: dict[str, dict[int, tuple[str, str]]] = {}
        denied: dict[str, list[tuple[str, str]]] = {}
        outdated = unsure = 0
        for one in read_reviews(connection, run.id):
            outdated += one.is_outdated
            unsure += not one.is_outdated and one.label is None and one.denied is None
            if one.label is not None and one.predicted is not None:
                labels.setdefault(one.reader, {})[one.image_id] = (one.label, one.predicted)
            if one.denied is not None and one.predicted is not None:
                denied.setdefault(one.reader, []).append((one.denied, one.predicted))
    findings = findings_of(session, run) if labels or denied else ()
    with session.ledger.read() as connection:
        having = {name: reviewed_with(connection, run.id, name) for name in findings}
    for first, second in combinations(labels, 2):
        common = sorted(labels[first].keys() & labels[second].keys())
        if common:
            from sklearn.metrics import cohen_kappa_score

            ours, theirs = ([labels[who][image][0] for image in common] for who in (first, second))
            equal = sum(a == b for a, b in zip(ours, theirs, strict=True))
            # Of one class alone, kappa is not defined.
            kappa = f"{cohen_kappa_score(ours, theirs):.2f}" if len({*ours, *theirs}) > 1 else "not defined"
            said = f"agree on {equal} of {counted(len(common), 'image')}, Cohen's kappa {kappa}"
            yield f"readers {first} and {second}: {said}"
    for reader in dict.fromkeys((*labels, *denied)):
        known, others_denied = labels.get(reader, {}), denied.get(reader, [])
        names = {label for label, _ in known.values()}
        for name in sorted(names if findings else names | {no for no, _ in others_denied}):
            if findings:
                hits = [
                    image in having[name] if name in having else predicted == name
                    for image, (label, predicted) in known.items()
                    if label == name
                ]
                yield f"model against {reader}, {name}: sensitivity {_share(hits)}"
                continue
            of = [predicted == name for label, predicted in known.values() if label == name]
            others = [predicted != name for label, predicted in known.values() if label != name]
            others += [predicted != name for no, predicted in others_denied if no == name]
            figures = {"sensitivity": of, "specificity": others}
            words = [f"{what} {_share(hits)}" for what, hits in figures.items() if hits]
            yield f"model against {reader}, {name}: {', '.join(words)}"
    if outdated:
        yield f"left out: {counted(outdated, 'review')} (the file has changed since it was reviewed)"
    if unsure:
        yield f"left out: {counted(unsure, 'review')} (unsure)"
    if unnamed := sum(map(len, denied.values())):
        said = "against the model, without a class: left out of sensitivity, which may be lower"
        yield f"{counted(unnamed, 'review')} {said}"
    if labels and findings:
        yield "a reader names one finding of an image, and denies no other: there is no specificity"
    if labels or denied:
        yield "readers saw the model's answers: agreement with it is no independent measure"


def _share(hits: list[bool]) -> str:
    return f"{sum(hits) / len(hits):.2f} ({sum(hits)} of {len(hits)})"
