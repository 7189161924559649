"""The README's pictures, made by the program itself: ``python -m tests.pictures`` plays the demo and looks at it.

The live view is what a terminal of 100 columns shows in the middle of the sweep; the report is what Chromium shows.
"""

import io
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from batch_cancel.simulator.scenarios import find_scenario
from tests.cli.terminal import Terminal
from tests.endpoints import Endpoint, served

PICTURES = Path(__file__).parent.parent / ".github" / "pictures"
SCENARIO = "demo"
COLUMNS, ROWS = 100, 24
RUN_DIRECTORY = Path("batch-cancel-runs", "first-look")
LOOK_AT_SECONDS = 6.0
CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")
STEP = re.compile(r"\x1b\[(\d*)([AJK])|(\r)|(\n)|((?:\x1b\[[\d;]*m|[^\x1b\r\n])+)")


def main() -> None:
    """Make both pictures."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    scenario = find_scenario(SCENARIO)
    with tempfile.TemporaryDirectory() as folder, served(scenario.world, Path(folder)) as endpoint:
        arguments = shlex.split(scenario.command)[1:]
        with chdir(folder):  # a reader's run directory is named as it is there, and not by a place of this machine
            lines = _live_view(endpoint, arguments)
        with _browser() as browser:
            _photograph_terminal(browser, f"$ {scenario.command}", lines, PICTURES / "live-view.png")
            page = browser.new_page(viewport={"width": 1200, "height": 1000})
            page.goto((Path(folder) / RUN_DIRECTORY / "report.html").as_uri())
            page.screenshot(path=str(PICTURES / "report.png"))
    sys.stdout.write(f"{PICTURES}: {', '.join(sorted(path.name for path in PICTURES.iterdir()))}\n")


def _live_view(endpoint: Endpoint, arguments: list[str]) -> list[str]:
    """The terminal's lines, colours and all, in the middle of a sweep; the sweep is let end."""
    with Terminal(COLUMNS, ROWS) as terminal:
        process = terminal.start(
            "-m",
            "batch_cancel",
            *arguments,
            "--out",
            str(RUN_DIRECTORY),
            env=endpoint.environment,
        )
        until = time.monotonic() + LOOK_AT_SECONDS
        while time.monotonic() < until:
            terminal._read(0.1)
        lines = _lines(terminal.text)
        while process.poll() is None:
            terminal._read(0.1)
        process.communicate(timeout=10)
    return lines


def _lines(written: str) -> list[str]:
    """What stands on the screen, each line with its colours; frames are drawn line by line, which makes it easy."""
    lines, row = [""], 0
    for step in STEP.finditer(written):
        number, control, carriage_return, newline, text = step.groups()
        if control == "A":
            row = max(0, row - int(number or 1))
        elif control == "J":
            lines[row:] = [""]
        elif newline:
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif text:
            lines[row] = text
        assert control in (None, "A", "J", "K") or carriage_return
    return lines


def _photograph_terminal(browser: Browser, command: str, lines: list[str], path: Path) -> None:
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text.from_ansi("\n".join([command, *lines]).rstrip()), soft_wrap=True)
    page = browser.new_page(viewport={"width": 980, "height": 200}, device_scale_factor=1.5)
    page.set_content(console.export_html(theme=MONOKAI, inline_styles=True))
    page.add_style_tag(
        content="body {margin: 0; padding: 12px 18px; width: max-content} pre {font-size: 14px; margin: 0}"
    )
    page.locator("body").screenshot(path=str(path))


@contextmanager
def _browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


if __name__ == "__main__":
    if not Path(CHROMIUM).exists():
        sys.exit(f"{CHROMIUM} is needed: install Debian's chromium")
    try:
        main()
    except subprocess.TimeoutExpired as error:
        sys.exit(f"the sweep did not end: {error}")
