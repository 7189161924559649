"""Errors: exit codes, places, and which failed call may have done its work."""

import pytest

from batch_cancel.core.errors import (
    AccessStopped,
    BatchCancelError,
    CallFailed,
    ErrorKind,
    Guardrail,
    GuardrailRefused,
    InputError,
    LedgerError,
    Problem,
    RecordLost,
    UsageError,
)


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (BatchCancelError("x"), 1),
        (UsageError("x"), 2),
        (InputError([]), 2),
        (LedgerError("x"), 2),
        (GuardrailRefused("x", Guardrail.MAX_RUNS), 3),
        (AccessStopped("x"), 4),
        (RecordLost("x"), 1),
    ],
)
def test_each_error_of_ours_is_one_exit_code(error: BatchCancelError, exit_code: int) -> None:
    assert isinstance(error, BatchCancelError)
    assert error.exit_code == exit_code


@pytest.mark.parametrize(
    ("problem", "shown"),
    [
        (Problem("runs.csv", "no id", 3, 7), "runs.csv:3:7: no id"),
        (Problem("runs.csv", "no id", 3), "runs.csv:3: no id"),
        (Problem("runs.csv", "is empty"), "runs.csv: is empty"),
    ],
)
def test_a_problem_is_told_with_its_place(problem: Problem, shown: str) -> None:
    assert str(problem) == shown


def test_the_further_faults_of_a_row_keep_their_places() -> None:
    further = (Problem("runs.json", "no region", 3, 9), Problem("runs.json", "no account", 4, 2))
    problem = Problem("runs.json", "no id", 3, 7, "{}", further)
    assert str(problem) == "runs.json:3:7: no id\nruns.json:3:9: no region\nruns.json:4:2: no account"
    assert problem.in_its_line == "column 7: no id; column 9: no region; line 4, column 2: no account"
    assert problem.apart == (Problem("runs.json", "no id", 3, 7, "{}"), *further)


def test_an_input_error_tells_every_problem_and_keeps_them() -> None:
    problems = [Problem("a", "first", 1), Problem("a", "second", 2)]
    error = InputError(problems)
    assert str(error) == "a:1: first\na:2: second"
    assert error.problems == tuple(problems)


@pytest.mark.parametrize("kind", ErrorKind)
@pytest.mark.parametrize("reached", [True, False])
def test_only_a_transient_failure_that_may_have_arrived_is_ambiguous(kind: ErrorKind, reached: bool) -> None:
    failure = CallFailed(kind, "CancelMLTaskRun", "Code", "words", reached=reached)
    assert failure.ambiguous == (kind is ErrorKind.TRANSIENT and reached)


def test_a_failed_call_tells_what_failed_and_keeps_what_the_service_said() -> None:
    failure = CallFailed(
        ErrorKind.THROTTLE,
        "GetMLTaskRuns",
        "ThrottlingException",
        "Rate exceeded",
        http_status=400,
        request_id="r-1",
        retry_after_seconds=1.5,
    )
    assert str(failure) == "GetMLTaskRuns: ThrottlingException: Rate exceeded"
    assert not isinstance(failure, BatchCancelError)
    assert (failure.http_status, failure.request_id, failure.retry_after_seconds) == (400, "r-1", 1.5)
