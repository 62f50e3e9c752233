"""The sentences that a report opens with: what won, what is tied, what cannot be told and why.

Each is put together from the same ranks, tests and intervals that the tables show. A suite of many comparisons gets a
summary of them in place of sentences for each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.report.comparison import Comparison, compare
from bench.report.contribution import Block, blocks, with_architectures
from bench.report.entry import Entry
from bench.report.matrix import Matrix, by_contest, by_table
from bench.report.power import CHANCE, Spread, spreads
from bench.report.tables.data import rounded
from bench.report.tables.shared import ailment_words, section_title
from bench.report.workload import WorkloadSummary

MAX_CONTESTS = 12
"""Workloads times budgets that have sentences of their own; of more there is a summary."""
TAKEN_APART = {
    "blind": "without the task in the search (blind)",
    "l1-channels": "with the channels that L1 chooses (l1-channels)",
    "scratch": "from fresh weights (scratch)",
    "random-widths": "with widths drawn at random (random-widths)",
}
"""Controls that the sentence on the search's contribution names, and how."""


@dataclass(frozen=True)
class Paragraph:
    """What is said of one workload, or of all together."""

    title: str
    points: list[str]
    """One to four sentences each, as plain text."""


def opening(matrix: Matrix) -> list[Paragraph]:
    """What the report opens with; empty where nothing is recorded."""
    contests = {key: entries for key, entries in by_contest(matrix.main).items() if any(e.prunes for e in entries)}
    if not any(entry.n for entry in matrix.main):
        return []
    if len(contests) > MAX_CONTESTS:
        return [Paragraph("", _summary(matrix, list(contests.values())))]
    apart = with_architectures(matrix)
    spread_of = {(spread.workload, spread.protocol): spread for spread in spreads(matrix)}
    found = []
    for place, entries in by_table([e for contest in contests.values() for e in contest]).items():
        workload = matrix.workloads.get(place[0])
        if workload is None:
            continue
        points = [
            f"At {contest[0].budget_text}: " + " ".join(_contest(matrix, contest, workload, apart))
            for contest in by_contest(entries).values()
        ]
        lines = [*_dense(matrix, place, workload), *points, _power(spread_of.get(place))]
        found.append(Paragraph(section_title(*place), lines))
    return found


def _contest(
    matrix: Matrix, contest: Sequence[Entry], workload: WorkloadSummary, apart: Sequence[Block]
) -> Iterator[str]:
    keys = {entry.key[:3] for entry in contest}
    yield _first(matrix, contest, workload)
    yield from _not_ranked(contest)
    yield from _controls(matrix, contest, workload)
    here = [block for block in apart if block.own.key[:3] in keys]
    yield from _taken_apart([block for block in here if not block.own.ablation], workload)
    yield from _architectures([block.controls[0] for block in here if block.own.ablation], workload)


def _dense(matrix: Matrix, place: tuple[str, str], workload: WorkloadSummary) -> Iterator[str]:
    """What the networks that are not pruned have."""
    if workload.dense.mean is None:
        return
    whole = [
        f"; {e.method}, trained for all epochs, has {_value(e, workload)}"
        for e in matrix.groups()[place]
        if not e.prunes and e.n
    ]
    yield _sentence(f"The dense network has {_with_unit(workload.dense.mean, workload)}" + "".join(whole))


# ---- what won ----


def _first(matrix: Matrix, contest: Sequence[Entry], workload: WorkloadSummary) -> str:
    ranked = sorted((e for e in contest if e.rank is not None), key=lambda e: (e.rank or 0.0, e.method))
    if not ranked:
        return "nothing is ranked."
    best, rivals = ranked[0], ranked[1:]
    score = f"{best.method} ({_value(best, workload)})"
    if not rivals:
        return f"{score} alone is ranked."
    by_verdict = {name: [e.method for e in rivals if e.verdict == name] for name in ("tied", "worse", "untested")}
    if best.verdict == "best":
        beaten = "its only rival" if len(rivals) == 1 else f"each of its {len(rivals)} rivals; the next"
        return f"{score} beats {beaten}, {_lead(matrix.against_rival[best.key], workload)}."
    if len(by_verdict["tied"]) == len(rivals) > 1:
        return f"no winner: all {len(ranked)} are tied, {score} with the best mean."
    parts = []
    if by_verdict["tied"]:
        parts.append(f"no winner: {score} has the best mean, and {_tied(by_verdict['tied'])} with it")
    else:
        parts.append(f"it cannot be told what is best: {score} has the best mean")
    if by_verdict["untested"]:
        parts.append(f"it cannot be tested against {_and(by_verdict['untested'])} ({_why(best, rivals)})")
    if by_verdict["worse"]:
        parts.append(f"{_and(by_verdict['worse'])} {_is(by_verdict['worse'])} worse")
    return "; ".join(parts) + "."


def _lead(comparison: Comparison, workload: WorkloadSummary) -> str:
    """By how much the best is ahead of the next."""
    interval = comparison.over_seeds
    assert interval is not None and comparison.gap.mean is not None  # a winner was tested
    ends = " to ".join(_number(end, workload, signed=True) for end in interval)
    amount = _amount(comparison.gap.mean, workload)
    return f"{comparison.other.method}, by {amount} (95 % interval {ends}, {comparison.gap.n} seeds)"


def _tied(names: Sequence[str]) -> str:
    return f"{_and(names)} {'ties' if len(names) == 1 else 'tie'}"


def _why(best: Entry, rivals: Sequence[Entry]) -> str:
    common = [len(best.final_by_seed.keys() & e.final_by_seed.keys()) for e in rivals if e.verdict == "untested"]
    if min(common) < 2:
        return "fewer than two common seeds"
    return "all seeds differ by the same amount, which leaves no spread to test against"


# ---- what is missing ----


def _not_ranked(contest: Sequence[Entry]) -> Iterator[str]:
    parts = []
    for entry in contest:
        if entry.budget_misses:
            parts.append(f"{entry.method} missed its budget in {entry.budget_misses} of {len(entry.records)} cells")
        if entry.ailments:
            parts.append(f"{entry.method} has networks that learned nothing: {ailment_words(entry)}")
        if entry.failed:
            parts.append(f"{entry.failed} of {entry.planned} cells of {entry.method} failed")
        if entry.missing:
            verb = "is" if entry.missing == 1 else "are"
            parts.append(f"{entry.missing} of {entry.planned} cells of {entry.method} {verb} missing")
    if parts:
        yield _sentence(_and(parts))


# ---- controls ----


def against_controls(matrix: Matrix, contest: Sequence[Entry]) -> list[Comparison]:
    """Each ranked method against the ranked control of the best mean; p-values are corrected together."""
    ranked = sorted((e for e in contest if e.rank is not None), key=lambda e: (e.rank or 0.0, e.method))
    control = next((e for e in ranked if e.control), None)
    if control is None:
        return []
    return compare([(e, control) for e in ranked if not e.control], matrix.bootstrap)


def _controls(matrix: Matrix, contest: Sequence[Entry], workload: WorkloadSummary) -> Iterator[str]:
    comparisons = against_controls(matrix, contest)
    if not comparisons:
        return
    control = comparisons[0].other
    name = f"{'the' if sum(e.control and e.rank is not None for e in contest) == 1 else 'the best'} control"
    named = f"{name}, {control.method} ({_value(control, workload)})"
    groups = _by_outcome(comparisons)
    better, worse = groups["better"], groups["worse"]
    lead = f"{_and(better)} {'beats' if len(better) == 1 else 'beat'}" if better else "No method beats"
    parts = [f"{lead} {named}"]
    if worse:
        parts.append(f"{_and(worse)} {_is(worse)} worse than it")
    if groups["unclear"]:
        parts.append(f"{_and(groups['unclear'])} cannot be told from it")
    if groups["untested"]:
        parts.append(f"{_and(groups['untested'])} cannot be tested against it")
    yield _sentence("; ".join(parts))


# ---- what the search contributed ----


def _taken_apart(apart: Sequence[Block], workload: WorkloadSummary) -> Iterator[str]:
    leads: dict[str, list[str]] = {}
    for name, lead in TAKEN_APART.items():
        comparisons = [c for block in apart if (c := block.against(name)) is not None and c.gap.n]
        if comparisons:
            leads.setdefault(_effects(comparisons, workload), []).append(lead)
    if leads:
        yield _sentence(
            "Taken apart: " + "; ".join(f"{_and(of_effect)}, {effect}" for effect, of_effect in leads.items())
        )


def _architectures(comparisons: Sequence[Comparison], workload: WorkloadSummary) -> Iterator[str]:
    """What the architectures are worth that the methods found, trained from scratch as the uniform one is."""
    tested = [c for c in comparisons if c.gap.n]
    if not tested:
        return
    rival = tested[0].other.method
    parts = _verdicts(
        tested, workload, {"better": "better", "worse": "worse"}, than=f" than {rival}", of=f" from {rival}"
    )
    yield _sentence("The architecture alone, trained from scratch: " + "; ".join(parts))


def _effects(comparisons: Sequence[Comparison], workload: WorkloadSummary) -> str:
    """What became of each method when a part was switched off: the control's side of each comparison."""
    parts = _verdicts(comparisons, workload, {"better": "worse", "worse": "better"})
    return ", and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


def _verdicts(
    comparisons: Sequence[Comparison], workload: WorkloadSummary, words: Mapping[str, str], than: str = "", of: str = ""
) -> list[str]:
    """What is shown of the methods, those of one outcome together.

    Args:
        words: for the outcomes `better` and `worse`, in the order in which they stand.
        than: what follows these words.
        of: what follows "no difference".
    """
    groups = _by_outcome(comparisons)
    amounts = {c.one.method: _number(abs(c.gap.mean or 0.0), workload) for c in comparisons}
    parts = []
    for outcome, word in words.items():
        if names := groups[outcome]:
            by = _and([amounts[name] for name in names]) + _points(workload.unit)
            parts.append(f"{_and(names)} {_is(names)} {word}{than} by {by}")
    if groups["unclear"]:
        parts.append(f"no difference{of} is shown for {_and(groups['unclear'])}")
    if groups["untested"]:
        parts.append(f"{_and(groups['untested'])} cannot be tested")
    return parts


# ---- what can be told at all ----


def _power(spread: Spread | None) -> str:
    if spread is None:
        return "No two entries of a budget have two common seeds: no difference can be tested."

    def amount(value: float) -> str:
        return rounded(value, spread.digits) + _points(spread.unit)

    step = f"{spread.point:g}{_points(spread.unit, spread.point)}"
    return (
        "The difference of two entries varies from seed to seed, with a standard deviation of "
        f"{amount(spread.spread)}. With {spread.seeds} seeds, only a true difference of "
        f"{amount(spread.smallest)} or more would be found with {CHANCE} probability; a smaller "
        f"one may be there and stay unseen. To find {step} would take {spread.seeds_for_a_point:,} seeds."
    )


# ---- many workloads ----


def _summary(matrix: Matrix, contests: Sequence[Sequence[Entry]]) -> list[str]:
    tested = [[e for e in contest if e.rank is not None] for contest in contests]
    leaders = [min(ranked, key=lambda e: (e.rank or 0.0, e.method)) for ranked in tested if len(ranked) > 1]
    won = Counter(e.method for e in leaders if e.verdict == "best")
    counts = Counter(e.verdict for e in leaders)
    winners = ", ".join(
        f"{name} {number}" for name, number in sorted(won.items(), key=lambda item: (-item[1], item[0]))
    )
    best = f"{counts['best']} ({winners})" if winners else "none"
    points = [
        f"Of {len(contests)} comparisons (workload, protocol and budget), one entry beats every rival in {best}, the "
        f"best are tied in {counts['tied']}, and it cannot be told in {counts['untested']}, for want of common seeds "
        f"or of spread; in {len(contests) - len(leaders)} fewer than two entries are ranked."
    ]
    misses, failed = sum(e.budget_misses for e in matrix.main), sum(e.failed for e in matrix.main)
    if misses or failed:
        points.append(f"Of the main comparison, {misses} cells missed their budget and {failed} failed.")
    outcomes = Counter[str](c.outcome for contest in contests for c in against_controls(matrix, contest))
    if outcomes:
        points.append("Methods against the best control of their budget: " + _tally(outcomes))
    apart = blocks(matrix)
    for name in TAKEN_APART:
        found = Counter[str](c.outcome for block in apart if (c := block.against(name)) is not None and c.gap.n)
        if found:
            points.append(f"Methods against {name}: " + _tally(found))
    for unit, of_unit in _by_unit(spreads(matrix)).items():
        least, most = min(s.smallest for s in of_unit), max(s.smallest for s in of_unit)
        digits, name = max(s.digits for s in of_unit), _points(unit)
        ends = rounded(least, digits) if len(of_unit) == 1 else f"{rounded(least, digits)} to {rounded(most, digits)}"
        which = "" if len(of_unit) == 1 else ", depending on the workload"
        points.append(
            f"Only a true difference of {ends}{name} or more would be found with {CHANCE} probability{which}."
        )
    return points


def _tally(outcomes: Counter[str]) -> str:
    words = {"better": "better", "worse": "worse", "unclear": "not told apart", "untested": "not tested"}
    return ", ".join(f"{word} in {outcomes[name]}" for name, word in words.items()) + "."


def _by_unit(found: Iterable[Spread]) -> dict[str, list[Spread]]:
    units: dict[str, list[Spread]] = {}
    for spread in found:
        units.setdefault(spread.unit, []).append(spread)
    return units


# ---- words ----


def _by_outcome(comparisons: Sequence[Comparison]) -> dict[str, list[str]]:
    """Names of the first entries, by what the test says of them."""
    names = ("better", "worse", "unclear", "untested")
    return {name: [c.one.method for c in comparisons if c.outcome == name] for name in names}


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _is(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _sentence(text: str) -> str:
    return f"{text}."


def _number(value: float, workload: WorkloadSummary, *, signed: bool = False) -> str:
    return rounded(value, workload.digits, signed=signed).replace("-", "−")


def _value(entry: Entry, workload: WorkloadSummary) -> str:
    """The mean with its unit: `92.10 %`."""
    return _with_unit(entry.final.mean or 0.0, workload)


def _with_unit(value: float, workload: WorkloadSummary) -> str:
    return _number(value, workload) + (f" {workload.unit}" if workload.unit else "")


def _amount(difference: float, workload: WorkloadSummary) -> str:
    """The size of a difference with its unit: `1.20 points`."""
    return _number(abs(difference), workload) + _points(workload.unit)


def _points(unit: str, amount: float = 0.0) -> str:
    """A difference of percentages is in points; what is not a percentage keeps its unit."""
    if unit == "%":
        return " point" if amount == 1 else " points"
    return f" {unit}" if unit else ""
