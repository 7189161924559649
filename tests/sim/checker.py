"""Holds a history to what was promised: what the ledger and the report say, against the wire and the world's truth.

Nothing here asks the program what it believes. A rule reads the calls as they passed, the world as it is, and the files
as they lie on disk, and names what contradicts.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from batch_cancel.core.error_codes import KIND_BY_CODE
from batch_cancel.core.errors import ErrorKind
from batch_cancel.core.outcome import Outcome
from batch_cancel.core.selection import NOT_KNOWN
from batch_cancel.core.task_run import Status
from batch_cancel.ledger.reader import RunRow
from batch_cancel.settings import DiscoverySource
from batch_cancel.simulator.fleet import Run
from tests.sim.histories import History
from tests.sim.lives import EPOCH, _account
from tests.sim.story import (
    ACCEPTED,
    AMBIGUOUS,
    CANCEL,
    CUT,
    LIST_RUNS,
    MISSING,
    NOT_SENT,
    READ_RUN,
    Key,
    Life,
    Recorded,
    Story,
    Wire,
)

DRAIN_SECONDS = 30.0
ATTEMPT_SECONDS = 45.0
A_MOMENT = 1e-6
TOLERANCE_SECONDS = 1.0
"""An end so close to the request is not "before" (the program's CLOCK_TOLERANCE)."""
DATE_SECONDS = 1.0
"""A Date header, by which the clocks are compared, is cut to the second."""
STS = ("GetCallerIdentity", "AssumeRole")
CONFIRMED = (Outcome.STOPPED, Outcome.FINISHED_FIRST, Outcome.ALREADY_FINISHED, Outcome.NOT_FOUND, Outcome.EXCLUDED)
GIVEN_UP = (Outcome.FAILED, Outcome.UNKNOWN, Outcome.INVALID, Outcome.DENIED)
ENDED = ("STOPPED", "SUCCEEDED", "FAILED", "TIMEOUT")
BAD = (
    Outcome.FAILED,
    Outcome.UNKNOWN,
    Outcome.STUCK_STOPPING,
    Outcome.DENIED,
    Outcome.INVALID,
    Outcome.NOT_ATTEMPTED,
)


def check(history: History, story: Story) -> list[str]:
    """Everything in a story that must not be."""
    _Checker(history, story).check()
    return story.violations


class _Checker:
    def __init__(self, history: History, story: Story) -> None:
        self.history = history
        self.settings = history.settings
        self.story = story
        self.violated = story.violated

    def check(self) -> None:
        self.requests()
        self.order_of_listings()
        self.rereads()
        for life in self.story.lives:
            self.stops(life)
            self.attempts(life)
            if life.recorded is not None:
                self.record(life, life.recorded)
        self.confirmed_stay()
        self.ending()

    # Requests

    def requests(self) -> None:  # noqa: C901  # a list of rules: one reads on its own
        """No cancel call that nobody consented to, for a run that was to be left alone, or where it is forbidden."""
        settings, story = self.settings, self.story
        cancels = [wire for wire in story.wires if wire.operation == CANCEL]
        if not cancels:
            return
        first = cancels[0]
        if settings.dry_run:
            self.violated("a cancel call in a dry run", first)
        consent = settings.consent
        if not consent.yes and consent.confirm_count is None and self.history.answer is not True:
            self.violated("a cancel call without consent", first)
        distinct = {wire.key for wire in cancels}
        guardrails = settings.guardrails
        if guardrails.max_runs is not None and len(distinct) > guardrails.max_runs:
            self.violated("more runs asked to stop than max_runs allows", len(distinct), guardrails.max_runs)
        if consent.confirm_count is not None and len(distinct) > max(consent.confirm_count, len(story.expected)):
            self.violated("more runs asked to stop than were confirmed", len(distinct), consent.confirm_count)
        if guardrails.allow_accounts is not None:
            for wire in cancels:
                if wire.account_id not in guardrails.allow_accounts:
                    self.violated("a cancel call in an account that is not allowed", wire)
        if guardrails.max_percent is not None:
            last = [life.recorded for life in story.lives if life.recorded is not None][-1]
            if len(distinct) * 100 > guardrails.max_percent * len(last.runs):
                self.violated("more runs asked to stop than max_percent allows", len(distinct), len(last.runs))
        for key in distinct:
            if story.expected and key not in story.expected:
                self.violated("a cancel call for a run that the manifest does not name", key)
            self.left_alone(key, story.by_run[key][0])

    def left_alone(self, key: Key, wire: Wire) -> None:
        """Whether a run that was asked to stop was to be left alone, by the world's own facts."""
        transform = self.story.world._fleet.transforms.get(key[:2], {}).get(key.transform_id)
        run = self.story.run(key)
        if transform is None or run is None:
            return
        protection, selection = self.settings.protection, self.settings.selection
        name, tags = transform.name, transform.tags
        patterns = (*protection.transforms, *protection.transform_names)
        if any(fnmatchcase(name, pattern) for pattern in patterns) or any(
            tags.get(tag) in values for tag, values in (protection.tags or {}).items()
        ):
            self.violated("a cancel call for a protected run", wire, name, tags)
        names = selection.transform_names
        asked_at = EPOCH + wire.left
        age = asked_at - run.started_at
        left_out = (
            (names is not None and not any(fnmatchcase(name, pattern) for pattern in names))
            or any(tags.get(tag) not in values for tag, values in (selection.tags or {}).items())
            or (selection.task_types is not None and run.task_type not in selection.task_types)
            or (selection.older_than is not None and age < selection.older_than.total_seconds() - self._skew)
            or (
                selection.newer_than is not None and age - wire.left > selection.newer_than.total_seconds() + self._skew
            )
        )
        if left_out:
            self.violated("a cancel call for a run that was not selected", wire, name, tags, run.task_type, age)

    @property
    def _skew(self) -> float:
        return self.story.skewed_seconds + TOLERANCE_SECONDS

    def order_of_listings(self) -> None:
        """STARTING is listed to its end, or until it cannot be, before RUNNING: for each transform, each time."""
        if set(self.settings.selection.statuses) != {Status.STARTING, Status.RUNNING}:
            return
        listed: dict[tuple[int, str, str, str], float] = {}
        tried: set[tuple[int, str, str, str]] = set()
        shut_out: set[int] = set()
        for wire in self.story.wires:
            if wire.operation == "AssumeRole" and wire.heard != ACCEPTED:
                shut_out.add(wire.life)
            if wire.operation != LIST_RUNS or wire.status not in ("STARTING", "RUNNING"):
                continue
            place = (wire.life, wire.account_id, wire.region, str(wire.transform_id))
            if wire.status == "STARTING":
                listed.pop(place, None)
                tried.add(place)
                # Unless another attempt follows, which takes this back; a listing without its list is none.
                given_up = wire.heard != ACCEPTED or wire.result == "no_echo"
                if (wire.last_page or given_up) and wire.ended is not None:
                    listed[place] = wire.ended
            elif wire.life in shut_out and place not in tried:
                continue  # without keys the first listing ended before it could leave
            elif wire.token is None and listed.get(place, math.inf) > wire.began:
                self.violated("RUNNING is listed before STARTING was listed to its end", wire)

    def rereads(self) -> None:
        """After an ambiguous attempt a run is read before it is asked again."""
        for key, wires in self.story.by_run.items():
            reads = self.story.reads[key]
            for before, after in itertools.pairwise(wires):
                if before.heard not in (AMBIGUOUS, CUT, None):
                    continue
                since = before.ended
                if before.life != after.life:
                    since = self.story.lives[after.life].began
                if since is not None and not any(
                    since - A_MOMENT <= wire.left and wire.ended is not None and wire.ended <= after.began + A_MOMENT
                    for wire, _ in reads
                ):
                    self.violated("asked again after an ambiguous attempt without being read in between", before, after)

    def attempts(self, life: Life) -> None:
        """Attempts within their limit; throttles and refusals of the credentials are none."""
        recorded = life.recorded
        most = self.settings.retry.max_attempts
        counts: dict[Key, int] = {}
        for wire in self.story.wires:
            if wire.operation == CANCEL and wire.life == life.number and wire.heard not in ("throttle", "credentials"):
                counts[wire.key] = counts.get(wire.key, 0) + 1
        for key, count in counts.items():
            returns = 0
            if recorded is not None and key in recorded.runs:
                returns = recorded.returns[recorded.runs[key].id]
            if count > most * (1 + returns):
                self.violated("more attempts than max_attempts", key, count, most)

    def stops(self, life: Life) -> None:  # noqa: C901, PLR0912  # as above
        """After a stop nothing is sent, and the drain has an end."""
        stopped_at = life.stop_asked_at if life.stop_asked_at is not None else math.inf
        cancels_until = stopped_at
        for at, cause in life.stopping:
            if cause == "max_errors":
                cancels_until = min(cancels_until, at)
            else:
                stopped_at = min(stopped_at, at)
        cancels_until = min(cancels_until, stopped_at)
        if cancels_until == math.inf:
            return
        for wire in self.story.wires:
            if wire.life != life.number or wire.operation in STS:
                continue
            limit = cancels_until if wire.operation == CANCEL else stopped_at
            if wire.began > limit + A_MOMENT:
                self.violated("a call was begun after the stop", wire, f"stopped at {limit:.3f}", life.stopping)
                break
        if stopped_at == math.inf or not life.natural:
            return
        slow = 2.0 + 20 * self.history.troubles[life.number].slow_disk_seconds
        if life.ended > stopped_at + DRAIN_SECONDS + slow:
            self.violated("the drain has no end", f"stopped at {stopped_at:.3f}, ended at {life.ended:.3f}")
        in_flight = [
            wire
            for wire in self.story.wires
            if wire.life == life.number and wire.began <= stopped_at <= (wire.ended or wire.left)
        ]
        last = max((wire.ended or stopped_at for wire in in_flight), default=stopped_at)
        if life.ended > last + slow:
            self.violated(
                "nothing is in flight, and yet the end is waited for", life.number, f"{last:.3f}", f"{life.ended:.3f}"
            )
        for wire in in_flight:
            if wire.heard == CUT and wire.operation == CANCEL and wire.ended is not None:
                by_itself = wire.ended - wire.left >= ATTEMPT_SECONDS - A_MOMENT
                if not by_itself and wire.ended < stopped_at + DRAIN_SECONDS - A_MOMENT:
                    self.violated(
                        "a cancel call in flight is cut off by the stop", wire, f"stopped at {stopped_at:.3f}"
                    )
                    break

    # The record

    def record(self, life: Life, recorded: Recorded) -> None:
        story = self.story
        if recorded.doubles:
            self.violated("a run stands twice in the ledger", recorded.doubles[0])
        if story.expected and recorded.facts.get("found") and set(recorded.runs) != set(story.expected):
            missing = set(story.expected) - set(recorded.runs)
            extra = set(recorded.runs) - set(story.expected)
            self.violated("the ledger's runs are not the manifest's", f"missing {missing}", f"extra {extra}")
        document = recorded.document
        told = {
            (run["account_id"], run["region"], run["transform_id"], run["task_run_id"]): run["outcome"]
            for run in document["runs"]
        }
        if len(document["runs"]) != len(recorded.runs) or sorted(told.values()) != sorted(
            str(row.outcome) for row in recorded.runs.values()
        ):
            self.violated("the report is not the ledger's", len(document["runs"]), len(recorded.runs))
        if document["totals"]["runs"] != len(recorded.runs):
            self.violated("the report's total is not the number of its runs", document["totals"])
        for key, wires in story.by_run.items():
            if key not in recorded.runs and any(wire.life <= life.number for wire in wires):
                self.violated("a cancel call for a run that is not in the ledger", key)
        for key, row in recorded.runs.items():
            wires = [wire for wire in story.by_run.get(key, ()) if wire.life <= life.number]
            self.audit_trail(life, recorded, key, row, wires)
            self.outcome(life, recorded, key, row, wires)

    def audit_trail(self, life: Life, recorded: Recorded, key: Key, row: RunRow, wires: list[Wire]) -> None:
        """The attempts in the ledger are the calls on the wire."""
        rows = [verdict for verdict in recorded.attempts.get(row.id, []) if verdict != NOT_SENT]
        sent = [wire for wire in wires if wire.heard != NOT_SENT]
        # An attempt may run out of time before its request could leave: nobody but the wire can tell.
        late_roles = any(wire.operation == "AssumeRole" and wire.heard == CUT for wire in self.story.wires)
        places = {0}
        for verdict in rows:
            following: set[int] = set()
            for place in places:
                open_ended = verdict in (None, "lost") or (verdict == AMBIGUOUS and late_roles)
                if open_ended:
                    following.add(place)
                if place < len(sent) and (open_ended or _fits(verdict, sent[place])):
                    following.add(place + 1)
            places = following
        if len(sent) not in places:
            self.violated(
                "the attempts in the ledger are not the calls on the wire", f"life {life.number}", key, rows, *sent
            )
        target = recorded.targets[row.target_id]
        healthy = life.natural and not life.ledger_failed and life.stop_cause is None and target.error_code is None
        if healthy and None in rows:
            self.violated("an intent without an answer in a sweep that ended well", key, rows)

    def outcome(self, life: Life, recorded: Recorded, key: Key, row: RunRow, wires: list[Wire]) -> None:
        run = self.story.run(key)
        rule = _RULES[row.outcome]
        reads = [(wire, status) for wire, status in self.story.reads.get(key, ()) if wire.life <= life.number]
        case = _Case(self, life, recorded, key, row, run, wires, reads)
        if (
            row.outcome in GIVEN_UP
            and not case.cut_short
            and KIND_BY_CODE.get(str(row.error_code)) is ErrorKind.THROTTLE
        ):
            self.violated("given up because of throttles", life.number, key, row, *wires)
        fault = rule(case)
        if fault:
            history = [] if run is None else [f"{at - EPOCH:.3f} {status}" for at, status, _ in run.history(math.inf)]
            self.violated(
                f"'{row.outcome}' is not true: {fault}",
                f"life {life.number}",
                key,
                row,
                history,
                "calls",
                *wires,
                "reads",
                *[wire for wire, _ in reads[-4:]],
            )

    def confirmed_stay(self) -> None:
        """What was confirmed is not asked again by the processes after, and its verdict stays."""
        if self.settings.until_clear:
            return
        lives = self.story.lives
        for before, after in itertools.pairwise(lives):
            if before.recorded is None or after.recorded is None:
                continue
            for key, row in before.recorded.runs.items():
                if NOT_KNOWN in (row.rule or ""):
                    continue  # it was left alone only for want of knowledge, and is decided about anew
                state = before.recorded.states[row.id]
                # What was perhaps asked is read again, and asked again if that shows that it goes on.
                confirmed = row.outcome in CONFIRMED and state in ("done", "excluded")
                if confirmed or (state == "asked" and row.outcome is not Outcome.UNKNOWN):
                    again = [w for w in self.story.by_run.get(key, ()) if w.life == after.number]
                    if again:
                        self.violated("a run that had been seen to is asked again", key, row.outcome, state, again[0])
                if row.outcome in CONFIRMED and state in ("done", "excluded"):
                    now = after.recorded.runs.get(key)
                    if now is None or now.outcome is not row.outcome:
                        self.violated("a verdict changed", key, row.outcome, now and now.outcome)

    # The end

    def ending(self) -> None:
        for life in self.story.lives:
            if life.natural and life.recorded is not None:
                self.exit_code(life, life.recorded)
        last = self.story.lives[-1]
        if last.natural and last.recorded is not None:
            self.completeness(last, last.recorded)
            if self.history.hopeful:
                self.hope(last, last.recorded)
        if self.history.hopeful and not last.natural and last.ending not in ("LedgerError", "InputError"):
            self.violated("a sweep without lasting trouble does not come to its end", last.ending, last.says)

    def exit_code(self, life: Life, recorded: Recorded) -> None:  # noqa: C901, PLR0912  # as above
        outcomes = {row.outcome for row in recorded.runs.values()}
        document, code, settings = recorded.document, life.exit_code, self.settings
        if document["exit_code"] != code or document["finished_at"] is None:
            self.violated("the report does not have the exit code", code, document["exit_code"])
        incomplete = [row for row in recorded.targets.values() if not row.complete]
        if document["complete"] and (incomplete or Outcome.NOT_ATTEMPTED in outcomes or life.stop_cause is not None):
            self.violated("the report says complete, and it is not", life.stop_cause, document["targets"])
        bad = set(BAD) | (set() if settings.ignore_not_found else {Outcome.NOT_FOUND})
        if settings.verify.wait and not settings.dry_run:
            bad.add(Outcome.STOPPING)
        if code == 0:
            if outcomes & bad or incomplete or document["rejected"]:
                self.violated("exit code 0, and not all is well", outcomes & bad, document["targets"])
            if life.stop_cause is not None:
                self.violated("exit code 0 after a stop", life.stop_cause)
        elif code == 1:
            if not (outcomes & bad or incomplete or document["rejected"]):
                self.violated("exit code 1, and all is well", outcomes, document["targets"])
        elif code in (2, 3):
            called = [wire for wire in self.story.wires if wire.operation == CANCEL and wire.life <= life.number]
            if called:
                self.violated(f"exit code {code} after a cancel call", called[0])
        elif code == 4:
            if not incomplete:
                self.violated("exit code 4, and every target was seen to", document["targets"])
        elif code == 5:
            if life.stop_cause not in ("deadline", "max_errors"):
                self.violated("exit code 5 without its cause", life.stop_cause)
            left = {Outcome.NOT_ATTEMPTED, Outcome.STOPPING, Outcome.UNKNOWN, Outcome.FAILED, *BAD}
            # Cut short before its targets, or its list, were entered to their last, it has looked at nothing.
            entered = ("left_out" if isinstance(settings.source, DiscoverySource) else "found") in recorded.facts
            if entered and not (outcomes & left or incomplete or settings.until_clear):
                self.violated("exit code 5, and no work is left", outcomes)
        elif code == 130:
            if life.stop_asked_at is None:
                self.violated("exit code 130 without an interruption")
        else:
            self.violated("an exit code that the contract does not know", code)
        wrong = (Outcome.FAILED, Outcome.UNKNOWN, Outcome.DENIED, Outcome.INVALID)
        errors = [at for at, _, outcome in life.verdicts if outcome in wrong]
        limit = settings.guardrails.max_errors
        if limit is not None and limit.count is not None and len(errors) > limit.count:
            late = [w for w in self.story.wires if w.operation == CANCEL and w.life == life.number]
            late = [w for w in late if w.began > errors[limit.count] + A_MOMENT]
            if late:
                self.violated("more errors than max_errors, and no stop", errors, limit.count, late[0])
        if life.stop_cause is None and code in (0, 1) and settings.verify.wait and not incomplete:
            open_ones = outcomes & {Outcome.STOPPING, Outcome.NOT_ATTEMPTED}
            if open_ones:
                self.violated("a sweep came to its natural end with work left", open_ones)
        if life.stop_cause is None and code in (0, 1) and not incomplete:
            states = [state for state in recorded.states.values() if state in ("pending", "claimed")]
            if states:
                self.violated("a sweep came to its natural end with runs that nobody saw to", states)

    def completeness(self, life: Life, recorded: Recorded) -> None:  # noqa: C901  # as above
        """A discovery that calls itself complete has every run that was active all the while."""
        settings = self.settings
        if not isinstance(settings.source, DiscoverySource) or not recorded.document["complete"]:
            return
        if settings.dry_run and life.stop_cause is not None:
            return
        swept = {(_account(row.target), row.target.region) for row in recorded.targets.values()}
        for place in itertools.product(self.history.world.fleet.accounts, self.history.world.fleet.regions):
            if place not in swept:
                self.violated("a complete discovery forgot a target", place, sorted(swept))
        first = self.story.lives[0]
        lag = self.history.world.behaviour.listing_lag_seconds
        all_statuses = set(settings.selection.statuses) == {Status.STARTING, Status.RUNNING}
        for account_id, region, run in self.story.world.runs():
            key = Key(account_id, region, run.transform_id, run.task_run_id)
            if (account_id, region) not in swept or key in recorded.runs:
                continue
            if run.started_at > EPOCH + first.began - lag:
                continue
            if run.cancels or run.ends_at <= EPOCH + life.ended:
                continue
            if not all_statuses and not (
                run.status(EPOCH + first.began - lag) is run.status(EPOCH + life.ended)
                and run.status(EPOCH + life.ended) in settings.selection.statuses
            ):
                continue
            if settings.selection.tags is not None and not self._tagged(key):
                continue
            self.violated("a complete discovery missed an active run", key, list(run.history(math.inf)))

    def _tagged(self, key: Key) -> bool:
        transform = self.story.world._fleet.transforms[key[:2]][key.transform_id]
        return all(transform.tags.get(tag) in values for tag, values in (self.settings.selection.tags or {}).items())

    def hope(self, life: Life, recorded: Recorded) -> None:
        """Nothing lasts: everything that was to be stopped is over, or is on its way where nobody waits."""
        settings = self.settings
        # Once in thousands of calls the tail of the latencies is longer than an attempt, and there is no second one.
        if settings.retry.max_attempts == 1 and any(wire.heard == CUT for wire in self.story.wires):
            return
        fine = {
            Outcome.STOPPED,
            Outcome.FINISHED_FIRST,
            Outcome.ALREADY_FINISHED,
            Outcome.EXCLUDED,
            Outcome.NOT_FOUND,
            Outcome.WOULD_CANCEL,
        }
        if not settings.verify.wait:
            fine.add(Outcome.STOPPING)
        for key, row in recorded.runs.items():
            if row.outcome not in fine:
                self.violated("no lasting trouble, and yet", row.outcome, key, row, *self.story.by_run.get(key, ()))
                return
            run = self.story.run(key)
            now = EPOCH + life.ended
            if (
                run is not None
                and row.outcome not in (Outcome.EXCLUDED, Outcome.WOULD_CANCEL)
                and not run.status(now).ended
                and settings.verify.wait
            ):
                self.violated("no lasting trouble, and a run goes on", key, row.outcome, run.status(now))
        if not all(row.complete for row in recorded.targets.values()):
            self.violated("no lasting trouble, and a target is not complete", recorded.document["targets"])


@dataclass(slots=True)
class _Case:
    """One run's outcome and all that can be said about it.

    Attributes:
        wires, reads: its cancel calls and its readings, as far as this life and those before it had them.
    """

    checker: _Checker
    life: Life
    recorded: Recorded
    key: Key
    row: RunRow
    run: Run | None
    wires: list[Wire]
    reads: list[tuple[Wire, str]]

    @property
    def skew(self) -> float:
        return self.checker.story.skewed_seconds

    @property
    def clock_told(self) -> bool:
        """Whether an answer to its first request told by how much the clocks differ, and they always did by that."""
        return self.checker.history.steady and bool(self.wires) and self.wires[0].heard == ACCEPTED and not self.lost

    @property
    def slowest_seconds(self) -> float:
        """How long its first request took, which leaves the clocks' difference open by so much where there is one."""
        if not self.skew or not self.clock_told:
            return 0.0
        wire = self.wires[0]
        return (wire.ended or wire.left) - wire.left

    @property
    def rival(self) -> bool:
        return self.key in self.checker.story.rivals

    @property
    def state(self) -> str:
        return self.recorded.states[self.row.id]

    @property
    def now(self) -> float:
        return EPOCH + self.life.ended

    @property
    def took(self) -> list[Wire]:
        return [wire for wire in self.wires if wire.took]

    @property
    def status(self) -> Status | None:
        return None if self.run is None else self.run.status(self.now)

    def seen(self, *statuses: str) -> bool:
        """Whether a reading, begun after the first request had left, told one of these."""
        since = self.wires[0].left if self.wires else 0.0
        return any(status in statuses and wire.ended is not None and wire.ended >= since for wire, status in self.reads)

    def conclusive_after_requests(self) -> list[tuple[Wire, str]]:
        """Readings that were begun when the last request was over, and known when the verdict fell."""
        last = max((wire.ended or wire.left for wire in self.wires), default=0.0)
        lives = self.checker.story.lives[: self.life.number + 1]
        judged = [(life, at) for life in lives for at, key, _ in life.verdicts if key == self.key]
        if not judged:
            return []
        life, until = judged[-1]
        return [
            (wire, status)
            for wire, status in self.reads
            if wire.operation == READ_RUN  # a listing may have been made for others
            and wire.number > max((each.number for each in self.wires), default=-1)
            and wire.left >= last - A_MOMENT
            and wire.life == life.number
            and status != MISSING
            and wire.ended is not None
            and wire.ended <= until + A_MOMENT
        ]

    @property
    def asked(self) -> bool:
        """Glue accepted, or may have: a process that died with an intent open left no word of whether it asked."""
        return self.lost or any(wire.may_have_been_carried_out for wire in self.wires)

    @property
    def lost(self) -> bool:
        """An attempt of which the ledger knows nothing but its intent, or of which not even the wire knows."""
        verdicts = self.recorded.attempts.get(self.row.id, [])
        if None in verdicts or "lost" in verdicts:
            return True
        unclear = sum(verdict in (None, "lost", AMBIGUOUS) for verdict in verdicts)
        return unclear > sum(wire.heard in (AMBIGUOUS, CUT) for wire in self.wires)

    @property
    def cut_short(self) -> bool:
        """The life did not get so far."""
        target = self.recorded.targets[self.row.target_id]
        life = self.life
        return (
            not life.natural
            or life.stop_cause is not None
            or target.error_code is not None
            or life.exit_code in (2, 3, 4, 5, 130)
        )


def _stopped(case: _Case) -> str | None:
    if case.run is None or case.status is not Status.STOPPED:
        return f"the world has it {case.status}"
    first = EPOCH + (0.0 if case.lost or not case.wires else case.wires[0].began)
    tolerance = TOLERANCE_SECONDS + DATE_SECONDS + case.slowest_seconds + 0.01
    skew = 0.0 if case.clock_told else case.skew
    nobody_can_tell = case.rival or skew or case.run.ended_at() > first - tolerance
    if not case.wires and not (case.lost and nobody_can_tell):
        return "it was never asked"
    if not case.seen("STOPPED"):
        return "no reading showed it stopped"
    if not case.took and not nobody_can_tell:
        return "no request of ours made it stop"
    if not case.took and not case.asked:
        return "no request of ours can have made it stop"
    return None


def _finished_first(case: _Case) -> str | None:
    if case.run is None or case.status is None or not case.status.ended or case.status is Status.STOPPED:
        return f"the world has it {case.status}"
    if not case.asked:
        return "no request was accepted or may have been"
    if not case.seen("SUCCEEDED", "FAILED", "TIMEOUT"):
        return "no reading showed its end"
    if not case.wires:
        return None
    first = case.wires[0]  # the ledger keeps the time of the first, a refused one too
    # Of a lost request it is known only that it left after its intent, which may have been a good while before.
    tolerance = TOLERANCE_SECONDS + DATE_SECONDS + case.slowest_seconds + 0.01
    skew = 0.0 if case.clock_told else case.skew
    if not case.lost and case.run.ended_at() < EPOCH + first.began - tolerance - skew:
        return "it was over before"
    return None


def _already_finished(case: _Case) -> str | None:
    if case.run is None or case.status is None or not case.status.ended:
        return f"the world has it {case.status}"
    if not any(status in ENDED for _, status in case.reads):
        return "no reading showed its end"
    if case.took and (not case.skew or case.clock_told):
        return "a request of ours made it stop"
    return None


def _not_found(case: _Case) -> str | None:
    if case.run is not None:
        return f"the world has it {case.status}"
    return None


def _invalid(case: _Case) -> str | None:
    if not any(wire.heard == "invalid" for wire in case.wires):
        return "no request was refused as invalid"
    if case.took:
        return "a request of ours was carried out"
    if case.state == "done" and any(status in ENDED for _, status in case.conclusive_after_requests()):
        return "it was seen ended"
    return None


def _denied(case: _Case) -> str | None:
    if not any(wire.heard == "access" for wire in case.wires) and case.row.attempts == 0:
        return "no request was denied"
    if case.took:
        return "a request of ours was carried out"
    return None


def _failed(case: _Case) -> str | None:
    reads = case.conclusive_after_requests()
    if not reads:
        return "no reading after the last request"
    wire, status = reads[-1]
    if status in ENDED:
        return "its last reading showed it ended"
    late = [
        each
        for each in case.took
        if each.arrived is not None and wire.arrived is not None and each.arrived < wire.arrived
    ]
    if late:
        return "a request of ours had been carried out by then"
    if case.run is None or case.run.status(EPOCH + (wire.arrived or 0.0)).ended:
        return "it was over by then"
    return None


def _unknown(case: _Case) -> str | None:
    if case.cut_short or case.state in ("pending", "claimed", "asked"):
        return None
    if not case.wires and case.checker.settings.dry_run:
        return None
    told = case.conclusive_after_requests()
    if told:
        return f"a reading told: {told[-1][1]}"
    return None


def _accepted(case: _Case) -> bool:
    if any(wire.heard == ACCEPTED for wire in case.wires):
        return True
    unclear = case.lost or any(wire.heard in (AMBIGUOUS, CUT, None) for wire in case.wires)
    return unclear and case.seen("STOPPING", *ENDED)


def _stopping(case: _Case) -> str | None:
    if not _accepted(case):
        return "no request was accepted"
    if case.checker.settings.verify.wait and not case.cut_short:
        return "its end was to be waited for"
    if not case.took and not case.skew and not case.rival and case.status is not None and not case.status.ended:
        return "nothing makes it stop"
    return None


def _stuck(case: _Case) -> str | None:
    if not _accepted(case):
        return "no request was accepted"
    times = [at for at, key, outcome in case.life.verdicts if key == case.key and outcome is Outcome.STUCK_STOPPING]
    timeout = case.checker.settings.verify.timeout_seconds
    if times:
        since = max(min((wire.left for wire in case.wires), default=0.0), case.life.began)
        if times[-1] - since < timeout - case.skew - 0.01:
            return f"given up after {times[-1] - since:.1f} s of {timeout:g}"
        reads = [
            status
            for wire, status in case.reads
            if wire.operation == READ_RUN
            and wire.life == case.life.number
            and wire.ended is not None
            and wire.ended <= times[-1]
        ]
        if any(status in ENDED for status in reads) and not case.recorded.returns[case.row.id]:
            return "a reading had shown its end"
    return None


def _excluded(case: _Case) -> str | None:
    if case.wires:
        return "it was asked to stop"
    if not case.row.rule:
        return "no rule is named"
    return None


def _would_cancel(case: _Case) -> str | None:
    return None if case.checker.settings.dry_run else "it is no dry run"


def _not_attempted(case: _Case) -> str | None:
    if any(wire.carried_out for wire in case.wires):
        return "the service has carried a request out"
    if any(wire.may_have_been_carried_out for wire in case.wires):
        return "a request may have been carried out"
    if case.checker.settings.dry_run and not case.cut_short:
        return "a dry run told no verdict"
    return None


_RULES: dict[Outcome, Callable[[_Case], str | None]] = {
    Outcome.STOPPED: _stopped,
    Outcome.STOPPING: _stopping,
    Outcome.STUCK_STOPPING: _stuck,
    Outcome.FINISHED_FIRST: _finished_first,
    Outcome.ALREADY_FINISHED: _already_finished,
    Outcome.NOT_FOUND: _not_found,
    Outcome.INVALID: _invalid,
    Outcome.DENIED: _denied,
    Outcome.FAILED: _failed,
    Outcome.UNKNOWN: _unknown,
    Outcome.EXCLUDED: _excluded,
    Outcome.WOULD_CANCEL: _would_cancel,
    Outcome.NOT_ATTEMPTED: _not_attempted,
}


def _fits(verdict: str | None, wire: Wire) -> bool:
    """Whether an attempt's class is what was heard on the wire."""
    if wire.heard == CUT:
        return verdict == AMBIGUOUS
    return verdict == wire.heard
