"""report.html as Debian's Chromium shows it. Needs chromium; a machine without it deselects ``-m "not browser"``."""

import csv
import json
import re
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]  # it ships no types
from playwright.sync_api import Browser, Dialog, Locator, Page, ViewportSize, expect, sync_playwright

from batch_cancel.core.outcome import Outcome
from batch_cancel.core.task_run import TaskRun
from batch_cancel.ledger.ledger import Ledger, NewRun
from batch_cancel.report.document import RUN_FIELDS
from batch_cancel.report.files import write_reports
from batch_cancel.report.html import shown
from batch_cancel.settings import ReportFormat
from tests.report.ledgers import ODD_IDS, a_run, add_target, build, came_back, every_outcome, many, set_facts

pytestmark = pytest.mark.browser

UNKNOWN = "\N{EN DASH}"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
SIZE: ViewportSize = {"width": 1280, "height": 900}
HOSTILE = f"</script><img src=x onerror=alert(1)>{'x' * 20}"

Open = Callable[..., Page]


def _few(count: int) -> Callable[[Ledger], Any]:
    async def fill(ledger: Ledger) -> None:
        await set_facts(ledger, exit_code=0)
        target = await add_target(ledger)
        runs = [NewRun(a_run("t", f"tsk-{at}"), outcome=Outcome.STOPPED) for at in range(count)]
        await ledger.add_runs(target, runs)

    return fill


async def _hostile_facts(ledger: Ledger) -> None:
    await set_facts(
        ledger, name=HOSTILE, reason="{{ 7*7 }} <b>", sweep_id="<i>", refusal=HOSTILE, source={"kind": HOSTILE}
    )
    target = await add_target(ledger, "<u>")
    ledger.set_target_error(target, HOSTILE, HOSTILE)
    await ledger.add_runs(target, [NewRun(TaskRun(HOSTILE, HOSTILE), rule=HOSTILE, labels={HOSTILE: HOSTILE})])


FILLS: dict[str, Callable[[Ledger], Any]] = {
    "full": every_outcome,
    "back": came_back,
    "hostile": _hostile_facts,
    "0": _few(0),
    "1": _few(1),
    "3": _few(3),
    "long": lambda ledger: many(ledger, 2_500),
}


class Reports:
    """Run directories with their report.html, each made when a test first asks for it."""

    def __init__(self, root: Path, hundred_thousand: Callable[[], Path]) -> None:
        self.root = root
        self._hundred_thousand = hundred_thousand
        self._made: dict[str, Path] = {}

    def __getitem__(self, name: str) -> Path:
        if name not in self._made:
            with ThreadPoolExecutor(1) as elsewhere:  # Playwright's event loop runs in this thread
                self._made[name] = elsewhere.submit(self._make, name).result()
        return self._made[name]

    def _make(self, name: str) -> Path:
        directory = self._hundred_thousand() if name == "many" else build(self.root / name, FILLS[name])
        write_reports(directory, [ReportFormat.HTML])
        return directory


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory, hundred_thousand: Callable[[], Path]) -> Reports:
    return Reports(tmp_path_factory.mktemp("browser"), hundred_thousand)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    path = shutil.which("chromium")
    assert path, "these tests need chromium: apt-get install chromium, or pytest -m 'not browser'"
    expect.set_options(timeout=15_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


class Tabs:
    """A tab for each set of options, used by one test after the other: a new one costs three times what a page does."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._open: dict[tuple[tuple[str, Any], ...], Page] = {}

    def __call__(self, **options: Any) -> Page:  # noqa: ANN401  # of Playwright
        """The tab, empty and as it was when it was new."""
        key = tuple(sorted(options.items()))
        if key not in self._open:
            self._open[key] = self._browser.new_context(viewport=SIZE, **options).new_page()
            self._open[key].set_default_timeout(10_000)
        page = self._open[key]
        page.goto("about:blank")
        page.set_viewport_size(SIZE)
        page.emulate_media(media="null", color_scheme=options.get("color_scheme", "light"))
        return page


@pytest.fixture(scope="module")
def tabs(chromium: Browser) -> Tabs:
    return Tabs(chromium)


@pytest.fixture
def open_page(tabs: Tabs, reports: Reports) -> Iterator[Open]:
    """Opens a report; at the end nothing may have been said on the console nor asked of any network."""
    said: list[str] = []
    asked: list[str] = []

    def dismiss(dialog: Dialog) -> None:
        said.append(dialog.message)
        dialog.dismiss()

    heard: dict[str, Callable[[Any], None]] = {
        "console": lambda message: said.append(message.text),
        "pageerror": lambda error: said.append(str(error)),
        "dialog": dismiss,
        "request": lambda request: asked.append(request.url),
    }
    pages: list[Page] = []

    def open_report(name: str, address: str = "", *, file: str = "report.html", **options: Any) -> Page:  # noqa: ANN401  # of Playwright
        page = tabs(**options)
        if page not in pages:
            pages.append(page)
            for event, hear in heard.items():
                page.on(event, hear)  # type: ignore[call-overload]  # an overload for each event's name
        page.goto((reports[name] / file).as_uri() + address)
        return page

    yield open_report
    for page in pages:
        for event, hear in heard.items():
            page.remove_listener(event, hear)
    assert said == []
    assert [url for url in asked if not re.match(r"file:.*/report\.html(#.*)?$|blob:", url)] == []


def lines(page: Page) -> Locator:
    return page.locator("#runs tbody tr:not(.unfolded)")


def outcomes(page: Page) -> list[str]:
    return page.locator("#runs tbody .badge").all_text_contents()


def count(page: Page) -> str:
    return page.locator("#count").inner_text()


def wait_for(page: Page, text: str) -> None:
    # wait_for_function would need eval, which the page's policy forbids.
    expect(page.locator("#count")).to_have_text(text)


def test_trouble_stands_first(open_page: Open) -> None:
    page = open_page("full")
    assert count(page) == "43 runs"
    shown_outcomes = outcomes(page)
    assert shown_outcomes[:6] == ["failed", "unknown", "stuck stopping", "denied", "invalid", "not found"]
    assert shown_outcomes[-1] == "excluded"
    headings = page.locator("h2").all_inner_texts()
    assert headings[:3] == ["What went wrong", "What to do next", "Outcomes"]
    assert page.locator(".verdict").inner_text().endswith("37 of 42 runs are, or may be, still running.")
    assert page.locator(".command", has_text="batch-cancel resume").count() == 1


def test_search_finds_ids_names_and_errors(open_page: Open) -> None:
    page = open_page("full")
    page.fill("#q", "TSK-STUCK")
    wait_for(page, "1 of 43 runs")
    assert outcomes(page) == ["stuck stopping"]
    page.fill("#q", "ReadTimeout")
    wait_for(page, "1 of 43 runs")
    expect(page.locator("#runs tbody .badge")).to_have_text("unknown")
    page.fill("#q", "dedupe-customers")
    wait_for(page, "6 of 43 runs")
    page.fill("#q", "no such thing")
    wait_for(page, "0 of 43 runs")
    assert page.locator("#empty").is_visible()
    page.click("#clear")
    wait_for(page, "43 runs")
    assert page.input_value("#q") == ""


def test_filters_narrow_and_combine(open_page: Open) -> None:
    page = open_page("full")
    page.check("#outcome input[value=failed]")
    page.check("#outcome input[value=denied]")
    assert count(page) == "2 of 43 runs"
    assert outcomes(page) == ["failed", "denied"]
    page.select_option("#transform", "tfm-ten")
    assert count(page) == "0 of 43 runs"
    page.uncheck("#outcome input[value=failed]")
    page.uncheck("#outcome input[value=denied]")
    assert count(page) == "6 of 43 runs"
    page.select_option("#type", "FIND_MATCHES")
    assert count(page) == "6 of 43 runs"
    page.select_option("#target", "222222222222/us-east-1")
    assert count(page) == "6 of 43 runs"
    assert "target=222222222222%2Fus-east-1" in page.url


def test_headings_sort_up_down_and_back(open_page: Open) -> None:
    page = open_page("full", "#transform=tfm-five")
    heading = page.locator("th[data-sort=task_run_id]")
    names = ["tsk-denied", "tsk-failed", "tsk-invalid", "tsk-not_found", "tsk-unknown"]
    ids = page.locator("#runs tbody td:nth-child(4)")
    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    assert ids.all_text_contents() == names[:4] + names[4:]
    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    assert ids.all_text_contents() == names[::-1]
    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") is None
    assert ids.all_text_contents()[0] == "tsk-failed"


def test_numbers_sort_as_numbers_and_unknown_ones_come_last(open_page: Open) -> None:
    page = open_page("full", "#sort=-estimated_dpu_hours")
    cells = page.locator("#runs tbody td:last-child").all_text_contents()
    known = [float(cell) for cell in cells if cell != UNKNOWN]
    assert known == sorted(known, reverse=True)
    assert len(known) == 9
    assert set(cells[9:]) == {UNKNOWN}


def test_a_link_brings_the_same_view_back(open_page: Open) -> None:
    page = open_page("full")
    page.check("#outcome input[value=not_attempted]")
    page.fill("#q", "<script>")
    wait_for(page, "2 of 43 runs")
    page.locator("th[data-sort=transform] button").click()
    address = page.locator("#link").get_attribute("href")
    assert address == "#q=%3Cscript%3E&outcome=not_attempted&sort=transform"
    rows = lines(page).all_inner_texts()
    other = open_page("full", address)
    assert other.input_value("#q") == "<script>"
    assert other.is_checked("#outcome input[value=not_attempted]")
    assert lines(other).all_inner_texts() == rows


def test_charts_lead_to_their_runs(open_page: Open) -> None:
    page = open_page("full")
    page.get_by_role("link", name="stuck stopping", exact=True).click()
    wait_for(page, "1 of 43 runs")
    page.get_by_role("link", name="dedupe-customers").click()
    wait_for(page, "6 of 43 runs")
    page.go_back()
    wait_for(page, "1 of 43 runs")


def test_what_went_wrong_leads_to_its_runs(open_page: Open) -> None:
    page = open_page("full")
    wrong = page.locator(".troubles")
    wrong.get_by_role("link", name="222222222222/us-east-1 1 stuck stopping").click()
    wait_for(page, "1 of 43 runs")
    assert outcomes(page) == ["stuck stopping"]
    assert page.input_value("#target") == "222222222222/us-east-1"
    assert wrong.get_by_text("222222222222/eu-west-1").count() == 1  # a target that was not read has no runs to show
    assert wrong.get_by_role("link", name="222222222222/eu-west-1").count() == 0


def test_a_link_that_makes_no_sense_shows_everything(open_page: Open) -> None:
    page = open_page("full", "#outcome=nonsense&page=-3&sort=constructor&%zz=%")
    assert count(page) == "43 runs"


def test_what_is_filtered_downloads_as_the_same_csv(open_page: Open, reports: Reports, tmp_path: Path) -> None:
    page = open_page("full")

    def download() -> list[list[str]]:
        with page.expect_download() as waiting:
            page.click("#download")
        assert waiting.value.suggested_filename == "20261124T101500Z-4f2a-runs.csv"
        waiting.value.save_as(tmp_path / "got.csv")
        with (tmp_path / "got.csv").open(encoding="utf-8", newline="") as stream:
            return list(csv.reader(stream))

    (path,) = write_reports(reports["full"], [ReportFormat.CSV])
    with path.open(encoding="utf-8", newline="") as stream:
        header, *expected = csv.reader(stream)

    def comparable(rows: list[list[str]]) -> list[list[str]]:
        # JavaScript has one kind of number: 2.0 is 2
        numbers = [
            RUN_FIELDS.index(name) for name in ("estimated_dpu_hours", "at_most_dpu_hours", "stopped_after_seconds")
        ]
        return sorted([str(float(c)) if at in numbers and c else c for at, c in enumerate(row)] for row in rows)

    got_header, *got = download()
    assert got_header == header == list(RUN_FIELDS)
    assert comparable(got) == comparable(expected)
    page.check("#outcome input[value=failed]")
    page.check("#outcome input[value=stopped]")
    outcome = RUN_FIELDS.index("outcome")
    assert [row[outcome] for row in download()[1:]] == ["failed", "stopped"]


def test_hostile_ids_are_text(open_page: Open) -> None:
    page = open_page("full")
    for odd in ODD_IDS:
        page.fill("#q", odd)
        address = quote(odd, safe="!'()*~-_.")
        expect(page.locator("#link")).to_have_attribute("href", f"#q={address}")
        lines(page).locator(".toggle").first.click()
        whole = re.sub("<[^>]*>", "", str(shown(odd)))
        texts = page.locator(".unfolded dd").all_text_contents()
        expected = page.evaluate("html => new DOMParser().parseFromString(html, 'text/html').body.textContent", whole)
        assert any(text.endswith(expected) for text in texts), odd
    assert page.locator("img").count() == 0
    assert page.locator("#runs b, #runs a").count() == 0


def test_hostile_names_and_messages_are_text(open_page: Open) -> None:
    for options in ({}, {"java_script_enabled": False}):
        page = open_page("hostile", **options)
        assert page.locator("h1").inner_text() == HOSTILE
        assert "{{ 7*7 }} <b>" in page.locator("header").inner_text()
        assert page.locator("img, header b, u, i").count() == 0
        assert HOSTILE in page.locator(".troubles").inner_text()


def test_marks_that_turn_text_round_are_shown_by_name(open_page: Open) -> None:
    page = open_page("full", "#q=gnp.exe")
    assert page.locator("#runs tbody").inner_text().count("U+202Egnp.exeU+202C") == 3


def test_without_javascript_all_that_matters_is_there(open_page: Open) -> None:
    page = open_page("full", java_script_enabled=False)
    assert page.locator(".verdict").is_visible()
    assert page.locator("svg.chart").count() >= 1
    assert lines(page).count() == 43
    assert not page.locator("#controls").is_visible()
    assert not page.locator("#pages").is_visible()
    assert "need JavaScript" in page.locator("#explorer").inner_text()
    assert page.locator("#runs").inner_text().count("😀" * 255) == 2


def test_a_run_unfolds_by_keyboard(open_page: Open) -> None:
    page = open_page("full")
    toggle = page.locator("#runs .toggle").first
    toggle.focus()
    page.keyboard.press("Enter")
    assert toggle.get_attribute("aria-expanded") == "true"
    names = page.locator(".unfolded dt").all_text_contents()
    assert names == [name.replace("_", " ") for name in RUN_FIELDS if name not in ("rule", "labels")]
    page.keyboard.press("Enter")
    assert page.locator(".unfolded").count() == 0
    page.locator(".skip").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "runs-heading"


def test_a_hundred_thousand_runs_are_paged(open_page: Open) -> None:
    page = open_page("many")
    assert count(page) == "100,000 runs"
    assert lines(page).count() == 100
    assert page.locator("#page").inner_text() == "Page 1 of 1,000"
    page.click("#following")
    assert page.locator("#page").inner_text() == "Page 2 of 1,000"
    assert page.evaluate("document.activeElement.id") == "runs-heading"
    page.fill("#q", f"tsk-{99_999:064x}")
    wait_for(page, "1 of 100,000 runs")
    page.fill("#q", "")
    wait_for(page, "100,000 runs")
    page.locator("th[data-sort=started_on] button").click()
    assert lines(page).count() == 100
    page.check("#outcome input[value=failed]")
    assert count(page) == "2,000 of 100,000 runs"
    with page.expect_download() as waiting:
        page.click("#download")
    assert Path(waiting.value.path()).read_text(encoding="utf-8").count("\n") == 2001
    assert page.evaluate("document.querySelectorAll('*').length") < 5000


@pytest.mark.parametrize("runs", ["0", "1", "3"])
def test_few_runs_make_a_sensible_page(open_page: Open, runs: str) -> None:
    page = open_page(runs)
    assert count(page) == f"{runs} run{'' if runs == '1' else 's'}"
    assert lines(page).count() == int(runs)
    assert page.locator(".chart").count() == 0
    assert not page.locator("#pages").is_visible()
    assert not page.locator("#empty").is_visible()
    assert "NaN" not in page.locator("body").inner_text()
    assert page.locator(".verdict").get_attribute("class") == "verdict good"


@pytest.mark.parametrize(("name", "scheme"), [("full", "light"), ("full", "dark"), ("0", "light"), ("3", "dark")])
def test_axe_finds_nothing(open_page: Open, name: str, scheme: str) -> None:
    page = open_page(name, color_scheme=scheme)
    if name == "full":
        page.locator("#runs .toggle").first.click()
        page.check("#outcome input[value=stopped]")
        page.uncheck("#outcome input[value=stopped]")
        for details in page.locator("details").all():
            details.locator("summary").click()
    assert faults(page) == []


def test_what_came_back_is_listed_and_leads_to_its_runs(open_page: Open) -> None:
    page = open_page("back")
    section = page.locator("section", has=page.locator("#back"))
    assert "3 runs found by later sweeps: 1 active again, 2 started meanwhile." in section.inner_text()
    rows = [row.split("\t")[:3] for row in section.locator("tbody tr").all_inner_texts()]
    assert rows == [
        ["3", "active again", "stopped"],
        ["2", "started meanwhile", "stopped"],
        ["3", "started meanwhile", "failed"],
    ]
    section.locator("a").click()
    wait_for(page, "3 of 4 runs")
    assert page.input_value("#sweep") == "later"
    numbers = page.locator("#runs tbody td:nth-child(8)")
    assert sorted(numbers.all_inner_texts()) == ["2", "3", "3"]
    page.select_option("#sweep", "2")
    wait_for(page, "1 of 4 runs")
    assert "sweep=2" in page.url


def test_a_single_sweep_needs_no_filter_for_it(open_page: Open) -> None:
    page = open_page("3")
    assert not page.locator("#sweep").is_visible()
    assert page.locator("th[data-sort=sweep_number]").count() == 0
    assert page.locator("#back").count() == 0


@pytest.mark.parametrize("width", [1280, 1440])
@pytest.mark.parametrize("name", ["full", "back"])
def test_a_laptops_screen_shows_every_column(open_page: Open, name: str, width: int) -> None:
    page = open_page(name)
    page.set_viewport_size({"width": width, "height": 900})
    inside = page.locator("#explorer .scroll.table").bounding_box()
    assert inside is not None
    for heading in ("task_type", "started_on", "status", "stopped_after_seconds", "estimated_dpu_hours"):
        box = page.locator(f"th[data-sort={heading}]").bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= inside["x"] + inside["width"]


def test_what_a_run_need_not_have_is_left_out_of_its_details(open_page: Open) -> None:
    page = open_page("back", "#outcome=failed")
    page.locator("#runs .toggle").click()
    details = page.locator(".unfolded").inner_text()
    assert "InternalServiceException" in details
    assert "rule" not in details
    assert "confirmed at\nnot known" in details
    page.goto(page.url.split("#")[0] + "#sweep=2")
    wait_for(page, "1 of 4 runs")
    page.locator("#runs .toggle").click()
    assert "error" not in page.locator(".unfolded").inner_text()


def test_an_error_that_was_got_over_explains_nothing(open_page: Open) -> None:
    page = open_page("back", "#q=tsk-over")
    wait_for(page, "1 of 4 runs")
    assert page.locator("#runs tbody td.why").inner_text() == ""
    page.locator("#runs .toggle").click()
    assert "ReadTimeoutError" in page.locator(".unfolded").inner_text()


def test_axe_finds_nothing_in_the_page_without_its_script(open_page: Open, reports: Reports) -> None:
    # axe is a script itself, so that scripts cannot be switched off: the page's own is taken out instead.
    path = reports["full"] / "report.html"
    bare = path.with_name("bare") / path.name
    bare.parent.mkdir()
    text = path.read_text(encoding="utf-8")
    bare.write_text(re.sub("(?s)<script>.*?</script>", "", text), encoding="utf-8")
    page = open_page("full", file="bare/report.html")
    assert lines(page).count() == 43
    assert faults(page) == []


def faults(page: Page) -> list[tuple[str, list[str]]]:
    found = Axe().run(page).response["violations"]
    return [(one["id"], [node["html"][:200] for node in one["nodes"]][:3]) for one in found]


def test_a_click_anywhere_in_a_row_unfolds_it(open_page: Open) -> None:
    page = open_page("full")
    cell = page.locator("#runs tbody tr").first.locator("td").nth(2)
    cell.click()
    assert page.locator(".unfolded").count() == 1
    cell.click()
    assert page.locator(".unfolded").count() == 0


def test_a_run_that_hangs_says_what_was_last_seen_of_it(open_page: Open) -> None:
    page = open_page("full", "#outcome=stuck_stopping")
    assert page.locator("#runs tbody .why").first.text_content() == "its end was not seen"


def test_a_telephone_shows_the_ids_of_a_run(open_page: Open) -> None:
    page = open_page("full")
    page.set_viewport_size({"width": 390, "height": 844})
    for at in (2, 3):
        box = page.locator("#runs tbody tr").first.locator("td").nth(at).locator(".id").bounding_box()
        assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= 390


@pytest.mark.parametrize("width", [390, 1000, 1280])
def test_no_box_stands_empty_and_no_key_leaves_its_word(open_page: Open, width: int) -> None:
    page = open_page("full")
    page.set_viewport_size({"width": width, "height": 900})
    empty = page.locator(".pair > section, .charts section").evaluate_all(
        "all => all.map(it => it.getBoundingClientRect().bottom - it.lastElementChild.getBoundingClientRect().bottom)"
    )
    assert len(empty) == 7 and max(empty) < 40
    lines = page.locator(".legend > span").evaluate_all("all => all.map(it => it.getClientRects().length)")
    heights = page.locator(".legend > span").evaluate_all("all => all.map(it => it.getBoundingClientRect().height)")
    assert lines == [1, 1, 1, 1] and max(heights) < 30


def test_a_telephone_needs_no_scrolling_sideways(open_page: Open) -> None:
    page = open_page("full")
    page.set_viewport_size({"width": 390, "height": 844})
    for box in (page.locator(".chart").first, *page.locator(".cards").all(), page.locator(".cards td").last):
        found = box.bounding_box()
        assert found is not None and found["x"] >= 0 and found["x"] + found["width"] <= 390
    sideways = page.locator(".scroll:has(.cards)").evaluate_all("all => all.map(it => it.scrollWidth > it.clientWidth)")
    assert sideways == [False, False]  # what started meanwhile, and the targets
    target = page.locator("section", has=page.locator("#back")).locator("tbody td:nth-child(4)").first
    assert target.evaluate("it => it.offsetHeight") < 30  # account and region on one line
    assert faults(page) == []


def test_paper_without_backgrounds_shows_the_sign_of_the_headline(open_page: Open) -> None:
    page = open_page("full")
    page.emulate_media(media="print")
    ink = page.locator(".verdict .sign").evaluate("it => getComputedStyle(it).color")
    assert ink == page.locator(".verdict").evaluate("it => getComputedStyle(it).color") != "rgb(255, 255, 255)"


def test_paper_has_every_run_with_its_whole_ids(open_page: Open) -> None:
    page = open_page("long")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("#runs tbody tr").count() == 2000
    assert page.locator("#runs tbody .id").first.text_content().startswith("tfm-00000")  # type: ignore[union-attr]
    assert "…" not in (page.locator("#runs tbody tr").first.text_content() or "")
    assert page.locator("#printed").text_content() == (
        "2,500 runs; 2,000 of them are here, and report.csv has them all."
    )
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("#runs tbody tr").count() == 100


@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_itself_never_scrolls_sideways(open_page: Open, width: int) -> None:
    page = open_page("full")
    page.set_viewport_size({"width": width, "height": 800})
    page.locator("#runs .toggle").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") == width


ROOM_BESIDE_THE_ARROW = """all => all.filter(it => it.offsetParent).map(it => {
  const style = getComputedStyle(it), pen = document.createElement("canvas").getContext("2d"), arrow = 20;
  pen.font = style.font;
  const padding = parseFloat(style.paddingLeft) + parseFloat(style.paddingRight);
  return it.clientWidth - padding - arrow - pen.measureText(it.options[0].text.replace(/[0-9]+/, "9,999")).width;
})"""


@pytest.mark.parametrize("width", [360, 1280])
def test_what_a_filter_begins_with_can_be_read_whole(open_page: Open, width: int) -> None:
    page = open_page("full")
    page.set_viewport_size({"width": width, "height": 800})
    room = page.locator("#controls select").evaluate_all(ROOM_BESIDE_THE_ARROW)
    assert len(room) == 4 and min(room) >= 0, room


def test_print_leaves_the_controls_out(open_page: Open) -> None:
    page = open_page("full")
    page.emulate_media(media="print", color_scheme="dark")
    assert not page.locator("#controls").is_visible()
    assert page.locator("#runs").is_visible()
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"


def test_the_policy_lets_nothing_in(reports: Reports, chromium: Browser) -> None:
    text = (reports["full"] / "report.html").read_text(encoding="utf-8")
    policy = re.search('Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    assert re.fullmatch(
        r"default-src 'none'; style-src 'sha256-[^']*'; script-src 'sha256-[^']*'; img-src data:; base-uri 'none';"
        " form-action 'none'",
        policy[1],
    )
    assert not re.search(r"<[^>]* (on\w+|style)=", re.sub("(?s)<script.*?</script>", "", text))
    page = chromium.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.set_content(
        text.replace("</body>", "<script>document.title = 'in'</script><img src='https://example.com/x'></body>")
    )
    assert page.title() != "in"
    assert sum("Content Security Policy" in line for line in said) == 2
    page.close()


def test_the_rows_are_sound_json(reports: Reports) -> None:
    text = (reports["full"] / "report.html").read_text(encoding="utf-8")
    blocks = re.findall('(?s)<script type="application/json" id="(.*?)">(.*?)</script>', text)
    assert [name for name, _ in blocks] == ["data", "words", "model"]
    rows, words, model = (json.loads(block) for _, block in blocks)
    assert len(rows) == 43
    assert set(ODD_IDS) <= set(words)
    assert model["fields"] == list(RUN_FIELDS)
