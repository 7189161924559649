"""Flags beat the environment, which beats the sweep file; what does not go together is refused with a way out."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from batch_cancel.cli import batch_cancel
from batch_cancel.cli.grouped import GroupedCommand
from batch_cancel.cli.options import resume_options, sweep_options
from batch_cancel.cli.settings_from import Output, output_from, renewed, settings_from
from batch_cancel.core.errors import BatchCancelError
from batch_cancel.core.task_run import Status
from batch_cancel.settings import (
    Consent,
    DiscoverySource,
    Endpoint,
    ManifestFormat,
    ManifestSource,
    MaxErrors,
    Rate,
    ReportFormat,
    Settings,
    TargetSettings,
    Verify,
)

HERE = TargetSettings()


class Run:
    """A command with the options, and what it made of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.settings = Settings(source=DiscoverySource())
        self.output: Output | None = None
        self.monkeypatch = monkeypatch
        self.folder = folder

        @click.command(cls=GroupedCommand)
        @sweep_options
        @click.pass_context
        def command(ctx: click.Context, /, **_: Any) -> None:  # noqa: ANN401
            self.settings = settings_from(ctx)
            self.output = output_from(ctx)

        self.command = command

    def __call__(self, *arguments: str, sweep: str | None = None, env: dict[str, str] | None = None) -> Settings:
        if sweep is not None:
            path = self.folder / "sweep.yaml"
            path.write_text(sweep)
            arguments = (str(path), *arguments)
        result = CliRunner().invoke(self.command, list(arguments), env=env)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        return self.settings

    def refused(self, *arguments: str, sweep: str | None = None, env: dict[str, str] | None = None) -> str:
        try:
            self(*arguments, sweep=sweep, env=env)
        except BatchCancelError as error:
            assert error.exit_code == 2
            return str(error)
        except AssertionError as error:  # click's own refusal, which ended the command with its message
            return str(error)
        raise AssertionError(f"{arguments} was not refused")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    return Run(monkeypatch, tmp_path)


def test_the_least_that_can_be_said(run: Run) -> None:
    nothing_said = Endpoint(variables={})
    assert run("--discover") == Settings(source=DiscoverySource(), endpoint=nothing_said)
    assert run("--manifest", "runs.csv") == Settings(source=ManifestSource(path="runs.csv"), endpoint=nothing_said)
    assert run.output == Output(
        directory=None, form="text", progress=True, quiet=False, verbose=False, log_format="text", color=True
    )


def test_everything_that_can_be_said(run: Run, tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.touch()
    words = (
        "--discover --region us-east-1 --region eu-west-1 --profile a --profile b --transform-id t "
        "--transform-name d-* --tag env=dev --tag env=test --tag x== --status RUNNING --task-type EVALUATION "
        "--older-than 6h --newer-than 2d --protect-transform p --protect-tag keep= --max-runs 5 "
        "--max-percent 50% --allow-account 222222222222 --max-errors 5% --confirm-count 0 "
        "--rps 2.5 --max-concurrency 9 --max-attempts 3 --deadline 10m "
        "--wait-timeout 1m --ignore-not-found --report json,md,json --reason why --endpoint-url http://[::1]:80 "
        f"--ca-bundle {bundle} --out d --output json --no-progress --verbose --log-format json --no-color"
    )
    settings = run(*words.split())
    assert settings.targets == tuple(
        TargetSettings(profile=profile, regions=("us-east-1", "eu-west-1")) for profile in ("a", "b")
    )
    selection = settings.selection
    assert (selection.transform_ids, selection.transform_names) == (("t",), ("d-*",))
    assert selection.tags == {"env": ("dev", "test"), "x": ("=",)}
    assert (selection.statuses, selection.task_types) == ((Status.RUNNING,), ("EVALUATION",))
    assert (selection.older_than, selection.newer_than) == (timedelta(hours=6), timedelta(days=2))
    assert settings.protection.transforms == ("p",)
    assert settings.protection.tags == {"keep": ("",)}
    assert settings.guardrails.max_runs == 5
    assert settings.guardrails.max_percent == 50
    assert settings.guardrails.allow_accounts == ("222222222222",)
    assert settings.guardrails.max_errors == MaxErrors(percent=5)
    assert settings.consent == Consent(confirm_count=0)
    assert settings.rate == Rate(rps=2.5, max_concurrency=9)
    assert settings.retry.max_attempts == 3
    assert settings.retry.deadline_seconds == 600
    assert settings.verify == Verify(timeout_seconds=60)
    assert settings.ignore_not_found
    assert settings.report.formats == (ReportFormat.JSON, ReportFormat.MD)
    assert settings.reason == "why"
    assert settings.endpoint == Endpoint(url="http://[::1]:80", ca_bundle=str(bundle))
    assert run.output == Output(
        directory=Path("d"), form="json", progress=False, quiet=False, verbose=True, log_format="json", color=False
    )


def test_manifest_options(run: Run) -> None:
    source = run("--manifest", "-", "--manifest-format", "jsonl", "--skip-invalid", "--yes").source
    assert source == ManifestSource(path="-", format=ManifestFormat.JSONL, skip_invalid=True)


def test_the_list_that_the_environment_names_may_have_blanks_in_its_name(run: Run) -> None:
    env = {"BATCH_CANCEL_MANIFEST": "my runs.csv"}
    assert run(env=env).source == ManifestSource(path="my runs.csv")
    assert run("--manifest", "others.csv", env=env).source == ManifestSource(path="others.csv")


def test_a_flag_beats_the_environment_which_beats_the_sweep_file(run: Run) -> None:
    sweep = "source: discovery\nguardrails: {max_runs: 1}\nrate: {rps: 1}\nverify: {timeout: 1m}\n"
    env = {"BATCH_CANCEL_MAX_RUNS": "2", "BATCH_CANCEL_RPS": "2"}
    settings = run("--max-runs", "3", sweep=sweep, env=env)
    assert (settings.guardrails.max_runs, settings.rate.rps, settings.verify.timeout_seconds) == (3, 2, 60)
    assert run("--rps", "auto", sweep=sweep).rate.rps is None
    assert run("--manifest", "a.csv", sweep=sweep).source == ManifestSource(path="a.csv")
    assert run("--discover", env={"BATCH_CANCEL_MANIFEST": "a.csv"}).source == DiscoverySource()
    assert run(sweep="name: x", env={"BATCH_CANCEL_MANIFEST": "a.csv"}).source == ManifestSource(path="a.csv")
    assert run("--no-wait", sweep=sweep).verify == Verify(wait=False, timeout_seconds=60)
    assert not run("--discover", env={"BATCH_CANCEL_WAIT": "false"}).verify.wait
    regions = run("--discover", env={"BATCH_CANCEL_REGION": "us-east-1 eu-west-1"}).targets[0].regions
    assert regions == ("us-east-1", "eu-west-1")


def test_of_options_that_exclude_each_other_a_flag_beats_the_environment(run: Run, tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("")
    ca = {"BATCH_CANCEL_CA_BUNDLE": str(bundle)}
    assert run("--discover", "--no-verify-ssl", env=ca).endpoint == Endpoint(variables={}, verify_ssl=False)
    off = {"BATCH_CANCEL_NO_VERIFY_SSL": "1"}
    assert run("--discover", "--ca-bundle", str(bundle), env=off).endpoint == Endpoint(
        variables={}, ca_bundle=str(bundle)
    )
    assert "exclude each other" in run.refused("--discover", env=ca | off)
    arn = "arn:aws:iam::222222222222:role/x"
    role = ("--role-name", "y", "--account-id", "1" * 12)
    by_name = TargetSettings(role_name="y", accounts=("1" * 12,))
    assert run("--discover", *role, env={"BATCH_CANCEL_ROLE_ARN": arn}).targets == (by_name,)
    named = {"BATCH_CANCEL_ROLE_NAME": "y", "BATCH_CANCEL_ACCOUNT_ID": "1" * 12}
    assert run("--discover", "--role-arn", arn, env=named).targets == (TargetSettings(role_arn=arn),)
    assert "exclude each other" in run.refused("--discover", env=named | {"BATCH_CANCEL_ROLE_ARN": arn})


def test_a_sweep_file_that_is_a_dry_run_stays_one(run: Run) -> None:
    sweep = "source: discovery\ndry_run: true"
    assert run(sweep=sweep).dry_run
    for consent in (("--yes",), ("--confirm-count", "3")):
        assert f"leave out {consent[0]}" in run.refused(*consent, sweep=sweep)


def test_an_error_about_a_value_of_the_environment_names_its_variable(run: Run) -> None:
    typed, of_variable = (
        "Invalid value for '--max-runs': 'abc'",
        "Invalid value for BATCH_CANCEL_MAX_RUNS ('--max-runs'",
    )
    assert of_variable in run.refused("--discover", env={"BATCH_CANCEL_MAX_RUNS": "abc"})
    assert typed in run.refused("--discover", "--max-runs", "abc", env={"BATCH_CANCEL_MAX_RUNS": "abd"})
    both = {"BATCH_CANCEL_MANIFEST": "a.csv", "BATCH_CANCEL_DISCOVER": "1"}
    assert run.refused(env=both) == (
        "--manifest and --discover exclude each other: give one of them"
        " (--manifest comes from BATCH_CANCEL_MANIFEST, --discover comes from BATCH_CANCEL_DISCOVER)"
    )
    assert run.refused("--discover", "--account-id", "222222222222").endswith("the role to assume in each account")


def test_consent_is_not_taken_from_the_environment(run: Run) -> None:
    env = {"BATCH_CANCEL_YES": "1", "BATCH_CANCEL_CONFIRM_COUNT": "3"}
    assert run("--discover", env=env).consent == Consent()


def test_a_flag_never_takes_protection_away(run: Run) -> None:
    sweep = "source: discovery\nprotect: {transform_names: [a], transform_ids: [b], tags: {k: v}}\n"
    protection = run("--protect-transform", "x", "--protect-tag", "k=w", "--protect-tag", "l=m", sweep=sweep).protection
    assert protection.transforms == ("x",)
    assert (protection.transform_names, protection.transform_ids) == (("a",), ("b",))
    assert protection.tags == {"k": ("v", "w"), "l": ("m",)}


def test_where_to_sweep(run: Run) -> None:
    two = "source: discovery\ntargets: [{profile: a, regions: [us-east-1]}, {profile: b, regions: all}]\n"
    assert run("--region", "eu-west-1", sweep=two).targets == (
        TargetSettings(profile="a", regions=("eu-west-1",)),
        TargetSettings(profile="b", regions=("eu-west-1",)),
    )
    assert run("--profile", "c", sweep=two).targets == (
        TargetSettings(profile="c", regions=("us-east-1",)),
        TargetSettings(profile="c", regions="all"),
    )
    assert run("--discover", "--region", "all").targets == (TargetSettings(regions="all"),)
    arns = [f"arn:aws:iam::{digit * 12}:role/x" for digit in "12"]
    assert run("--discover", "--role-arn", arns[0], "--role-arn", arns[1], "--external-id", "ab").targets == tuple(
        TargetSettings(role_arn=arn, external_id="ab") for arn in arns
    )
    accounts = ("--account-id", "1" * 12, "--account-id", "2" * 12, "--role-name", "path/x")
    assert run("--discover", *accounts).targets == (TargetSettings(accounts=("1" * 12, "2" * 12), role_name="path/x"),)
    assert run("--region", "us-east-1", sweep="source: discovery\ntargets: []").targets == ()
    assert run("--discover").targets == (HERE,)


def test_skipping_can_be_added_to_a_sweep_file_s_manifest(run: Run) -> None:
    source = run("--skip-invalid", sweep="source: {manifest: runs.csv}").source
    assert isinstance(source, ManifestSource)
    assert source.skip_invalid


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "which runs? Give --manifest FILE, or --discover, or a sweep file"),
        ("--manifest a.csv --discover", "--manifest and --discover exclude each other"),
        ("--manifest a.csv --manifest b.csv", "a sweep reads one list"),
        ("--manifest a.txt", "'.txt' is not known"),
        ("--manifest -", "--manifest-format"),
        ("--manifest a --manifest-format xml", "'xml'"),
        ("--discover --skip-invalid", "--skip-invalid is about a manifest"),
        ("--discover --manifest-format csv", "--manifest-format is about a manifest"),
        ("runs.csv", "for a list of runs write --manifest runs.csv"),
        ("none.yaml", "there is no such file"),
        ("--discover --yes --confirm-count 3", "--yes and --confirm-count exclude each other"),
        ("--discover --no-wait --wait-timeout 5m", "--no-wait and --wait-timeout exclude each other"),
        ("--discover --until-clear", "--until-clear needs --yes"),
        ("--discover --until-clear --confirm-count 3", "--until-clear needs --yes"),
        ("--manifest a.csv --until-clear --yes", "it needs --discover"),
        ("--discover --until-clear --yes --dry-run", "--until-clear and --dry-run exclude each other"),
        ("--discover --until-clear --yes --no-wait", "it needs --wait"),
        ("--discover --quiet --verbose", "--quiet and --verbose exclude each other"),
        ("--discover --account-id 111111111111", "--account-id needs --role-name"),
        ("--discover --role-name x", "--role-name needs --account-id"),
        ("--discover --external-id ab", "--external-id needs"),
        ("--discover --role-arn arn:aws:iam::222222222222:role/x --role-name y --account-id 222222222222", "exclude"),
        ("--discover --region all --region us-east-1", "give all alone"),
        ("--discover --region us-esat-1", "did you mean 'us-east-1'?"),
        ("--discover --region us-east-1,eu-west-1", "is no region: name each of several by itself"),
        ("--discover --role-arn x", "is not a role's ARN"),
        ("--discover --account-id 1", "is not twelve digits"),
        ("--discover --allow-account 1", "is not twelve digits"),
        ("--discover --endpoint-url localhost:1", "is not an address"),
        ("--discover --endpoint-url http://x:99999", "is not an address"),
        ("--discover --endpoint-url http://me:open-sesame@x", "holds a user's name or password"),
        ("--discover --ca-bundle none.pem", "there is no file"),
        ("--discover --tag env", "is not KEY=VALUE"),
        ("--discover --tag =x", "is not KEY=VALUE"),
        ("--discover --status STOPPED", "choose from STARTING, RUNNING"),
        ("--discover --status running", "did you mean 'RUNNING'?"),
        ("--discover --task-type X", "unknown task type"),
        ("--discover --older-than 6", "'6' has no unit"),
        ("--discover --older-than -6h", "is negative"),
        ("--discover --older-than 6h --newer-than 6h", "no run is older than 6h and newer than 6h"),
        ("--discover --max-runs 0", "0 is less than 1"),
        ("--discover --max-runs -5", "-5 is less than 1"),
        ("--discover --max-runs 1.5", "is not a whole number"),
        ("--discover --max-percent 0", "greater than zero"),
        ("--discover --max-percent 101", "more than 100"),
        ("--discover --max-percent x", "not a number of percent"),
        ("--discover --max-errors -1", "neither a count"),
        ("--discover --max-errors 101%", "more than 100%"),
        ("--discover --confirm-count -1", "less than 0"),
        ("--discover --rps 0", "greater than zero"),
        ("--discover --rps -1", "greater than zero"),
        ("--discover --rps nan", "greater than zero"),
        ("--discover --rps inf", "greater than zero"),
        ("--discover --rps fast", "neither auto nor"),
        ("--discover --max-concurrency 0", "less than 1"),
        ("--discover --max-concurrency 99999", "more than 10,000"),
        ("--discover --max-attempts 0", "less than 1"),
        ("--discover --deadline 0s", "is zero"),
        ("--discover --wait-timeout 10", "has no unit"),
        ("--discover --report pdf", "unknown report format 'pdf'"),
        ("--discover --transform-id " + "x" * 256, "at most 255"),
    ],
)
def test_what_does_not_go_is_refused(run: Run, words: str, said: str) -> None:
    assert said in run.refused(*words.split()).replace("\n", " ")


def test_certificates_that_the_environment_names_have_to_be_there(run: Run, tmp_path: Path) -> None:
    none = {"AWS_CA_BUNDLE": str(tmp_path / "none.pem")}
    assert run.refused("--discover", env=none) == f"AWS_CA_BUNDLE: there is no file '{tmp_path / 'none.pem'}'"
    (tmp_path / "ca.pem").touch()
    run("--discover", "--ca-bundle", str(tmp_path / "ca.pem"), env=none)
    run("--discover", "--no-verify-ssl", env=none)


def test_what_stands_where_a_sweep_file_belongs_is_told_its_own_place(run: Run) -> None:
    (run.folder / "cost-control.yaml").touch()
    (run.folder / "runs").mkdir()
    (run.folder / "runs" / "ledger.db").touch()
    run.monkeypatch.chdir(run.folder)
    for words, said in [
        ("--region us-east-1 eu-west-1", "eu-west-1: there is no such file; for a region write --region eu-west-1"),
        ("discover", "discover: there is no such file; did you mean --discover?"),
        ("no-wait", "did you mean --no-wait?"),
        ("cost-contrl.yml", "cost-contrl.yml: there is no such file; did you mean 'cost-control.yaml'?"),
        ("none/cost-control.yaml", "none/cost-control.yaml: there is no such file"),
        ("runs", "runs is a run directory: batch-cancel resume runs goes on"),
    ]:
        assert said in run.refused(*words.split())


def test_empty_words_are_refused(run: Run) -> None:
    for option in ("--profile", "--region", "--transform-name", "--protect-transform", "--reason", "--out", "--report"):
        assert run.refused("--discover", option, "")


@pytest.mark.parametrize(
    ("sweep", "words", "said"),
    [
        ("name: x", "", "names no source"),
        ("source: discovery\nverify: {wait: false}", "--wait-timeout 5m", "add --wait"),
        ("source: discovery", "--until-clear", "--until-clear needs --yes"),
        ("source: {manifest: a.csv}", "--until-clear --yes", "it needs --discover"),
        ("source: discovery\nverify: {wait: false}", "--until-clear --yes", "it needs --wait"),
        ("source: discovery\nselect: {older_than: 6h}", "--newer-than 1h", "no run is older"),
        ("nonsense: 1", "", "unknown key"),
    ],
)
def test_flags_and_sweep_file_that_do_not_go_together(run: Run, sweep: str, words: str, said: str) -> None:
    assert said in run.refused(*words.split(), sweep=sweep)


def test_a_sweep_that_goes_on_may_go_another_way() -> None:
    before = Settings(source=DiscoverySource(), rate=Rate(rps=1, max_concurrency=2), verify=Verify(timeout_seconds=60))
    after: list[Settings] = []

    @click.command()
    @resume_options
    @click.pass_context
    def command(ctx: click.Context, /, **_: Any) -> None:  # noqa: ANN401
        after.append(renewed(before, ctx))
        output_from(ctx)

    words = "--rps auto --deadline 5m --no-wait --max-attempts 9 --quiet"
    assert CliRunner().invoke(command, words.split()).exit_code == 0
    assert CliRunner().invoke(command, []).exit_code == 0
    assert after[0].rate == Rate(rps=None, max_concurrency=2)
    assert after[0].retry.deadline_seconds == 300
    assert after[0].verify == Verify(wait=False, timeout_seconds=60)
    assert after[1] == before


def test_help_shows_the_groups(run: Run) -> None:
    text = CliRunner().invoke(run.command, ["--help"]).output
    groups = "Source Scope Endpoint Select Protect Guardrails Consent Rate Retry Verify Incident Output".split()  # noqa: SIM905
    places = [text.index(f"{group}:\n") for group in groups]
    assert places == sorted(places)


# -- completion -------------------------------------------------------------------------------------------------------


def offered(*typed: str) -> list[str]:
    """What a shell is offered for the last word, at the program's own command line."""
    return [
        item.value for item in ShellComplete(batch_cancel, {}, "x", "x").get_completions(list(typed[:-1]), typed[-1])
    ]


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (("run", "--task-type", "FIND"), ["FIND_MATCHES"]),
        (("run", "--status", ""), ["STARTING", "RUNNING"]),
        (("run", "--report", ""), ["json", "csv", "md", "html"]),
        (("run", "--report", "json,h"), ["json,html"]),
        (("plan", "--region", "eu-west-"), ["eu-west-1", "eu-west-2", "eu-west-3"]),
        (("run", "--region", "al"), ["all"]),
        (("iam-policy", "--region", "cn-"), ["cn-north-1", "cn-northwest-1"]),
        (("demo", "--scenario", "out"), ["outage"]),
        (("simulate", "--scenario", "inc"), ["incident"]),
        (("simulate", "--scenario", "./o"), ["./o"]),
        (("run", "--reason", ""), []),
    ],
)
def test_a_shell_is_offered_what_is_known(typed: tuple[str, ...], words: list[str]) -> None:
    assert offered(*typed) == words


def test_the_help_of_plan_lists_no_option_that_has_no_say_there() -> None:
    shown = CliRunner().invoke(batch_cancel, ["plan", "--help"]).output
    options = shown[: shown.index("Examples:")]
    assert "--plan-out" in options and "--confirm-count" in options
    assert not re.search("--yes|--dry-run|--until-clear|--ignore-not-found", options)
    assert "Save the plan only if it names exactly N runs." in options and "without asking" not in options


def test_the_help_of_apply_offers_no_consent_as_it_asks_nothing(tmp_path: Path) -> None:
    shown = CliRunner().invoke(batch_cancel, ["apply", "--help"]).output
    options = shown[: shown.index("Examples:")]
    assert options.startswith("Usage: batch-cancel apply [OPTIONS] PLAN.json\n")
    assert "--dry-run" in options and "--yes" not in options and "without asking" not in options
    none = str(tmp_path / "none.json")
    taken = CliRunner().invoke(batch_cancel, ["apply", none, "--yes"])  # as in scripts that were written before
    assert "cannot be read" in str(taken.exception)
    assert "Cancel without asking" in CliRunner().invoke(batch_cancel, ["run", "--help"]).output


def test_a_placeholder_is_spelt_alike_wherever_it_stands() -> None:
    shown = {name: CliRunner().invoke(batch_cancel, [name, "--help"]).output for name in ("demo", "simulate")}
    assert all("--scenario NAME_OR_FILE" in text for text in shown.values())


def test_a_sweep_file_in_s3_is_called_by_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fetched(outbox: object, uri: str, folder: Path) -> Path:
        (folder / "a.yaml").write_text("version: 1\nname: nightly\n")
        return folder / "a.yaml"

    monkeypatch.setattr("batch_cancel.cli.settings_in_s3.fetch", fetched)
    result = CliRunner().invoke(batch_cancel, ["run", "s3://ops-reports/a.yaml", "--yes"])
    assert str(result.exception).startswith("s3://ops-reports/a.yaml names no source")
