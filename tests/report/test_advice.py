"""What to do next: never a command that drops what the sweep was told, and always one that helps."""

import asyncio
import shlex
from pathlib import Path
from typing import Any

import pytest

from batch_cancel.core.errors import REGION_NOT_ENABLED, Guardrail
from batch_cancel.core.outcome import Outcome
from batch_cancel.core.task_run import Access, Target
from batch_cancel.ledger.ledger import Ledger, NewRun
from batch_cancel.ledger.reader import TargetRow
from batch_cancel.report.advice import Step, next_steps
from batch_cancel.report.files import opened
from batch_cancel.report.story import headline, meaning, refusal, troubles
from batch_cancel.settings import DiscoverySource, Settings, to_json
from tests.report.ledgers import a_run, add_target, build, cancel, set_facts

RUN = "batch-cancel run --discover --protect-transform 'critical *' --max-runs 9 --profile prod --out runs/x --dry-run"
OTHERWISE: dict[str, Any] = {"mode": "dry-run", "exit_code": 0}
MAX_RUNS = "435 runs would be cancelled, and max-runs allows 200: nothing was cancelled"
GUARDRAIL: dict[str, Any] = {"stop_cause": "guardrail", "exit_code": 3}


def told(
    tmp_path: Path,
    *outcomes: Outcome,
    error: tuple[str, str] | None = None,
    evidence: dict[str, Any] | None = None,
    **facts: Any,  # noqa: ANN401  # JSON values
) -> tuple[str, list[str], list[Step]]:
    """The headline, what went wrong, and the steps."""

    async def fill(ledger: Ledger) -> None:
        await set_facts(ledger, **facts)
        target = await add_target(ledger, complete=error is None)
        if error is not None:
            ledger.set_target_error(target, *error)
        for at, outcome in enumerate(outcomes):
            if outcome in (Outcome.NOT_ATTEMPTED, Outcome.WOULD_CANCEL):
                await ledger.add_runs(target, [NewRun(a_run("t", str(at)), outcome=outcome)])
            else:
                await cancel(ledger, target, a_run("t", str(at)), outcome, **(evidence or {}))

    with opened(build(tmp_path / "run", fill)) as document:
        wrong = [f"{each.place} {each.what} {each.detail or ''}".strip() for each in troubles(document)]
        return headline(document).text, wrong, list(next_steps(document, Path("runs/x")))


def test_a_dry_run_is_followed_by_the_same_command_without_its_flag(tmp_path: Path) -> None:
    _, _, steps = told(tmp_path, Outcome.WOULD_CANCEL, command=RUN, **OTHERWISE)
    (step,) = steps
    assert step.command is not None
    words = shlex.split(step.command)
    # --out names a directory that holds a ledger by now, and would be refused
    assert words == [word for word in shlex.split(RUN) if word not in ("--dry-run", "--out", "runs/x")]
    assert "critical *" in words


@pytest.mark.parametrize(
    ("consent", "asking"),
    [
        ("", "after a last question"),
        ("--yes ", "without a question, since it says --yes"),
        ("--confirm-count 1 ", "without a question, since it says --confirm-count"),
        ("--confirm-count=1 ", "without a question, since it says --confirm-count"),
    ],
)
def test_whether_the_next_command_asks_is_said(tmp_path: Path, consent: str, asking: str) -> None:
    command = f"batch-cancel run --discover {consent}--dry-run"
    _, _, (step,) = told(tmp_path, Outcome.WOULD_CANCEL, command=command, **OTHERWISE)
    assert step.text == f"Cancel, {asking}: the same command without --dry-run:"


@pytest.mark.parametrize("source", ["--manifest -", "sweep.yaml"])
@pytest.mark.parametrize(
    ("consent", "consent_next"), [("", " --confirm-count 1"), (" --yes", " --yes"), (" --confirm-count 9",) * 2]
)
def test_a_manifest_from_standard_input_has_to_come_again_and_nobody_can_be_asked(
    tmp_path: Path, source: str, consent: str, consent_next: str
) -> None:
    facts = OTHERWISE | {"source": {"kind": "manifest", "path": "-"}}
    _, _, (step,) = told(
        tmp_path, Outcome.WOULD_CANCEL, command=f"batch-cancel run {source}{consent} --dry-run", **facts
    )
    assert "standard input again" in step.text
    assert "question" not in step.text or consent
    assert step.command == f"batch-cancel run {source}{consent_next}"


@pytest.mark.parametrize("option", ["--plan-out 'my plan.json'", "'--plan-out=my plan.json'"])
def test_a_plan_is_followed_by_its_apply(tmp_path: Path, option: str) -> None:
    command = f"batch-cancel plan --discover {option} --out x"
    _, _, steps = told(tmp_path, Outcome.WOULD_CANCEL, command=command, **OTHERWISE)
    assert [step.command for step in steps] == ["batch-cancel apply 'my plan.json'"]


@pytest.mark.parametrize("command", [None, "batch-cancel run sweep.yaml", "python -m x", "batch-cancel run 'x"])
def test_where_the_command_is_not_known_none_is_made_up(tmp_path: Path, command: str | None) -> None:
    _, _, steps = told(tmp_path, Outcome.WOULD_CANCEL, command=command, **OTHERWISE)
    assert steps == [Step("To cancel, run the same sweep without --dry-run.")]


@pytest.mark.parametrize("outcome", [Outcome.WOULD_CANCEL, Outcome.NOT_ATTEMPTED])
def test_a_refused_dry_run_names_the_guardrail_and_no_command(tmp_path: Path, outcome: Outcome) -> None:
    facts = OTHERWISE | GUARDRAIL | {"command": RUN, "refusal": MAX_RUNS, "refused_by": Guardrail.MAX_RUNS}
    text, wrong, steps = told(tmp_path, outcome, **facts)
    assert text.endswith("A guardrail would refuse: 435 runs would be cancelled, and max-runs allows 200.")
    assert wrong == []
    assert [step.command for step in steps] == [None]
    assert "--max-runs" in steps[0].text


def test_a_no_is_no_trouble(tmp_path: Path) -> None:
    facts: dict[str, Any] = {
        "refusal": "not confirmed: nothing was cancelled",
        "refused_by": Guardrail.QUESTION,
        "exit_code": 2,
        "command": RUN.replace(" --dry-run", ""),
    }
    text, wrong, steps = told(tmp_path, Outcome.NOT_ATTEMPTED, Outcome.NOT_ATTEMPTED, **facts)
    assert text == "Not confirmed: nothing was cancelled."
    assert wrong == []
    (step,) = steps
    assert step.command == "batch-cancel run --discover --protect-transform 'critical *' --max-runs 9 --profile prod"


@pytest.mark.parametrize(
    ("by", "why", "source", "hint"),
    [
        (Guardrail.MAX_RUNS, MAX_RUNS, "manifest", "raise --max-runs"),
        (
            Guardrail.MAX_PERCENT,
            "9 of 10 active runs would be cancelled, and max-percent allows 80 %: nothing was cancelled",
            "x",
            "raise --max-p",
        ),
        (
            Guardrail.CONFIRM_COUNT,
            "1,435 runs would be cancelled, and --confirm-count expects 3: nothing was cancelled",
            "x",
            "confirm-count 1.",
        ),
        (
            Guardrail.ALLOW_ACCOUNTS,
            "account 1 is not among the allowed accounts (2): nothing was cancelled",
            "x",
            "--allow-account",
        ),
        (
            Guardrail.MEANT_ACCOUNT,
            "the credentials for 1/x belong to account 2: nothing was cancelled",
            "discovery",
            "Use the profile or role",
        ),
        (
            Guardrail.MEANT_ACCOUNT,
            "the credentials for 1/x belong to account 2: nothing was cancelled",
            "plan",
            "Apply the plan with credentials",
        ),
        (Guardrail.PLAN, "the plan was applied before; nothing was cancelled", "plan", "Make a new plan"),
    ],
)
def test_each_refusal_has_the_advice_that_fits_it(
    tmp_path: Path, by: Guardrail, why: str, source: str, hint: str
) -> None:
    facts = GUARDRAIL | {
        "refusal": why,
        "refused_by": by,
        "source": {"kind": source},
        "command": "batch-cancel run --yes",
    }
    text, wrong, steps = told(tmp_path, Outcome.NOT_ATTEMPTED, **facts)
    assert text == f"Refused: {why[: why.index('nothing') - 2]}. Nothing was cancelled."
    assert wrong == []
    assert [step.command for step in steps] == [None]
    assert hint in steps[0].text


def test_a_refusal_after_requests_does_not_say_that_nothing_was_cancelled(tmp_path: Path) -> None:
    """A resumed sweep can be refused when an earlier process of it has cancelled some."""
    facts = GUARDRAIL | {"refusal": "the credentials for 1/x belong to account 2: nothing was cancelled"}
    text, wrong, steps = told(tmp_path, Outcome.STOPPED, Outcome.NOT_ATTEMPTED, **facts)
    assert text == (
        "Stopped early: the credentials for 1/x belong to account 2. 1 of 2 runs is, or may be, still running."
    )
    assert wrong == ["222222222222/us-east-1 1 not attempted"]
    assert [step.command for step in steps] == ["batch-cancel resume runs/x"]


@pytest.mark.parametrize(
    ("code", "policy", "renew", "cause"),
    [
        ("AccessDeniedException", True, False, "access was denied"),
        ("ExpiredTokenException", False, True, "credentials were missing, expired or not let in"),
        ("NoCredentialsError", False, False, "credentials were missing, expired or not let in"),
        ("UnrecognizedClientException", False, True, "credentials were missing, expired or not let in"),
    ],
)
def test_a_missing_right_is_no_matter_of_fresh_credentials(
    tmp_path: Path, code: str, policy: bool, renew: bool, cause: str
) -> None:
    facts: dict[str, Any] = {"stop_cause": "credentials", "exit_code": 4}
    text, _, steps = told(tmp_path, Outcome.NOT_ATTEMPTED, error=(code, "no"), **facts)
    assert text.startswith(f"Stopped early: {cause}. 1 of 1 run is")
    assert (steps[0].command == "batch-cancel iam-policy") is policy
    assert any("Renew the credentials" in step.text for step in steps) is renew
    assert steps[-1].command == "batch-cancel resume runs/x"


def test_an_audit_that_was_denied_needs_the_policy_for_audits(tmp_path: Path) -> None:
    _, _, steps = told(tmp_path, error=("AccessDenied", "no"), **OTHERWISE)
    assert [step.command for step in steps] == ["batch-cancel iam-policy --audit"]


def test_where_nothing_was_found_the_headline_counts_no_runs(tmp_path: Path) -> None:
    text, _, _ = told(tmp_path, error=("AccessDenied", "no"), stop_cause="credentials", exit_code=4)
    assert text == ("Stopped early: access was denied. 1 target is in trouble, so what still runs there is not known.")


def test_an_error_that_was_got_over_is_no_reason_for_what_came_after(tmp_path: Path) -> None:
    outcomes = [Outcome.STUCK_STOPPING, Outcome.STUCK_STOPPING]
    _, wrong, _ = told(tmp_path, *outcomes, evidence={"error_code": "ReadTimeoutError", "error_message": "no answer"})
    assert wrong == ["222222222222/us-east-1 2 stuck stopping"]


def test_what_kept_a_run_from_being_read_is_a_reason(tmp_path: Path) -> None:
    evidence = {"error_code": "AccessDeniedException", "error_message": "GetMLTaskRun: no", "confirmed_at": None}
    _, wrong, steps = told(tmp_path, Outcome.STUCK_STOPPING, evidence=evidence)
    assert wrong == ["222222222222/us-east-1 1 stuck stopping AccessDeniedException: GetMLTaskRun: no"]
    assert steps[0].command == "batch-cancel iam-policy"


def test_without_credentials_the_step_says_how_to_get_some(tmp_path: Path) -> None:
    def steps(code: str) -> list[str]:
        return [step.text for step in told(tmp_path / code, error=(code, "no"), **OTHERWISE)[2]]

    (none,) = steps("NoCredentialsError")
    assert none.startswith("There are no credentials. Log in (aws sso login, aws configure), name a profile")
    assert "Name a profile" in steps("ProfileNotFound")[0]
    assert "access key id and the secret key" in steps("PartialCredentialsError")[0]
    assert steps("ExpiredToken") == ["Renew the credentials."]


@pytest.mark.parametrize("mode", ["cancel", "dry-run"])
def test_an_endpoint_that_is_not_reached_is_to_be_checked(tmp_path: Path, mode: str) -> None:
    refused = "EndpointConnectionError", "Could not connect"
    step = (
        "Check that 222222222222/us-east-1 can be reached: the endpoint (AWS_ENDPOINT_URL, --endpoint-url), the region,"
        " a proxy, the network."
    )
    assert told(tmp_path / "listing", error=refused, mode=mode)[2][0].text == step
    evidence = dict(zip(("error_code", "error_message"), refused, strict=True))
    assert told(tmp_path / "runs", Outcome.UNKNOWN, evidence=evidence, mode=mode)[2][0].text == step

    async def fill(ledger: Ledger) -> None:
        await set_facts(ledger, mode=mode)
        target = await add_target(ledger)
        await cancel(ledger, target, a_run("t", "r"), Outcome.UNKNOWN, **evidence)
        ledger.count_calls([(target, "GetMLTaskRun", 1, 2, 0, 1, 0, None)])  # one of two was answered

    with opened(build(tmp_path / "answered", fill)) as document:
        assert not [each for each in next_steps(document, Path("x")) if "reached" in each.text]


def test_where_nobody_could_be_asked_who_we_are_the_credentials_are_not_what_is_wrong(tmp_path: Path) -> None:
    error = "EndpointConnectionError", "who we are there could not be found out: Could not connect"
    text, _, steps = told(tmp_path, Outcome.NOT_ATTEMPTED, error=error, stop_cause="credentials", exit_code=4)
    assert text.startswith("Stopped early: whose account it is could not be found out.")
    assert "can be reached" in steps[0].text
    assert not any("credentials" in step.text for step in steps)


def test_where_a_certificate_is_not_trusted_the_step_says_how_to_name_one_s_own(tmp_path: Path) -> None:
    error = "SSLError", "SSL validation failed: self-signed certificate in certificate chain"
    evidence = dict(zip(("error_code", "error_message"), error, strict=True))
    for steps in (
        told(tmp_path / "listing", error=error)[2],
        told(tmp_path / "runs", Outcome.UNKNOWN, evidence=evidence)[2],
    ):
        assert steps[0].text.startswith("Check the certificate of the endpoint of 222222222222/us-east-1.")
        assert steps[0].text.endswith("AWS_CA_BUNDLE, or --ca-bundle of a new sweep.")
        assert not any("can be reached" in step.text for step in steps)


def test_a_run_that_a_dry_run_could_not_read_is_not_told_as_asked_for(tmp_path: Path) -> None:
    async def fill(ledger: Ledger) -> None:
        await set_facts(ledger, mode="dry-run")
        await cancel(ledger, await add_target(ledger), a_run("t", "r"), Outcome.UNKNOWN)

    with opened(build(tmp_path / "run", fill)) as document:
        assert meaning(document, Outcome.UNKNOWN).startswith("it could not be read")


def test_a_killed_sweep_says_what_is_not_known_and_how_to_go_on(tmp_path: Path) -> None:
    async def fill(ledger: Ledger) -> None:
        await set_facts(ledger, finished_at=None, exit_code=None)
        target = await add_target(ledger)
        await ledger.add_runs(target, [NewRun(a_run("t", str(at))) for at in range(3)])
        await ledger.writer.commit([("UPDATE runs SET state = 'claimed' WHERE task_run_id = '1'", ())])

    with opened(build(tmp_path / "run", fill)) as document:
        assert headline(document).text == (
            "The sweep did not end: it was killed or cut short. 3 of 3 runs are, or may be, still running."
        )
        wrong = [(each.what, each.detail) for each in troubles(document)]
        assert wrong[0] == ("1 unknown", "it is not known whether its request was sent; resume reads it back first")
        assert refusal(document) is None
        assert [step.command for step in next_steps(document, Path("a run"))] == ["batch-cancel resume 'a run'"]


@pytest.mark.parametrize("mode", ["cancel", "dry-run"])
def test_a_sweep_at_work_is_said_to_be_and_is_not_to_be_resumed(tmp_path: Path, mode: str) -> None:
    async def looked_at() -> tuple[str, list[Step]]:
        ledger = Ledger.create(tmp_path / "run")
        await set_facts(ledger, finished_at=None, exit_code=None, mode=mode)
        await ledger.add_runs(await add_target(ledger), [NewRun(a_run("t", "1"))])
        with opened(tmp_path / "run") as document:
            told = headline(document).text, list(next_steps(document, tmp_path / "run"))
        await ledger.close()
        return told

    text, steps = asyncio.run(looked_at())
    assert "still at work" in text and not steps
    with opened(tmp_path / "run") as document:  # now its process is gone
        assert "killed or cut short" in headline(document).text
        assert list(next_steps(document, tmp_path / "run"))


def test_what_a_sweep_at_work_has_still_to_do_is_no_trouble(tmp_path: Path) -> None:
    async def looked_at() -> tuple[list[str], list[str]]:
        ledger = Ledger.create(tmp_path / "run")
        await set_facts(ledger, finished_at=None, exit_code=None)
        await ledger.add_runs(await add_target(ledger), [NewRun(a_run("t", str(at))) for at in range(2)])
        await ledger.writer.commit([("UPDATE runs SET state = 'claimed' WHERE task_run_id = '1'", ())])
        with opened(tmp_path / "run") as document:
            told = [meaning(document, outcome) for outcome in document.outcomes], [t.what for t in troubles(document)]
        await ledger.close()
        return told

    means, wrong = asyncio.run(looked_at())
    assert means == ["a request is being made, or what came of it is being read", "no request was made yet"]
    assert wrong == []


@pytest.mark.parametrize(("mode", "outcomes"), [("cancel", []), ("dry-run", [Outcome.WOULD_CANCEL])])
def test_what_resume_cannot_take_up_starts_anew(tmp_path: Path, mode: str, outcomes: list[Outcome]) -> None:
    facts: dict[str, Any] = {
        "finished_at": None,
        "exit_code": None,
        "mode": mode,
        "command": "batch-cancel run x.yaml --out=y --dry-run",
    }
    text, _, steps = told(tmp_path, *outcomes, **facts)
    assert "resume" not in text
    assert [step.command for step in steps] == ["batch-cancel run x.yaml --dry-run"]


def test_a_plan_that_was_tried_is_followed_by_its_apply(tmp_path: Path) -> None:
    _, _, steps = told(tmp_path, Outcome.WOULD_CANCEL, command="batch-cancel apply p.json --dry-run", **OTHERWISE)
    assert [step.command for step in steps] == ["batch-cancel apply p.json"]


@pytest.mark.parametrize("command", ["run audit.yaml --dry-run", "run audit.yaml", "plan audit.yaml --plan-out p"])
def test_a_sweep_file_that_never_cancels_is_followed_by_no_command(tmp_path: Path, command: str) -> None:
    settings = to_json(Settings(source=DiscoverySource(), dry_run=True, dry_run_only=True))
    facts = OTHERWISE | {"command": f"batch-cancel {command}", "settings": settings}
    _, _, steps = told(tmp_path, Outcome.WOULD_CANCEL, **facts)
    assert [step.command for step in steps] == [None]
    assert "dry_run: true" in steps[0].text


def of_targets(
    tmp_path: Path,
    *rows: tuple[Target, str | None, str],
    **facts: Any,  # noqa: ANN401  # JSON values
) -> tuple[str, list[str], list[Step]]:
    """As ``told``, of targets of which each had a trouble, or (None) was just not listed; one run was found."""

    async def fill(ledger: Ledger) -> None:
        await set_facts(ledger, source={"kind": "discovery"}, **facts)
        for number, (target, code, message) in enumerate(rows):
            target_id = await ledger.add_target(target)
            if code is not None:
                ledger.set_target_error(target_id, code, message)
            if number == 0:
                await ledger.add_runs(target_id, [NewRun(a_run("t", "0"), outcome=Outcome.STOPPED)])

    with opened(build(tmp_path / "run", fill)) as document:
        wrong = [f"{each.place} {each.what} {each.detail or ''}".strip() for each in troubles(document)]
        return headline(document).text, wrong, list(next_steps(document, Path("runs/x")))


def entered(account: str, region: str = "us-east-1") -> Target:
    return Target(region, account, Access(role_arn=f"arn:aws:iam::{account}:role/team/BatchCancel"))


def test_targets_with_the_same_trouble_are_told_together(tmp_path: Path) -> None:
    why = ("UnrecognizedClientException", f"{REGION_NOT_ENABLED}; in the service's words: no.")
    closed = [(entered(f"{number}" * 12, "eu-south-1"), *why) for number in range(2, 7)]
    denied = [(entered("7" * 12, region), "AccessDenied", "AssumeRole: no") for region in ("us-east-1", "eu-south-1")]
    _, wrong, _ = of_targets(tmp_path, *closed, *denied, command="batch-cancel run --discover --yes")
    first = "222222222222/eu-south-1, 333333333333/eu-south-1, 444444444444/eu-south-1 and 2 more"
    assert wrong == [
        f"{first} not read to the end {why[0]}: {why[1]}",
        "777777777777/us-east-1, 777777777777/eu-south-1 not read to the end AccessDenied: AssumeRole: no",
    ]


def test_a_region_that_is_not_enabled_needs_no_fresh_credentials(tmp_path: Path) -> None:
    command = "batch-cancel run --discover --region eu-south-1 --yes --out x"
    target = Target("eu-south-1", "222222222222")
    told = f"{REGION_NOT_ENABLED}; in the service's words: The security token is invalid."
    refused = (target, "UnrecognizedClientException", told)
    _, wrong, steps = of_targets(tmp_path, refused, command=command)
    assert wrong == [f"222222222222/eu-south-1 not read to the end UnrecognizedClientException: {told}"]
    assert [step.text.partition(",")[0] for step in steps] == [
        "Enable the region eu-south-1 in 222222222222",
        "Then sweep again",
    ]
    assert steps[-1].command == "batch-cancel run --discover --region eu-south-1 --yes"


def test_a_role_that_lets_nobody_in_is_told_apart_from_one_that_lacks_a_right(tmp_path: Path) -> None:
    _, _, steps = of_targets(
        tmp_path,
        (entered("444444444444"), "AccessDenied", "AssumeRole: not authorized to perform: sts:AssumeRole"),
        (entered("444444444444", "eu-west-1"), "AccessDenied", "AssumeRole: not authorized to perform: sts:AssumeRole"),
        (entered("666666666666"), "AccessDeniedException", "ListMLTransforms: no"),
        command="batch-cancel run --discover --yes",
    )
    assert [step.command for step in steps] == [
        "batch-cancel iam-policy",
        "batch-cancel iam-policy --no-glue --assume-role BatchCancel",
        "batch-cancel run --discover --yes",
    ]
    assert "the role BatchCancel in 666666666666" in steps[0].text
    assert "the trust policy of the role BatchCancel in 444444444444" in steps[1].text
    assert steps[2].text.startswith("Then sweep again, for what runs in 444444444444/us-east-1,")


def test_roles_of_many_accounts_are_told_apart_without_comparing_each_target_with_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compared(row: TargetRow, other: object) -> bool:
        raise AssertionError(f"{row.target} was compared: at 17,000 targets that takes minutes")

    monkeypatch.setattr(TargetRow, "__eq__", compared)
    words = "AssumeRole: not authorized to perform: sts:AssumeRole"
    _, _, steps = of_targets(tmp_path, *((entered(f"{number:012}"), "AccessDenied", words) for number in range(5)))
    assert "in 5 accounts" in steps[0].text


def test_units_that_cannot_be_looked_up_need_a_policy_of_their_own(tmp_path: Path) -> None:
    words = "no (looking up units needs organizations:ListParents, in the management account)"
    _, _, steps = of_targets(tmp_path, (Target("*"), "AccessDeniedException", words))
    assert [step.command for step in steps] == ["batch-cancel iam-policy --no-glue --organization", None]


def test_what_a_stop_left_unread_is_no_trouble_to_be_mended(tmp_path: Path) -> None:
    rows = [(Target("us-east-1", "222222222222"), None, ""), (Target("eu-west-1", "222222222222"), None, "")]
    text, wrong, steps = of_targets(tmp_path, *rows, stop_cause="interrupted", exit_code=130)
    assert text == (
        "Stopped early: it was interrupted. No run that was found is still running."
        " There may be more: 2 of 2 targets were not read to the end."
    )
    assert wrong == ["222222222222/us-east-1, 222222222222/eu-west-1 not read to the end: it was interrupted"]
    assert [step.command for step in steps] == ["batch-cancel resume runs/x"]


def test_a_refusal_before_targets_were_read_is_no_trouble_of_theirs(tmp_path: Path) -> None:
    async def fill(ledger: Ledger) -> None:
        why = "account 222222222222 is not among the allowed accounts: nothing was cancelled"
        await set_facts(ledger, **GUARDRAIL, refusal=why, refused_by=Guardrail.ALLOW_ACCOUNTS)
        await add_target(ledger, complete=False)

    with opened(build(tmp_path / "run", fill)) as document:
        assert list(troubles(document)) == []


def test_a_dry_run_of_several_targets_says_where_most_are(tmp_path: Path) -> None:
    async def fill(ledger: Ledger) -> None:
        await set_facts(ledger, **OTHERWISE)
        for at, region in enumerate(("us-east-1", "eu-west-1", "eu-north-1")):
            target = await add_target(ledger, region)
            runs = [NewRun(a_run("t", f"{region}{number}"), outcome=Outcome.WOULD_CANCEL) for number in range(at)]
            await ledger.add_runs(target, runs)

    with opened(build(tmp_path / "run", fill)) as document:
        assert headline(document).text == (
            "Dry run: 3 runs in 2 targets (1 account, 2 regions; most in 222222222222/eu-north-1: 2)"
            " would be cancelled; nothing was."
        )
