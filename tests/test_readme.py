"""The README says what is so: its commands are ones that the program takes, its tables are the program's own."""

import re
import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from batch_cancel.cli import COMMANDS, batch_cancel
from batch_cancel.cli.settings_from import settings_from
from batch_cancel.core.errors import UsageError
from batch_cancel.core.outcome import Outcome
from batch_cancel.s3_inputs import is_in_s3
from batch_cancel.simulator.scenarios import scenario_names
from tests.readme import README, written

ROOT = README.parent
TEXT = README.read_text(encoding="utf-8")
LINE = re.compile(r"(?:^|[|`$]\s*)((?:batch-cancel|make) [^`\n|]*)", re.MULTILINE)


def command_lines(text: str) -> list[str]:
    """Every command line of ours in a text, without its comment."""
    return [re.split(r"\s{2,}#|\s>", line)[0].strip() for line in LINE.findall(text)]


def epilogs() -> str:
    commands = (batch_cancel.get_command(click.Context(batch_cancel), name) for name in COMMANDS)
    return "\n".join(re.sub(r"(?m)^ +", "", command.epilog or "") for command in commands if command)


def takes(line: str) -> None:
    """Raise unless the program takes these arguments, and they go together; nothing is carried out."""
    words = shlex.split(line, comments=True)[1:]
    if len(words) < 2 or words[0] == "COMMAND":  # a mention, not a line to type
        return
    context = click.Context(batch_cancel)
    if words[0].startswith("-"):
        assert words[0] in ("--help", "--version")
        return
    command = batch_cancel.get_command(context, words[0])
    assert command is not None, f"there is no command {words[0]}"
    if "--help" not in words:
        arguments = [word.removesuffix("...") for word in words[1:]]
        context = command.make_context(words[0], arguments, resilient_parsing=False)
        if words[0] in ("run", "plan") and not is_in_s3(str(context.params["sweep_file"])):
            settings_from(context)


README_LINES = [line for line in command_lines(TEXT) if line.startswith("batch-cancel ")]
HELP_LINES = [line for line in command_lines(epilogs()) if line.startswith("batch-cancel ")]
CONFIG_LINES = [
    line
    for path in sorted((ROOT / "configs").glob("*.yaml"))
    for line in command_lines(re.sub(r"(?m)^#\s*", "", path.read_text(encoding="utf-8")))
    if line.startswith("batch-cancel ")
]


def test_there_are_lines_to_look_at() -> None:
    assert len(README_LINES) > 20 and len(HELP_LINES) > 20 and len(CONFIG_LINES) > 10


@pytest.mark.parametrize("line", sorted({*README_LINES, *HELP_LINES, *CONFIG_LINES}))
def test_a_command_line_that_is_shown_is_one_that_is_taken(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    takes(line)


def test_a_line_that_the_program_does_not_take_is_found_out() -> None:
    with pytest.raises(click.UsageError):
        takes("batch-cancel run --discver")
    with pytest.raises(click.UsageError):  # words that a shell would hand over
        takes("batch-cancel apply plan.json --dry-run   what would it do now?")
    with pytest.raises(UsageError):
        takes("batch-cancel run --discover --until-clear")


def test_every_make_target_that_is_named_is_there() -> None:
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8")))
    assert set(re.findall(r"[`$] ?make ([a-z-]+)", TEXT)) <= targets


def test_the_generated_parts_are_up_to_date() -> None:
    assert written(TEXT) == TEXT, "python -m tests.readme writes them anew"


def test_every_outcome_and_exit_code_is_explained() -> None:
    rows = re.findall(r"(?m)^\| `?([a-z_]+|[0-9, ]+)`? \|", TEXT)
    assert {str(outcome) for outcome in Outcome} <= set(rows)
    assert {"0", "1", "2", "3", "4", "5", "130, 143"} <= set(rows)


def test_every_file_that_is_named_is_there() -> None:
    named = set(re.findall(r"(?:configs|\.github)/[\w./-]*\w", TEXT))
    assert named and all((ROOT / name).exists() for name in named)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_examples(name: str) -> None:
    shown = CliRunner().invoke(batch_cancel, [name, "--help"])
    assert shown.exit_code == 0
    assert "Example" in shown.output


def test_scenarios_that_are_named_exist() -> None:
    named = set(re.findall(r"--scenario ([a-z-]+)\b(?![/.])", TEXT + epilogs()))
    assert named <= {*scenario_names(), "configs", "drills"}


def test_pictures_are_there() -> None:
    assert all(Path(ROOT / picture).stat().st_size > 10_000 for picture in re.findall(r"\]\((\.github/[^)]*)\)", TEXT))
