"""The page as a reader without network, eyes or colour gets it."""

import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from reports import make_report, pictures_of

from medray.report.html import render_html

REPORTS = {
    "binary": {},
    "multilabel": {"binary": ("a", "b"), "one_outcome": ("never",), "images": 2},
    "multiclass": {"binary": (), "multiclass": ("kind",)},
    "undefined": {"binary": (), "one_outcome": ("never",)},
}
# Attributes that make a browser fetch something.
FETCHING = {"src", "href", "xlink:href", "srcset", "poster", "data", "action", "background"}
VOID = {"meta", "br", "img", "link", "input", "hr", "circle", "line", "path", "use", "rect"}


class Page(HTMLParser):
    """Elements, ids, links, text and nesting of a page."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.ids, self.links, self.fetched, self.open = [], [], [], [], []
        self.words, self.captions, self.styles = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.elements.append((tag, found))
        if "id" in found:
            self.ids.append(found["id"])
        for name in FETCHING & found.keys():
            (self.links if tag in {"a", "use"} else self.fetched).append(found[name])
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        (self.styles if self.open and self.open[-1] == "style" else self.words).append(data)

    def named(self, tag):
        return [found for name, found in self.elements if name == tag]


@pytest.fixture(scope="module", params=REPORTS)
def page(request):
    report = make_report(**REPORTS[request.param])
    text = render_html(report, pictures_of(report))
    found = Page(text)
    found.text, found.report = text, report
    return found


def test_elements_are_closed_in_order(page):
    assert page.open == []


def test_nothing_is_fetched(page):
    assert all(value.startswith("data:image/png;base64,") for value in page.fetched)
    assert not {"script", "link", "iframe", "object", "embed", "base"} & {
        name for name, _ in page.elements
    }
    styles = " ".join(page.styles) + " ".join(a.get("style") or "" for _, a in page.elements)
    assert "@import" not in styles
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", styles))
    assert not re.search(r"https?://", page.text)


def test_every_link_leads_somewhere_and_ids_are_unique(page):
    assert len(page.ids) == len(set(page.ids))
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)


def test_pictures_plots_and_tables_say_what_they_are(page):
    assert all(image.get("alt") for image in page.named("img"))
    for svg in page.named("svg"):
        assert svg.get("aria-label") or svg.get("aria-hidden") == "true"
    assert len(page.named("caption")) == len(page.named("table"))
    assert all(cell.get("scope") for cell in page.named("th"))
    assert [a["lang"] for a in page.named("html")] == ["en"]
    assert len(page.named("h1")) == 1


def test_headings_do_not_skip_a_level(page):
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    levels.pop(0)  # the index, which stands before the title
    assert levels[0] == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))


def test_plots_take_the_page_s_colours_and_hold_no_date(page):
    # A placeholder colour that is left would be black on black in the dark.
    assert not re.search(r"#0\d0\d0\d", page.text)
    assert "<metadata" not in page.text
    assert "dc:date" not in page.text


def test_light_dark_and_paper_have_their_styles(page):
    styles = " ".join(page.styles)
    assert "prefers-color-scheme: dark" in styles
    assert "@media print" in styles


def test_a_banner_says_research_use(page):
    assert page.report.research_use in " ".join(page.words)


def test_no_number_is_nan(page):
    words = " ".join(page.words)
    assert not re.search(r"\b(nan|None|inf)\b", words)


def test_suppressed_groups_leak_no_counts(page):
    rows = re.findall(r"<tr>.*?</tr>", page.text, flags=re.DOTALL)
    hidden = [row for row in rows if "suppressed: fewer" in row]
    defined = [r for r in page.report.targets if not r.undefined]
    assert len(hidden) == len(defined)
    for row in hidden:
        cells = re.sub(r"<[^>]*>", " ", row)
        assert re.sub(r"\s+", " ", cells).strip() == (
            "Tiny &lt;Devices&gt; suppressed: fewer than 10 patients"
        )
    # 113 of 120 would give the 7 away.
    assert not re.search(r">113<", page.text)


def test_values_from_the_data_are_escaped(page):
    assert "<Devices>" not in page.text
    assert "Mind the &lt;gap&gt;." in page.text


def test_equal_reports_give_equal_pages():
    report = make_report()
    assert render_html(report, pictures_of(report)) == render_html(report, pictures_of(report))


def test_the_summary_says_the_operating_point_in_words():
    report = make_report()
    words = re.sub(r"\s+", " ", " ".join(Page(render_html(report, {})).words))
    op = report.targets[0].operating
    found = round(100 * op.sensitivity.value)
    alarms = round(100 - 100 * op.specificity.value)
    assert f"Of 100 patients with the finding, {found} are flagged" in words
    assert f"Of 100 patients without it, {alarms} are flagged by mistake" in words
    assert "with 5 of 100 having the finding" in words


def test_a_mistake_without_picture_says_so():
    page = Page(render_html(make_report(), {}))
    assert not page.named("img")
    assert "No picture could be made of this item." in " ".join(page.words)


def test_an_undefined_target_says_why_and_shows_nothing_else():
    page = Page(render_html(make_report(**REPORTS["undefined"]), {}))
    words = " ".join(page.words)
    assert "All 120 labelled held-out items are negative" in words
    assert "ROC curve" not in words
