from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

import pytest
from playwright.sync_api import Browser, Page

from mimia.report.html import render_report
from mimia.report.schema import AuditReport, InferenceReport, Model
from mimia.validity.verdict import RULE, Verdict

Report = AuditReport | InferenceReport

BLOCKS = "th, td, h1, h2, p, dt, dd, li, pre, figcaption, summary, small, strong, .row"
CUT_OFF = f"""() => [...document.querySelectorAll("{BLOCKS}")]
    .filter(node => node.scrollWidth > node.clientWidth)
    .map(node => `${{node.localName}} of ${{node.clientWidth}} px: ${{node.textContent.trim().slice(0, 60)}}`)"""
TEXT_LINES = f"""() => {{
    const found = [];
    const walker = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {{
        const node = walker.currentNode;
        const home = node.parentElement.closest("{BLOCKS}");
        if (!node.data.trim() || !home) continue;
        const range = document.createRange();
        range.selectNodeContents(node);
        for (const box of range.getClientRects())
            found.push({{text: node.data.trim(), box, home: home.getBoundingClientRect()}});
    }}
    return found;
}}"""
OUTSIDE = f"""() => ({TEXT_LINES})()
    .filter(({{box, home}}) => box.left < home.left - 1 || box.right > home.right + 1
        || box.top < home.top - 1 || box.bottom > home.bottom + 1 || box.right > innerWidth)
    .map(({{text}}) => text.slice(0, 60))"""
OVERLAPPING = f"""() => {{
    const lines = ({TEXT_LINES})();
    const meet = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
        && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1;
    return lines.flatMap((a, i) => lines.slice(i + 1).filter(b => meet(a.box, b.box))
        .map(b => `${{a.text.slice(0, 60)}} on ${{b.text.slice(0, 60)}}`));
}}"""
BROKEN_WORDS = """() => {
    const found = [];
    const walker = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
    while (walker.nextNode())
        for (const word of walker.currentNode.data.matchAll(/[\\p{Script=Latin}\\d._]+/gu)) {
            const range = document.createRange();
            range.setStart(walker.currentNode, word.index);
            range.setEnd(walker.currentNode, word.index + word[0].length);
            if (word[0].length <= 18 && range.getClientRects().length > 1) found.push(word[0]);
        }
    return found;
}"""
EMPTY_PICTURES = """() => [...document.images].filter(image => !(image.naturalWidth && image.width && image.height))
    .map(image => image.alt)"""


@dataclass
class OpenedPage:
    """A report in a browser, with all that is folded unfolded.

    Attributes:
        tab: Where it is open.
        messages: What it wrote to the console, and its errors.
        requests: Addresses that it asked for.
    """

    tab: Page
    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def pages(audit_report: AuditReport, inference_report: InferenceReport) -> dict[str, str]:
    """Return the page of each kind of report."""
    return {report.kind: render_report(report) for report in (audit_report, inference_report)}


@pytest.fixture(scope="module")
def page(report: Report, pages: dict[str, str]) -> str:
    return pages[report.kind]


@pytest.fixture(scope="module", params=[1280, 1001, 1000, 400], ids=lambda width: f"{width} px")
def opened(
    request: pytest.FixtureRequest, browser: Browser, page: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OpenedPage]:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page, encoding="utf-8")
    tab = browser.new_page(viewport={"width": request.param, "height": 800})
    found = OpenedPage(tab)
    tab.on("console", lambda message: found.messages.append(message.text))
    tab.on("pageerror", lambda error: found.messages.append(str(error)))
    tab.on("request", lambda request: found.requests.append(request.url))
    tab.goto(path.as_uri())
    tab.evaluate("() => document.querySelectorAll('details').forEach(node => { node.open = true; })")
    yield found
    tab.close()


class Parsed(HTMLParser):
    """The elements of a page, their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.pieces: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "small":
            self.pieces.append(" ")
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        if tag not in {"code", "em", "span"}:
            self.pieces.append(" ")

    def handle_data(self, data: str) -> None:
        self.pieces.append(data)

    @property
    def text(self) -> str:
        """All text with single spaces."""
        return " ".join("".join(self.pieces).split())


def squeezed(text: str) -> str:
    return " ".join(text.split())


def test_page_is_one_file_that_loads_and_runs_nothing(page: str) -> None:
    parsed = Parsed(page)
    assert parsed.tags.isdisjoint({"script", "link", "iframe", "object", "embed", "base", "form", "video", "audio"})
    loading = {"src", "href", "xlink:href", "srcset", "data", "action", "poster", "background"}
    for name, value in parsed.attributes:
        assert not name.startswith("on")
        assert name not in loading or value.startswith(("#", "data:image/png;base64,")), (name, value)
    assert page.count("url(") == page.count("url(#")
    assert "@import" not in page


def test_names_from_elsewhere_are_text_and_nothing_else(report: Report, page: str) -> None:
    parsed = Parsed(page)
    names = {exhibit.name for exhibit in report.run.gallery} | {entry.name for entry in report.run.left_out}
    if isinstance(report, InferenceReport):
        names |= {candidate.name for candidate in report.candidates[:20]}
    assert any("<script>" in name for name in names)
    assert [name for name in names if squeezed(name) not in parsed.text] == []
    assert parsed.tags.isdisjoint({"script", "b", "all"})


def test_page_tells_the_verdict_the_settings_the_versions_and_what_was_left_out(report: Report, page: str) -> None:
    run, text = report.run, Parsed(page).text
    expected = [
        report.verdict.kind.capitalize(),
        report.verdict.sentence,
        run.settings_toml,
        run.command,
        run.access,
        run.split,
        run.query_id,
        *(f"{package} {version}" for package, version in run.versions.items()),
        *(f"{key} {value}" for key, value in run.hardware.items()),
        *(f"{entry.name}: {entry.reason}" for entry in run.left_out),
        *run.assumed,
        *(note[1:] for note in run.notes),
        *(f"{count:,} {where}" for where, count in run.duplicates.items()),
        *(f"{count:,}" for count in run.counts.values()),
        *(model.id[:16] for model in run.models),
        *(str(model.seed) for model in run.models if model.seed is not None),
        *(text for each in run.attacks_not_run for text in (each.attack, each.reason)),
    ]
    assert [each for each in expected if squeezed(each) not in text] == []


def test_page_of_an_audit_tells_what_the_training_of_the_target_guarantees(
    audit_report: AuditReport, pages: dict[str, str]
) -> None:
    privacy = "ε = 3.25 at δ = 1e-06, by noise of 1.375 clips of 0.5 in 12,345 steps, each with a proportion of 0.125"
    assert squeezed(privacy) in Parsed(pages["audit"]).text
    target, *shadows = audit_report.run.models
    models = (target.model_copy(update={"privacy": None}), *shadows)
    without = audit_report.model_copy(update={"run": audit_report.run.model_copy(update={"models": models})})
    assert "trained with DP-SGD" not in Parsed(render_report(without)).text


def test_page_of_an_audit_tells_each_figure_of_each_attack_or_why_there_is_none(
    audit_report: AuditReport, pages: dict[str, str]
) -> None:
    text = Parsed(pages["audit"]).text
    for each in audit_report.evaluations:
        assert each.attack in text
        for figure in (each.auc, each.tpr_at_1_percent, each.tpr_at_01_percent, each.precision, each.recall):
            assert figure is not None
            assert (figure.note or f"{figure.value:.3f} {figure.low:.3f} to {figure.high:.3f}") in text
    assert "too few images: 1,100 of 11,000 non-members" in text
    assert "no image is called a member" in text


def test_page_tells_each_check_of_the_gate_with_its_outcome_and_the_rule(report: Report, page: str) -> None:
    text = Parsed(page).text
    assert len(report.verdict.checks) == 7
    for check in report.verdict.checks:
        assert f'class="{check.outcome}"' in page
        assert squeezed(f"{check.name} {check.finding}") in text
    assert RULE in text
    for control in report.validity.controls:
        assert f"{control.model} {control.auc}" in text
    assert f"among {report.validity.matched.pairs:,} pairs" in text


def test_page_of_an_audit_tells_what_follows_for_differential_privacy(
    audit_report: AuditReport, pages: dict[str, str]
) -> None:
    drawn = Parsed(pages["audit"]).text
    assert audit_report.one_run is not None
    assert f"ε ≥ {audit_report.one_run.value:.2f} for the training that is audited" in drawn
    assert f"trainings like this one have ε ≥ {audit_report.epsilon.value:.2f}" in drawn
    given = Parsed(render_report(audit_report.model_copy(update={"one_run": None, "drawn_at_random": False}))).text
    assert "it bounds no differential-privacy parameter" in given
    assert "guesses about canaries" in drawn
    assert "guesses about canaries" not in given


def test_page_of_an_inference_tells_the_first_of_the_list_and_the_bound(
    inference_report: InferenceReport, pages: dict[str, str]
) -> None:
    listed = [candidate for candidate in inference_report.candidates if candidate.listed]
    text = Parsed(pages["inference"]).text
    assert f"{len(listed)} of 150 candidates are listed by the attack calibrated" in text
    assert "the expected proportion of false entries is at most 7.5 %" in text
    assert "The other 130 candidates" in text
    assert [candidate.id[:16] in text for candidate in inference_report.candidates] == [True] * 150


def test_page_of_an_inference_without_a_find_has_every_candidate_too(inference_report: InferenceReport) -> None:
    candidates = tuple(each.model_copy(update={"listed": False}) for each in inference_report.candidates)
    text = Parsed(render_report(inference_report.model_copy(update={"candidates": candidates}))).text
    assert "0 of 150 candidates are listed" in text
    assert all(candidate.id[:16] in text for candidate in candidates)


def test_verdicts_differ_in_word_and_colour(inference_report: InferenceReport) -> None:
    verdicts = [Verdict(kind, "For a reason.", ()) for kind in ("leaks", "no leak found", "inconclusive", "invalid")]
    verdicts += [Verdict("leaks", "For a reason.", (), strength) for strength in ("slight", "clear", "severe")]
    seen = set()
    for verdict in verdicts:
        page = render_report(inference_report.model_copy(update={"verdict": verdict}))
        assert f"<strong>{verdict.title}</strong><p>For a reason.</p>" in page
        seen.add((verdict.title, page.partition("--accent: ")[2][:7]))
    assert len(seen) == 7
    assert len({colour for _, colour in seen}) == 6  # a leak of an old report has the colour of a clear one


def test_report_of_little_is_a_page_too(inference_report: InferenceReport) -> None:
    models = tuple(Model(name=each.name, id=each.id) for each in inference_report.run.models)
    nothing = {"models": models, "left_out": (), "duplicates": {}, "attacks_not_run": (), "histograms": ()}
    run = inference_report.run.model_copy(update=nothing)
    parsed = Parsed(render_report(inference_report.model_copy(update={"run": run})))
    assert "svg" not in parsed.tags
    assert "exact duplicates none left out none" in parsed.text
    assert "Not run" not in parsed.text


def test_same_report_gives_the_same_page_after_a_round_trip_too(report: Report, page: str) -> None:
    assert render_report(type(report).model_validate_json(report.model_dump_json())) == page


def test_page_opens_without_messages_and_asks_for_nothing_else(opened: OpenedPage) -> None:
    assert opened.messages == []
    assert opened.requests[0].startswith("file:")
    assert [address for address in opened.requests[1:] if not address.startswith("data:")] == []


def test_page_scrolls_in_one_direction_only(opened: OpenedPage) -> None:
    assert opened.tab.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize(
    "script", [CUT_OFF, OUTSIDE, OVERLAPPING, BROKEN_WORDS], ids=["cut off", "outside", "overlapping", "broken"]
)
def test_no_text_is(opened: OpenedPage, script: str) -> None:
    assert opened.tab.evaluate(script) == []


def test_every_picture_is_shown(opened: OpenedPage, report: Report) -> None:
    assert opened.tab.evaluate("document.images.length") == 4 * 12 + 2 * len(report.near_duplicates)
    assert opened.tab.evaluate(EMPTY_PICTURES) == []


def test_figures_are_readable(opened: OpenedPage, misplaced_labels: Callable[[Page], list[str]]) -> None:
    assert opened.tab.evaluate("document.querySelectorAll('svg').length") >= 2
    assert misplaced_labels(opened.tab) == []
