"""What of report.html can be checked without a browser; test_browser.py has the rest."""

import io
import re
from datetime import timedelta
from pathlib import Path

import pytest

from batch_cancel.core.outcome import TROUBLE_FIRST, Outcome
from batch_cancel.core.selection import Selection
from batch_cancel.ledger.ledger import Ledger, NewRun
from batch_cancel.report import html
from batch_cancel.report.files import opened
from batch_cancel.report.html import KINDS, number, shown, write_html
from batch_cancel.report.story import MEANING
from batch_cancel.settings import DiscoverySource, Endpoint, ManifestSource, Settings, TargetSettings, Verify, to_json
from tests.report.ledgers import START, a_run, add_target, build, cancel, every_outcome, set_facts


def page_of(directory: Path) -> str:
    with opened(directory) as document:
        out = io.StringIO()
        write_html(document, directory, out)
    return out.getvalue()


def test_every_outcome_has_a_meaning_a_kind_and_a_place() -> None:
    assert set(Outcome) == set(MEANING) == set(KINDS) == set(TROUBLE_FIRST)


def test_the_page_names_no_address_but_its_own_parts(tmp_path: Path) -> None:
    page = page_of(build(tmp_path / "run", every_outcome))
    assert set(re.findall(r'(?:src|href)="([^#][^"]*)"', page)) == {"data:,"}
    assert not re.search(r"@import|url\(", page)


def test_no_id_can_end_the_block_of_rows(tmp_path: Path) -> None:
    page = page_of(build(tmp_path / "run", every_outcome))
    assert page.count("<script") == page.count("</script") == 4
    blocks = re.findall('(?s)<script type="application/json"[^>]*>(.*?)</script>', page)
    assert [set("<>&\u2028\u2029") & set(block) for block in blocks] == [set(), set(), set()]


def test_our_script_cannot_end_or_hide_itself() -> None:
    script = html._asset("report.js")
    assert "</script" not in script
    assert "<!--" not in script
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|fetch\(|new Function", script)


def test_texts_from_outside_are_isolated_and_their_unseen_characters_named() -> None:
    assert shown("a<b>\u202e\x00&") == (
        '<bdi>a&lt;b&gt;<span class="unseen">U+202E</span><span class="unseen">U+0000</span>&amp;</bdi>'
    )
    assert shown(None) == ""
    assert shown("\udcff") == "<bdi>?</bdi>"


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "\N{EN DASH}"), (0, "0"), (1234, "1,234"), (2.0, "2.0"), (1234.56, "1,234.6"), (1234567.8, "1,234,568")],
)
def test_numbers_read_well(value: float | None, text: str) -> None:
    assert number(value) == text


def test_settings_are_shown_without_what_lets_one_in(tmp_path: Path) -> None:
    settings = Settings(
        source=ManifestSource(path="runs.csv"),
        targets=(TargetSettings(role_arn="arn:aws:iam::222222222222:role/R", external_id="open-sesame"),),
        selection=Selection(transform_names=("dedupe-*",), older_than=timedelta(hours=36)),
        verify=Verify(timeout_seconds=90.5),
        endpoint=Endpoint(url="https://me:open-sesame@proxy.example/path"),
    )

    async def fill(ledger: Ledger) -> None:
        await set_facts(ledger, settings=to_json(settings))

    page = page_of(build(tmp_path / "run", fill))
    assert "open-sesame" not in page
    shown_settings = dict(re.findall(r"<dt><bdi>([^<]*)</bdi></dt><dd><bdi>([^<]*)</bdi></dd>", page))
    assert shown_settings["targets[1].role_arn"] == "arn:aws:iam::222222222222:role/R"
    assert shown_settings["targets[1].external_id"] == "(hidden)"
    assert shown_settings["endpoint.url"] == "https://proxy.example/path"
    assert shown_settings["endpoint.verify_ssl"] == "yes"
    assert shown_settings["selection.transform_names"] == "dedupe-*"
    assert shown_settings["selection.statuses"] == "STARTING, RUNNING"
    assert shown_settings["selection.older_than"] == "36h"
    assert shown_settings["verify.timeout_seconds"] == "90.5"


def test_a_whole_number_of_the_settings_is_shown_as_one(tmp_path: Path) -> None:
    async def fill(ledger: Ledger) -> None:
        await set_facts(
            ledger, settings=to_json(Settings(source=DiscoverySource(), verify=Verify(timeout_seconds=120.0)))
        )

    assert "<dt><bdi>verify.timeout_seconds</bdi></dt><dd><bdi>120</bdi></dd>" in page_of(build(tmp_path / "run", fill))


@pytest.mark.parametrize(("rps", "far"), [(12.0, False), (4000.0, True)])
def test_a_pace_that_the_chart_leaves_out_is_looked_for_in_the_table(rps: float, far: bool, tmp_path: Path) -> None:
    async def fill(ledger: Ledger) -> None:
        target = await add_target(ledger)
        ledger.count_calls([(target, "CancelMLTaskRun", second, 10, 0, 0, 0, rps) for second in (1, 2)])
        await ledger.writer.commit()

    page = page_of(build(tmp_path / "run", fill))
    assert ("pace allowed far above: see the table" in page) is far
    assert ("pace allowed for cancel requests" in page) is not far
    assert f"<td>{rps:,.1f}</td>" in page


def test_each_rule_that_left_runs_alone_leads_to_them(tmp_path: Path) -> None:
    page = page_of(build(tmp_path / "run", every_outcome))
    card = page.split('<h2 id="rules">Left alone</h2>')[1].split("</section>")[0]
    assert 'href="#outcome=excluded&amp;q=protect%3A%20tag%20protected%3Dtrue"' in card
    assert "<bdi>protect: tag protected=true</bdi>" in card
    assert '<td class="num">1</td>' in card


def test_what_does_not_fit_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fill(ledger: Ledger) -> None:
        await set_facts(ledger)
        target = await add_target(ledger)
        await ledger.add_runs(target, [NewRun(a_run("t", f"ok-{at}"), outcome=Outcome.STOPPED) for at in range(7)])
        await ledger.add_runs(target, [NewRun(a_run("t", "bad"), outcome=Outcome.FAILED)])

    monkeypatch.setattr(html, "MOST_ROWS", 5)
    monkeypatch.setattr(html, "_BATCH", 2)
    page = page_of(build(tmp_path / "run", fill))
    assert "5 of 8 runs are in this page, trouble first; report.csv has them all." in page
    block = re.search('(?s)id="data">(.*?)</script>', page)
    assert block is not None
    assert re.findall('"((?:ok|bad)[^"]*)"', block[1]) == ["bad", "ok-0", "ok-1", "ok-2", "ok-3"]


def test_words_past_the_limit_stand_in_their_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(html, "MOST_WORDS", 3)
    page = page_of(build(tmp_path / "run", every_outcome))
    words = re.search('id="words">(.*?)</script>', page)
    assert words is not None
    assert words[1].count('"') == 6
    assert '"tfm-ten"' in page[page.index('id="data"') : page.index('id="words"')]


def test_where_runs_come_from_and_who_was_left_out_is_told(tmp_path: Path) -> None:
    async def fill(ledger: Ledger) -> None:
        await set_facts(
            ledger,
            source={"kind": "plan", "path": "plan.json", "digest": "sha256:abc"},
            left_out=[{"account_id": "333333333333", "code": "SUSPENDED", "message": "closed on Monday"}],
        )
        await add_target(ledger)

    directory = build(tmp_path / "run", fill)
    page = page_of(directory)
    assert "<bdi>plan plan.json</bdi>" in page
    assert "<bdi>sha256:abc</bdi>" in page
    assert "SUSPENDED: closed on Monday" in page
    with opened(directory) as document:
        assert document.summary()["digest"] == "sha256:abc"
        assert [account["account_id"] for account in document.summary()["left_out"]] == ["333333333333"]


def test_runs_are_in_as_many_targets_as_have_any(tmp_path: Path) -> None:
    async def fill(ledger: Ledger) -> None:
        await set_facts(ledger)
        await cancel(ledger, await add_target(ledger), a_run("t", "r"), Outcome.STOPPED)
        await add_target(ledger, "eu-west-1")

    page = page_of(build(tmp_path / "run", fill))
    assert '<dt>runs</dt><dd class="value">1</dd><dd class="note">in 1 of 2 targets</dd>' in page


def test_a_time_has_as_many_digits_wherever_it_stands(tmp_path: Path) -> None:
    async def fill(ledger: Ledger) -> None:
        await set_facts(ledger)
        target = await add_target(ledger)
        for at in range(9):
            seen = START.timestamp() + 3.2 + 0.065 * at
            await cancel(ledger, target, a_run("t", str(at)), Outcome.STOPPED, confirmed_at=seen)

    page = page_of(build(tmp_path / "run", fill))
    assert '<dd class="value">3.5 s</dd>' in page  # 3.46
    assert "STOPPED: half within 3.5 s, 95 % within 3.7 s." in page
    assert "9 runs stopped: half within 3.5 s, 95 % within 3.7 s, the last after 3.7 s." in page
    assert ">half: 3.5 s<" in page


def test_a_figure_of_what_runs_says_what_was_not_looked_at(tmp_path: Path) -> None:
    async def fill(ledger: Ledger) -> None:
        await set_facts(ledger)
        await add_target(ledger)
        await add_target(ledger, "eu-west-1", complete=False)

    page = page_of(build(tmp_path / "run", fill))
    assert (
        '<dt>are, or may be, running</dt><dd class="value">0 known</dd>'
        '<dd class="note">1 target unread: more may run</dd>'
    ) in page
