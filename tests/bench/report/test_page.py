"""The page in headless Chromium: it works, it asks the network for nothing, and no name in it runs as markup."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.report import page as page_module
from bench.report import write_report
from bench.report.page import OWN_SCRIPTS, embed, page_scripts
from bench.report.page_data import CellRow, EntryRow, MethodRow, WorkloadRow
from bench.report.page_details import LISTS, PARTS, DetailsRow
from tests.bench.report import synthetic

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
STATIC = Path(page_module.__file__).parent / "static"
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def test_data_cannot_leave_its_script_element():
    text = embed({"</script><!--": ["<b>&\u2028", float("nan"), "\ud800"]})
    assert not re.search("[<>&\u2028]", text)
    assert "\\u003c/script\\u003e" in text and "null" in text


def test_page_is_self_contained(report: Path):
    html = (report / "index.html").read_text(encoding="utf-8")
    head = html[: html.index("</head>")]
    assert "default-src 'none'" in head
    assert not re.search(
        r"<(?:script|link|img|iframe)[^>]+(?:src|href)=[\"']?(?![\"']?data:)", html.split("<script>")[0]
    )


def json_of(report: Path, element: str) -> str:
    """The text of a page's JSON element of that id."""
    html = (report / "index.html").read_text(encoding="utf-8")
    found = re.search(rf'<script type="application/json" id="{element}">(.*?)</script>', html, re.DOTALL)
    assert found
    return found[1]


def test_each_row_has_a_value_for_every_name_of_its_header(report: Path):
    data, details = json.loads(json_of(report, "data")), json.loads(json_of(report, "details"))
    tables = [data[name] for name in ("methods", "workloads", "entries", "cells")]
    tables += [{"fields": details["fields"], "rows": list(details["rows"].values())}]
    for part, fields in details["parts"].items():
        place = details["fields"].index(part)
        rows = [row[place] for row in details["rows"].values() if row[place] is not None]
        tables.append({"fields": fields, "rows": rows})
    for name, fields in details["lists"].items():
        place = details["fields"].index(name)
        tables.append({"fields": fields, "rows": [r for row in details["rows"].values() for r in row[place] or ()]})
    assert all(len(row) == len(table["fields"]) for table in tables for row in table["rows"])
    assert all(table["rows"] for table in tables)
    assert set(details["shared"]) <= set(details["fields"])
    assert [row[0] for row in data["cells"]["rows"]] == list(details["rows"])


def test_a_cell_travels_without_the_names_of_its_fields(thousand: tuple[Path, float]):
    data, details = json_of(thousand[0], "data"), json_of(thousand[0], "details")
    assert {name: data.count(f'"{name}"') for name in CellRow._fields} == dict.fromkeys(CellRow._fields, 1)
    for name in ("run_id", "started_at", "native_macs_ratio", "macs_pruned", "weight_steps", "widths"):
        assert details.count(f'"{name}"') == 1
    cells = json.loads(data)["cells"]["rows"]
    assert len(embed(cells)) / len(cells) < 120


@pytest.mark.parametrize("name", OWN_SCRIPTS)
def test_a_script_is_strict_and_leaves_no_name_behind(name: str):
    text = (STATIC / name).read_text(encoding="utf-8")
    code = [line for line in text.splitlines() if line and not line.startswith("//")]
    assert code[0] == '"use strict";'
    outside = [line for line in code[1:] if not line.startswith(" ")]
    assert outside == (["const prunebench = {};"] if name == OWN_SCRIPTS[0] else []) + ["{", "}"]


def test_a_script_uses_only_those_before_it():
    before: list[str] = []
    for name in OWN_SCRIPTS:
        text = (STATIC / name).read_text(encoding="utf-8")
        assert set(re.findall(r"= prunebench\.(\w+);", text)) <= set(before), name
        before += re.findall(r"^  prunebench\.(\w+) = ", text, re.MULTILINE)
    assert before == [name.removesuffix(".js") for name in OWN_SCRIPTS[:-1]]


def test_every_script_of_the_folder_is_in_the_page():
    assert sorted(OWN_SCRIPTS) == sorted(path.name for path in STATIC.glob("*.js"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield running
        running.close()


class Open:
    """A page, with what it asked for and complained of."""

    def __init__(self, browser: Any, folder: Path, *, before: str = "", **options: Any) -> None:
        self.page = browser.new_page(viewport={"width": 1280, "height": 900}, **options)
        self.page.add_init_script(before)
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda r: self.requests.append(r.url))
        self.page.on("pageerror", lambda e: self.errors.append(str(e)))
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        # In processor time of the page's thread: a wall clock would measure what else the machine does.
        session = self.page.context.new_cdp_session(self.page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
        self.page.goto((folder / "index.html").as_uri())
        self.page.wait_for_selector("html[data-ready]")
        metrics = {m["name"]: m["value"] for m in session.send("Performance.getMetrics")["metrics"]}
        self.seconds = metrics["TaskDuration"]
        self.page.wait_for_selector("html[data-settled]")

    def bring(self, selector: str) -> None:
        """Scroll to a table, which draws its rows again when it comes into view: a click before that would be lost."""
        self.page.locator(selector).scroll_into_view_if_needed()
        frames = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
        for _ in range(3):
            self.page.evaluate(frames)

    def shown(self) -> int:
        return int(self.page.evaluate("document.documentElement.dataset.shown"))

    def choose(self, dimension: str, value: str) -> None:
        box = self.page.locator(f"#chips fieldset[data-dimension={dimension}] input[value='{value}']")
        box.evaluate("box => box.click()")


@pytest.fixture(scope="module")
def opened(browser: Any, report: Path) -> Open:
    return Open(browser, report)


@pytest.fixture
def page(opened: Open) -> Iterator[Any]:
    yield opened.page
    opened.page.evaluate("document.getElementById('dialog').close(); document.getElementById('clear').click()")


WATCH = """
    window.watched = { absent: new Set(), read: {} };
    const watch = (object, kind) => new Proxy(object, {
        get(target, name) {
            if (Object.hasOwn(target, name)) (watched.read[kind] ||= new Set()).add(name);
            else if (typeof name === "string" && !(name in target) && name !== "toJSON") watched.absent.add(name);
            return target[name];
        },
    });
    const { parse } = JSON, { fromEntries } = Object;
    const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
    JSON.parse = (text) => parse(text, (key, value) => isObject(value) ? watch(value, "") : value);
    Object.fromEntries = (pairs) => {
        const byName = new Error().stack.split("\\n")[2].trim().startsWith("at named ");
        return byName ? watch(fromEntries(pairs), pairs.map(([name]) => name).join()) : fromEntries(pairs);
    };
"""
"""Notes what scripts read of the page's data, and which of the names that they ask for are not there."""

LOOK_AT_EVERYTHING = """async (most) => {
    const change = (element) => element.dispatchEvent(new Event("change"));
    document.getElementById("seeds").click();
    for (const id of ["x", "y", "widths-workload", "widths-budget"]) {
        const select = document.getElementById(id);
        for (let index = 0; index < select.options.length; index++) {
            select.selectedIndex = index;
            change(select);
        }
    }
    for (const box of document.querySelectorAll("#chips input")) { box.click(); box.click(); }
    for (const title of document.querySelectorAll(".tabulator-col-title")) title.click();
    const rows = (id) => Tabulator.findTable(id)[0].getData().slice(0, most);
    const views = rows("#comparison-table").map((row) => "entry=" + row.key);
    views.push(...rows("#cells-table").map((cell) => "cell=" + cell.id));
    for (const view of views) {
        location.hash = view;
        window.dispatchEvent(new Event("hashchange"));
    }
    return { absent: [...watched.absent], read: Object.fromEntries(
        Object.entries(watched.read).map(([kind, names]) => [kind, [...names]])) };
}"""


def watched(browser: Any, folder: Path, *, most: int = 1000) -> dict[str, Any]:
    """What `WATCH` noted while everything was looked at, so many entries and cells at most."""
    opened = Open(browser, folder, before=WATCH)
    opened.page.wait_for_selector("#widths-plot svg")
    found = opened.page.evaluate(LOOK_AT_EVERYTHING, most)
    opened.page.close()
    return found


def test_scripts_read_the_fields_that_the_data_has_and_no_others(browser: Any, report: Path):
    found = watched(browser, report)
    assert found["absent"] == []
    for kind in (MethodRow, WorkloadRow, EntryRow, CellRow, DetailsRow, *PARTS.values(), *LISTS.values()):
        assert set(kind._fields) <= set(found["read"][",".join(kind._fields)]), kind.__name__


def test_fields_that_are_not_in_the_data_are_noticed(browser: Any, report: Path, tmp_path: Path):
    html = (report / "index.html").read_text(encoding="utf-8")
    for field in ("within_budget", "macs_ratio"):
        assert html.count(f'"{field}"') == 1
        html = html.replace(f'"{field}"', '"renamed"')
    (tmp_path / "index.html").write_text(html, encoding="utf-8")
    assert {"within_budget", "macs_ratio"} <= set(watched(browser, tmp_path, most=1)["absent"])


def test_no_request_and_no_error(opened: Open):
    assert [url for url in opened.requests if not url.startswith(("file:", "data:"))] == []
    assert opened.errors == []


def test_problems_are_in_plain_sight(page: Any):
    assert page.locator(".status").inner_text().split("\n") == [
        "67 finished",
        "✕ 1 failed",
        "○ 1 missing",
        "△ 1 off budget, not ranked",
    ]
    assert "the loss became inf in epoch 3 of search" in page.locator("#problems").inner_text()


def test_filters_narrow_tables_and_figures(opened: Open, page: Any):
    assert opened.shown() == 69
    assert page.locator("#scatter figure").count() == 2
    opened.choose("task", "super_resolution")
    assert page.locator("#scatter figure").count() == 1
    opened.choose("method", "l1")
    opened.choose("budget", "0.25")
    assert opened.shown() == 3
    assert page.locator("#scatter svg g[aria-label=dot] path").count() == 1
    assert page.locator("#comparison-table .tabulator-row").count() == 1
    rows = page.locator("#table-budget_audit tr[data-entry]:not([hidden])")
    assert rows.count() == 1
    opened.choose("seed", "1")
    text = page.locator("#comparison-table .tabulator-row").inner_text()
    assert "±" not in text
    assert "hidden for a part of them" in page.locator("#marks").inner_text()
    page.locator("#clear").click()
    assert opened.shown() == 69


def test_the_page_shows_the_figures_of_the_table(page: Any, report: Path):
    lines = (report / "tables" / "main.md").read_text(encoding="utf-8").splitlines()
    wanted = {
        tuple(cell.strip(" *") for cell in line.split("|")[1:-1])
        for line in lines
        if re.match(r"\| 0\.(25|50) \| (l1|gdp)", line)
    }
    data = page.evaluate("""() => Tabulator.findTable("#comparison-table")[0].getRows().map((row) =>
        Object.fromEntries(row.getCells().map((cell) => [cell.getField(), cell.getElement().textContent])))""")
    shown = {(row["final"], row["delta"]) for row in data}
    found = {(cells[5], cells[6]) for cells in wanted}
    assert len(found) >= 7
    assert found <= shown


def test_one_budget_is_a_dot_plot_and_several_are_curves(page: Any, opened: Open):
    assert page.locator("#scatter figcaption").all_text_contents() == ["cifar10-resnet56", "textures-edsr"]
    opened.choose("task", "super_resolution")
    opened.choose("budget", "0.5")
    assert page.locator("#scatter figcaption").all_text_contents() == ["textures-edsr, 0.5 of the MACs"]
    names = page.locator("#scatter svg [aria-label='y-axis tick label'] text").all_text_contents()
    assert set(names[:2]) == {"gdp", "l1"} and set(names[2:]) == {"random", "uniform-scratch"}
    page.select_option("#x", "latency_ms")
    assert page.locator("#scatter figcaption").all_text_contents() == ["textures-edsr"]
    page.select_option("#x", "macs_percent")


def test_points_stand_at_the_measured_macs(page: Any):
    """The horizontal places of a panel's points, put back through its axis, are what the tables show."""
    shown = page.evaluate("""() => {
        const placeOf = (node) => Number(node.getAttribute("transform").match(/translate\\(([-\\d.]+)/)[1]);
        const svg = document.querySelector("#scatter figure[data-workload='cifar10-resnet56'] svg");
        const ticks = [...svg.querySelectorAll("[aria-label='x-axis tick label'] text")]
            .map((tick) => [Number(tick.textContent), placeOf(tick)]);
        const [[a, x], [b, y]] = [ticks[0], ticks[ticks.length - 1]];
        return [...svg.querySelectorAll("g[aria-label=dot] path")]
            .map((path) => a + (placeOf(path) - x) * (b - a) / (y - x));
    }""")
    measured = page.evaluate("""() => Tabulator.findTable("#comparison-table")[0].getData()
        .filter((row) => row.entry.workload.name === "cifar10-resnet56" && row.entry.prunes)
        .map((row) => row.macs_percent.mean)""")
    for value in measured:
        assert min(abs(place - value) for place in shown) < 0.05


def test_what_takes_a_method_apart_stands_among_the_widths_and_not_in_the_comparison(page: Any):
    labels = page.evaluate("""() => Tabulator.findTable("#comparison-table")[0].getData().map((r) => r.entry.label)""")
    assert "gdp" in labels and not any("blind" in label for label in labels)
    page.wait_for_selector("#widths-plot svg")
    page.select_option("#widths-workload", "cifar10-resnet56")
    page.select_option("#widths-budget", "0.25")
    rows = page.locator("#widths-plot svg [aria-label='y-axis tick label'] text").all_text_contents()
    assert rows[:2] == ["gdp", "gdp blind"]
    assert page.locator("#table-contribution a", has_text="gdp l1-channels").count() == 1


def test_a_cells_view_has_its_phases(page: Any, cells: tuple[list[Any], list[Any]]):
    blind = next(r for r in cells[0] if r.cell.get("ablation") == "blind")
    page.evaluate("id => { location.hash = 'cell=' + id; }", blind.cell_id)
    page.wait_for_selector("dialog[open]")
    rows = page.evaluate("""() => [...document.querySelectorAll("#detail table")]
        .find((table) => table.textContent.includes("Weight steps")).innerText.split("\\n")""")
    assert [row.split("\t")[:6] for row in rows[1:]] == [
        ["dense (shared)", "12", "12,000", "84", "–", "0.1"],
        ["search", "6", "6,000", "42", "42", "0.1"],
        ["recovery", "8", "8,000", "56", "–", "0.1"],
        ["total", "26", "26,000", "182", "42", "–"],
    ]


def test_an_entrys_view_has_its_difference_with_two_intervals(page: Any):
    page.locator("#comparison-table .tabulator-row a", has_text="gdp").nth(1).click()
    page.wait_for_selector("dialog[open]")
    text = page.locator("#detail").inner_text()
    assert "Minus its best rival" in text and "95 % interval over test samples" in text


def test_tables_sort(page: Any):
    column = page.locator("#comparison-table .tabulator-col[tabulator-field=delta]")
    column.click()
    first = page.evaluate("""() => Tabulator.findTable("#comparison-table")[0].getRows("active")
        .map((row) => row.getData().delta.mean)""")
    assert first == sorted(first, reverse=True)


def test_every_row_leads_to_its_cells_and_their_runs(page: Any, cells: tuple[list[Any], list[Any]]):
    page.locator("#comparison-table .tabulator-row a").first.click()
    page.wait_for_selector("dialog[open]")
    links = page.locator("#detail a[href^='#cell=']")
    assert links.count() == 3
    links.first.click()
    page.wait_for_selector("#detail summary")
    text = page.locator("#detail").inner_text()
    record = next(r for r in cells[0] if r.cell_id in text)
    assert record.run_id in text and record.environment["git_commit"] in text
    href = page.locator("#detail a[href^=http]").first.get_attribute("href")
    assert href == f"http://127.0.0.1:5000/#/experiments/7/runs/{record.run_id}"
    assert "Budget" in text and "Widths" in text and "left whole" in text.lower()


def test_a_view_that_is_asked_for_right_after_another_is_closed_opens(page: Any):
    first, second = page.evaluate("""() => Tabulator.findTable("#cells-table")[0].getData().slice(0, 2)
        .map((cell) => cell.id)""")
    page.evaluate("id => { location.hash = 'cell=' + id; }", first)
    page.wait_for_selector(f"dialog[open] code:text-is('{first}')")
    page.evaluate("id => { document.getElementById('dialog').close(); location.hash = 'cell=' + id; }", second)
    page.wait_for_selector(f"dialog[open] code:text-is('{second}')", timeout=5000)


def test_a_pruning_that_was_searched_elsewhere_stands_among_the_widths(page: Any):
    page.wait_for_selector("#widths-plot svg")
    page.select_option("#widths-workload", "textures-edsr")
    page.select_option("#widths-budget", "0.25")
    rows = page.locator("#widths-plot svg [aria-label='y-axis tick label'] text").all_text_contents()
    assert rows == ["gdp", "gdp (rewind, f…et56 at 0.25)", "l1", "random", "uniform-scratch"]


def test_a_failed_cell_shows_its_traceback(page: Any):
    page.locator("#problems a[href^='#cell=']").first.click()
    page.wait_for_selector("dialog[open]")
    assert "Traceback (most recent call last)" in page.locator("#detail pre").first.inner_text()


def test_dark_and_light(browser: Any, report: Path):
    dark = Open(browser, report, color_scheme="dark").page
    background = "getComputedStyle(document.body).backgroundColor"
    assert dark.evaluate(background) == "rgb(22, 24, 28)"
    dark.locator("#theme").click()
    assert dark.evaluate(background) == "rgb(255, 255, 255)"
    dark.locator("#theme").click()
    dark.emulate_media(media="print")
    assert dark.evaluate(background) == "rgb(255, 255, 255)"
    assert dark.locator("#table-main table").first.is_visible()
    assert not dark.locator("#comparison-table").is_visible()
    assert not dark.locator("#filters").is_visible()
    dark.close()


def test_hostile_names_are_text(browser: Any, hostile_report: Path):
    opened = Open(browser, hostile_report)
    page = opened.page
    opened.bring("#cells-table")
    for cell in page.locator("#cells-table .tabulator-row").all()[:4]:
        cell.click()
        page.wait_for_selector("dialog[open]")
        page.evaluate("document.getElementById('dialog').close()")
    page.wait_for_timeout(100)
    assert page.evaluate("window.pwned") is None
    assert page.evaluate("[...document.images].filter((i) => !i.src.startsWith('data:')).length") == 0
    # Nothing was even stopped by the policy: no markup came of any name.
    assert opened.errors == []
    assert page.locator("h1").inner_text() == synthetic.HOSTILE[1]
    table = page.locator("#comparison-table").inner_text()
    assert synthetic.HOSTILE[0][:20] in table
    assert page.locator("a[href^=javascript]").count() == 0
    data_elements = 2
    assert opened.page.locator("script").count() == len(page_scripts()) + data_elements
    page.close()


def test_a_thousand_cells_are_interactive_within_two_seconds(browser: Any, thousand: tuple[Path, float]):
    opened = Open(browser, thousand[0])
    assert opened.shown() == 1040
    assert 0 < opened.seconds < 2
    opened.page.close()


@pytest.mark.usefixtures("undrawn")
def test_a_page_names_what_budgets_count_and_what_latencies_were_measured_at(browser: Any, tmp_path: Path):
    w = synthetic.workload()
    cells = [synthetic.cell(w, method, 0.5, seed) for method in ("gdp", "l1") for seed in (0, 1)]
    records = [synthetic.timed_twice(synthetic.with_params_budget(synthetic.record(cell))) for cell in cells]
    write_report(records, tmp_path, suite="both")
    opened = Open(browser, tmp_path)
    assert opened.page.locator("#x").input_value() == "params_percent"
    assert opened.page.locator("#scatter figcaption").all_text_contents() == ["digits-resnet8, 0.5 of the parameters"]
    assert "at matched parameter budgets" in opened.page.locator("header .sub").text_content()
    options = opened.page.locator("#x option").all_text_contents()
    assert [text for text in options if text.startswith("measured latency")] == [
        "measured latency, ms (batch 1, 1 thread)", "measured latency, ms (batch 32, 1 thread)"
    ]  # fmt: skip
    opened.page.select_option("#x", label="measured latency, ms (batch 32, 1 thread)")
    means = opened.page.evaluate("""() => Tabulator.findTable("#comparison-table")[0].getData()
        .map((row) => row.latency_ms_1.mean)""")
    assert means == [16.5, 16.5]
    opened.page.evaluate(f"location.hash = 'cell={records[0].cell_id}'")
    detail = opened.page.locator("#detail").text_content()
    assert "0.5 ± 0.005 of the dense parameters" in detail and "40.000 ms (IQR 0.100), batch 32, 1 thread" in detail
    assert opened.errors == []
