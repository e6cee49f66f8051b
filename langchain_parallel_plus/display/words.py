"""How numbers and activities are put in words, the same in text and in HTML."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from langchain_parallel_plus.observe.tree import subtree

if TYPE_CHECKING:
    from langchain_parallel_plus.observe.measures import FanOutMeasures
    from langchain_parallel_plus.observe.records import BranchReport, FanOutReport, SynthesisReport
    from langchain_parallel_plus.observe.report import RunReport
    from langchain_parallel_plus.observe.timeline import Activity, Segment

__all__ = (
    "LOOKS",
    "Look",
    "advice",
    "in_all",
    "look_of",
    "money",
    "numbers",
    "outcome",
    "seconds",
    "share",
    "synthesis",
    "times",
    "tokens",
    "took",
)


class Look(NamedTuple):
    """How an activity is shown: what it is called, its letter, its colour."""

    name: str
    letter: str
    colour: str


LOOKS: dict[Activity, Look] = {
    "useful": Look("useful work", "#", "#2f855a"),
    "wasted": Look("failed or unused attempts", "x", "#c0392b"),
    "wait": Look("waiting for rate limits", "w", "#4a72b0"),
    "backoff": Look("backing off", "b", "#8e5ea2"),
    "cap": Look("waiting for max_concurrency", "q", "#737373"),
    "reader": Look("waiting for the reader", "r", "#2c7a7b"),
    "overhead": Look("overhead", "-", "#8a7a3c"),
}


def look_of(segment: Segment) -> Look:
    """Return how a stretch of a branch's time is shown; an attempt by what became of it."""
    look = LOOKS[segment.activity]
    attempt = segment.attempt
    if attempt is None:
        return look
    letter = {"failed": "x", "timed_out": "t", "cancelled": "c", "skipped": "c", None: "?"}.get(
        attempt.outcome, look.letter
    )
    how = attempt.outcome or "running"
    return Look(f"attempt {attempt.number}, {attempt.role}: {how}", letter, look.colour)


def seconds(value: float | None) -> str:
    """Return seconds with as many digits as mean something."""
    if value is None:
        return "n/a"
    return f"{value:.3f} s" if value < 0.1 else f"{value:.2f} s" if value < 100 else f"{value:.0f} s"


def share(value: float | None) -> str:
    """Return a share in percent."""
    return "n/a" if value is None else f"{100 * value:.0f} %"


def times(value: float | None) -> str:
    """Return a factor."""
    return "n/a" if value is None else f"{value:.2f}x"


def money(value: float | None) -> str:
    """Return an amount in the currency of the prices."""
    return "n/a" if value is None else f"{value:.6f}".rstrip("0").rstrip(".") if value else "0"


def took(fan_out: FanOutReport) -> str:
    """Return how long a fan-out took, or has run so far."""
    if fan_out.seconds is not None:
        return seconds(fan_out.seconds)
    so_far = max((one.ended for one in fan_out.branches.values()), default=fan_out.started) - fan_out.started
    return f"running for {seconds(so_far)}"


def outcome(branch: BranchReport) -> str:
    """Return how a branch ended, or what it does."""
    waits = branch.began is None or any(not one.admitted and one.ended >= branch.ended for one in branch.wait_log)
    how = branch.outcome or ("waiting" if waits else "running")
    if not branch.error:
        return how
    # An error that the package does not know has at least a class.
    known = branch.error.value != "unknown" or not branch.error_type
    return f"{how} ({branch.error.value if known else (branch.error_type or '').rpartition('.')[2]})"


def tokens(branch: BranchReport) -> str:
    """Return how many tokens the model calls of a branch used, and of all that it called."""
    used = sum(one.input_tokens + one.output_tokens for one in subtree(branch))
    return _grouped(used) if used else "-"


def _grouped(count: int) -> str:
    return f"{count:,}".replace(",", " ")


def synthesis(one: SynthesisReport) -> str:
    """Return what is known of a synthesis, in one line."""
    how = "" if one.outcome in (None, "ok") else f", {one.outcome}"
    facts = ["running" if one.seconds is None else seconds(one.seconds)]
    if one.model_calls:
        facts.append(f"{_grouped(one.input_tokens + one.output_tokens)} tokens")
    if one.model_calls and one.price is not None:
        facts.append(f"cost {money(one.cost)}")
    return f"synthesis of {one.inputs} outputs ({one.strategy}): {', '.join(facts)}{how}"


def in_all(report: RunReport) -> str:
    """Return the cost of all model calls, where it is more than the fan-outs'; empty without prices."""
    paid = [one for one in report.syntheses if one.model_calls and one.price is not None]
    return f"cost of all model calls: {money(report.cost)}" if paid else ""


def numbers(fan_out: FanOutReport) -> list[tuple[str, str, str]]:
    """Return the numbers that have a meaning for `fan_out`: name, value, and what the value means."""
    told = fan_out.measures
    found = [
        ("speedup", times(told.speedup), "sum of useful work / wall time (estimated; compare() measures it)"),
        ("efficiency", share(told.efficiency), "share of the slots' time that was useful work"),
        (
            "limit efficiency",
            share(told.limit_efficiency),
            "least time that the limits allow / wall time; at 100 % nothing else holds it up",
        ),
        ("utilisation", share(told.utilisation), "share of the slots' time in which something worked, of use or not"),
        ("straggler", times(told.straggler), "work of the slowest branch / of the median one"),
    ]
    if fan_out.price is not None:
        found.append(("cost", money(told.cost), "of all its model calls, those of failed attempts included"))
    return [one for one in found if one[1] != "n/a" or one[0] == "cost"]


def advice(fan_out: FanOutReport) -> str:
    """Return in one sentence what holds a fan-out up; empty where nothing stands out."""
    told, took = fan_out.measures, fan_out.seconds
    if not took or told.critical is None or fan_out.outcome == "cancelled":
        return ""
    cause, lost = max(told.lost.items(), key=lambda one: one[1])
    if lost < max(0.1 * took, 0.01):  # of milliseconds nobody can save many
        return _of_stragglers(told)
    reserved = _reserved_in_vain(fan_out) if cause == "wait" else ""
    return f"{seconds(lost)} of {seconds(took)} {reserved or _ADVICE[cause]}"


_MUCH = 0.25
"""Share of a rate from which on what is reserved in vain is worth a word."""


def _reserved_in_vain(fan_out: FanOutReport) -> str:
    """Return what to do where most of the critical branch's wait is for tokens that calls reserve and do not use."""
    waited: dict[tuple[str, str], float] = {}
    for branch in subtree(fan_out.branches[fan_out.measures.critical or ()]):
        for what, lost in branch.waits.items():
            waited[what] = waited.get(what, 0.0) + lost
    limiter, dimension = max(waited, key=lambda what: waited[what], default=("", ""))
    rates = (state.rates.get(dimension) for state in fan_out.limiters if state.name == limiter)
    unused = max((rate.unused for rate in rates if rate is not None), default=0.0)
    if unused < _MUCH or "tokens" not in dimension:
        return ""
    return (
        f"went on waiting for rate limits; {share(unused)} of the tokens that calls reserve are not used: lower "
        "max_tokens or the estimate"
    )


_ADVICE: dict[Activity, str] = {
    "wait": "went on waiting for rate limits: only more quota, or fewer tokens, make this faster",
    "backoff": "went on back-off: the provider fails or refuses; a fallback would not wait",
    "wasted": "went on attempts that failed or were not used: a fallback, an earlier hedge or timeout would save some",
    "cap": "went on waiting for a turn under max_concurrency: raise it if the limits allow",
    "reader": "went on waiting for whoever reads the stream: nothing but a quicker reader makes this faster",
    "overhead": "went on neither work nor waits: the work is small, or the machine is busy",
}


def _of_stragglers(told: FanOutMeasures) -> str:
    if told.straggler is not None and told.straggler > 2:
        return f"the slowest branch works {times(told.straggler)} as long as the median one: a hedge or a timeout pays"
    return ""
