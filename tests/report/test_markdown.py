import io
import re
from html import unescape
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from batch_cancel.core.outcome import Outcome
from batch_cancel.core.task_run import Transform
from batch_cancel.ledger.ledger import Ledger, NewRun
from batch_cancel.report import markdown
from batch_cancel.report.files import opened
from batch_cancel.report.markdown import LARGEST_BYTES, MOST_ROWS, write_markdown
from tests.report.ledgers import ODD_IDS, a_run, add_target, build, came_back, cancel, every_outcome, set_facts


def markdown_of(directory: Path) -> str:
    with opened(directory) as document:
        out = io.StringIO()
        write_markdown(document, directory, out)
    return out.getvalue()


def test_trouble_stands_before_what_went_well(tmp_path: Path) -> None:
    text = markdown_of(build(tmp_path / "run", every_outcome))
    assert text.startswith("## ❌ batch-cancel: `nightly`\n\n**Not all is stopped: 37 of 42 runs are")
    headings = re.findall("^### .*|<summary>.*?</summary>", text, re.MULTILINE)
    assert headings[:8] == [
        *("### What went wrong", "### Next", "### Left alone", "### In figures", "### What started meanwhile"),
        *(
            "<summary>15 runs of later sweeps</summary>",
            "<summary>Targets (2)</summary>",
            "<summary>1 run failed</summary>",
        ),
    ]
    assert text.index("| failed |") < text.index("| stopped |")
    assert "\n| rule | runs |\n|---|---|\n| `protect: tag protected=true` | 1 |\n" in text


def test_a_figure_has_as_many_digits_wherever_it_stands(tmp_path: Path) -> None:
    async def fill(ledger: Ledger) -> None:
        await set_facts(ledger)
        target = await add_target(ledger)
        ledger.add_transforms(target, [Transform("t", max_capacity=10.0)])
        await cancel(ledger, target, a_run("t", "r", hours=6.00816), Outcome.STOPPED)

    text = markdown_of(build(tmp_path / "run", fill))
    [figure] = re.findall(r"Estimated (\S+) DPU-hours", text)
    assert f"| 1 stopped | {figure} |" in text


def test_nothing_from_outside_becomes_markup(tmp_path: Path) -> None:
    html = MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(
        markdown_of(build(tmp_path / "run", every_outcome))
    )
    tags = set(re.findall(r"</?([a-z0-9]+)", html))
    assert tags == {
        *("h2", "h3", "p", "strong", "table", "thead", "tbody", "tr", "th", "td", "code", "pre", "ul", "li"),
        *("details", "summary", "sub"),
    }
    for row in re.findall("<tr>(.*?)</tr>", html, re.DOTALL):
        assert len(re.findall("<t[dh]", row)) in (2, 3, 6, 7)  # no id made a cell of its own


def test_ids_come_out_of_the_renderer_as_they_are(tmp_path: Path) -> None:
    html = MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(
        markdown_of(build(tmp_path / "run", every_outcome))
    )
    codes = {unescape(code) for code in re.findall("<code>(.*?)</code>", html)}
    shown = {odd for odd in ODD_IDS if odd.isprintable()}
    assert len(shown) > 8
    assert codes >= shown
    assert r"\u202egnp.exe\u202c \u200f\u2067\u2028\u2029" in codes


@example(["`a", "a`", " a "])
@example([" ", "``", "a\\|b"])
@given(
    st.lists(
        st.text(st.sampled_from("`|\\ <&>@:*_~$[]()!#ab\n\u202e😀") | st.characters(codec="utf-8"), min_size=1).map(
            lambda text: text[:40]
        ),
        min_size=3,
        max_size=3,
    )
)
def test_any_text_is_one_piece_of_code_in_a_table_and_outside(texts: list[str]) -> None:
    cells = [markdown.foreign(text) for text in texts]
    source = f"a {cells[0]} b\n\n| x | y | z |\n|---|---|---|\n| {' | '.join(cells)} |\n"
    html = MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(source)
    wanted = [
        "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)
        for text in texts
    ]
    assert [unescape(code) for code in re.findall("<code>(.*?)</code>", html)] == [wanted[0], *wanted]
    assert set(re.findall(r"</?([a-z0-9]+)", html)) == {"p", "code", "table", "thead", "tbody", "tr", "th", "td"}
    assert html.count("<td>") == 3


def test_ids_and_types_stand_as_they_are(tmp_path: Path) -> None:
    text = markdown_of(build(tmp_path / "run", every_outcome))
    assert "| `FIND_MATCHES` |" in text
    assert "`arn:aws:sts::222222222222:assumed-role/BatchCancel/sweep`" in text
    assert "````comma,semi" not in text
    assert "&#95;" not in text.replace("&#95;it&#95;", "")


def test_what_came_back_is_a_folded_list(tmp_path: Path) -> None:
    text = markdown_of(build(tmp_path / "run", came_back))
    part = text.split("### What came back\n")[1].split("</details>")[0]
    assert "3 runs found by later sweeps: 1 active again, 2 started meanwhile." in part
    assert "<details><summary>3 runs of later sweeps</summary>" in part
    assert re.findall(r"^\| (\d) \| ([a-z ]+) \|", part, re.MULTILINE) == [
        ("3", "active again"),
        ("2", "started meanwhile"),
        ("3", "started meanwhile"),
    ]


def test_links_and_mentions_are_taken_apart() -> None:
    assert markdown.escaped("see https://x and www.x.org, @team :tada: <b>") == (
        "see https&#58;//x and www&#46;x.org, &#64;team &#58;tada: &#60;b&#62;"
    )


def test_a_command_stays_whole_whatever_the_directory(tmp_path: Path) -> None:
    text = markdown_of(build(tmp_path / "a```b\n# c", every_outcome))
    assert "````sh\nbatch-cancel resume '" in text
    assert "\n# c" not in text


def test_long_lists_are_cut_with_a_count(tmp_path: Path) -> None:
    async def fill(ledger: Ledger) -> None:
        await set_facts(ledger)
        target = await add_target(ledger)
        runs = [NewRun(a_run("t", f"tsk-{at}"), outcome=Outcome.FAILED) for at in range(MOST_ROWS + 7)]
        await ledger.add_runs(target, runs)

    text = markdown_of(build(tmp_path / "run", fill))
    assert text.count("`tsk-") == MOST_ROWS
    assert "… and 7 more, in report.json and report.csv." in text
    assert text.count("<details>") == text.count("</details>") == 2


@pytest.mark.parametrize("outcomes", [5, 8])
def test_it_never_grows_past_what_github_takes(tmp_path: Path, outcomes: int) -> None:
    async def fill(ledger: Ledger) -> None:
        await set_facts(ledger)
        target = await add_target(ledger)
        for number, outcome in enumerate(list(Outcome)[2 : 2 + outcomes]):
            runs = [
                NewRun(a_run("&" * 255, f"{number}-{at}" + "😀" * 240), outcome=outcome, rule="x")
                for at in range(MOST_ROWS)
            ]
            await ledger.add_runs(target, runs)

    text = markdown_of(build(tmp_path / "run", fill))
    assert LARGEST_BYTES - 20_000 < len(text.encode()) < LARGEST_BYTES
    assert text.count("<details>") == text.count("</details>")
    assert "see report.csv." in text
    assert text.rstrip().endswith("</sub>")


def test_an_empty_sweep_is_short(tmp_path: Path) -> None:
    async def fill(ledger: Ledger) -> None:
        await set_facts(ledger, name=None, exit_code=0)
        await add_target(ledger)

    text = markdown_of(build(tmp_path / "run", fill))
    assert text.startswith("## ✅ batch-cancel: `20261124T101500Z-4f2a`\n\n**Nothing to do: ")
    assert "###" not in text
