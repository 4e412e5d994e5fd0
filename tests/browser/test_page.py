"""The page's journeys in a real browser: what a person sees, does, and is told."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from page_server import TOKEN, Behind, app_of, served
from PIL import Image
from playwright.sync_api import Page, expect
from scans_for_page import ct, phantom, png, series

from medray.dicom import files, pixels
from medray.dicom.write import write_instance
from medray.explain.heatmap import overlay
from medray.spec.pixels import PixelSpec

Array = np.ndarray[Any, Any]
SHOWN = ".stage[data-shown]"


def seen(page: Page) -> Array:
    """The stage as it is on the screen (H,W,3)."""
    page.wait_for_timeout(150)  # the next frame is drawn
    shot = page.locator(".stage").screenshot()
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"))


def at(shot: Array, shape: tuple[int, int], points: Array) -> Array:
    """Colours (N,3) where pixels (row, column) of a picture are drawn: centred, whole."""
    high, wide = shot.shape[:2]
    scale = min(high / shape[0], wide / shape[1])
    corner = np.array([high - scale * shape[0], wide - scale * shape[1]]) / 2
    places = np.floor(corner + scale * (points + 0.5)).astype(int)
    return shot[places[:, 0], places[:, 1]].astype(int)


def middles(shape: tuple[int, int], edges: Array) -> Array:
    """A grid of pixels of a picture that lie on none of its edges."""
    rows, columns = np.meshgrid(
        np.arange(3, shape[0] - 3, 7), np.arange(3, shape[1] - 3, 7), indexing="ij"
    )
    points = np.stack([rows.ravel(), columns.ravel()], -1)
    return points[~edges[points[:, 0], points[:, 1]]]


def rims(picture: Array) -> Array:
    """Where (H,W) a picture changes within two pixels."""
    near = np.zeros(picture.shape, bool)
    for shift in (-2, -1, 1, 2):
        for axis in (0, 1):
            near |= np.roll(picture, shift, axis) != picture
    return near


def upload(page: Page, names: list[str]) -> None:
    page.set_input_files("#scan-files", names)
    page.wait_for_selector(SHOWN)
    page.wait_for_selector("div.score")


def test_from_a_scan_to_its_score_overlay_and_the_worklist(
    visit: Any, address: str, tmp_path: Path, behind: Behind
) -> None:
    page = visit(address)
    expect(page.get_by_text("Research use only.")).to_be_visible()
    upload(page, series(tmp_path))
    expect(page.locator("#facts")).to_contain_text("CT · 200 × 120 · 0.8 × 0.8 × 2.5 mm")
    assert page.locator(".edge").all_inner_texts() == ["R", "L", "A", "P"]
    expect(page.locator("output[for=slice]")).to_have_text("3 / 5")
    # the score is the package's own, of the file whose slice is shown
    (row,) = [
        row
        for row in behind.pictures.predict_bytes("x", (tmp_path / "1.dcm").read_bytes())
        if row.target == "bright"
    ]
    shown = page.locator("[data-target=bright] output")
    expect(shown).to_have_text(f"{row.score:.3f}")
    expect(page.locator("[data-target=bright]")).to_contain_text("at 0.400")
    page.click("#explain")
    expect(page.locator("#explain")).to_have_attribute("aria-pressed", "true")
    page.screenshot(path=tmp_path / "scan.png")
    page.get_by_role("link", name="Worklist").click()
    expect(page.locator("tbody tr")).to_have_count(50)
    expect(page.locator("tbody tr").first).to_contain_text("study119")
    page.screenshot(path=tmp_path / "worklist.png")


def test_pixels_are_shown_as_the_file_means_them(visit: Any, address: str, tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(ct(0, phantom()))
    dataset = files.parse(path.read_bytes())
    page = visit(address)
    upload(page, [str(path)])
    points = middles((120, 200), rims(phantom()))
    points = points[(points[:, 0] > 12) & (points[:, 0] < 108)]  # letters stand at the edges
    for window, setting in (("file", "file"), ("Lung", (-600, 1500)), ("Bone", (400, 1800))):
        page.select_option("#preset", window)
        centred = setting if setting == "file" else {"center": setting[0], "width": setting[1]}
        spec = PixelSpec.model_validate({"window": centred})
        (picture,) = pixels.decode(dataset, spec)
        meant = picture.pixels[points[:, 0], points[:, 1]].astype(int)
        found = at(seen(page), (120, 200), points)
        assert np.abs(found - meant[:, None]).max() <= 2, window


def test_low_values_are_white_in_monochrome1(visit: Any, address: str, tmp_path: Path) -> None:
    values = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (64, 1))
    path = tmp_path / "a.dcm"
    path.write_bytes(
        write_instance(
            values,
            sop_instance_uid="2.25.91",
            study_instance_uid="2.25.92",
            series_instance_uid="2.25.93",
            patient_id="M1",
            photometric_interpretation="MONOCHROME1",
        )
    )
    page = visit(address)
    upload(page, [str(path)])
    points = np.array([[32, column] for column in range(2, 62, 6)])
    found = at(seen(page), (64, 64), points)
    assert np.abs(found - (255 - values[32, points[:, 1]].astype(int))[:, None]).max() <= 4
    assert page.locator(".edge").all_inner_texts() == ["", "", "", ""]
    expect(page.locator("#facts")).to_contain_text("position in the patient unknown")


def test_colour_is_shown_in_its_colours(visit: Any, address: str, tmp_path: Path) -> None:
    values = np.zeros((60, 90, 3), np.uint8)
    values[:, :30], values[:, 30:60], values[:, 60:] = (200, 30, 30), (20, 180, 40), (10, 20, 220)
    page = visit(address)
    upload(page, [png(tmp_path, values)])
    points = np.array([[30, 10], [30, 45], [30, 80]])
    found = at(seen(page), (60, 90), points)
    assert np.abs(found - values[points[:, 0], points[:, 1]]).max() <= 3
    expect(page.locator("#centre")).to_be_disabled()


def test_a_heat_map_lies_where_the_model_looked(visit: Any, address: str, tmp_path: Path) -> None:
    grey = np.full((120, 200), 90, np.uint8)
    page = visit(address)
    upload(page, [png(tmp_path, grey)])
    page.click("#explain")
    expect(page.locator("#explain")).to_have_attribute("aria-pressed", "true")
    page.locator("#opacity").fill("100")
    # The model reads 16 by 16 with the picture in rows 3 to 12; its map rises from pixel to pixel.
    map_ = np.rint(np.linspace(0, 1, 256) * 255).reshape(16, 16)[3:13] / 255
    points = np.array(
        [[6 + 12 * row, 6.25 + 12.5 * column] for row in range(10) for column in range(16)]
    )
    meant = overlay(np.full((10, 16), 90, np.uint8), map_, 1.0).reshape(-1, 3).astype(int)
    shot = seen(page)
    assert np.abs(at(shot, (120, 200), points) - meant).max() <= 8
    # and nowhere beside the picture
    scale = min(shot.shape[0] / 120, shot.shape[1] / 200)
    margin = int((shot.shape[0] - scale * 120) / 2) - 2
    if margin > 30:
        assert shot[25:margin, 60:-60].max() <= 2
    page.click("#explain")
    assert np.abs(at(seen(page), (120, 200), points) - 90).max() <= 2


def test_everything_with_the_keyboard(visit: Any, address: str, tmp_path: Path) -> None:
    page = visit(address)
    choosers: list[Any] = []  # asked for early: else one may open before anybody listens
    page.on("filechooser", lambda one: choosers.append(one))
    page.wait_for_selector(".stage[data-ready]", state="attached")
    page.keyboard.press("?")
    expect(page.get_by_role("heading", name="Shortcuts")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("heading", name="Shortcuts")).to_be_hidden()
    page.keyboard.press("o")
    for _ in range(100):
        if not choosers:
            page.wait_for_timeout(100)
    choosers[0].set_files(series(tmp_path))
    page.wait_for_selector(SHOWN)
    page.wait_for_selector("div.score")
    expect(page.locator(".stage")).to_be_focused()
    where = page.locator("output[for=slice]")
    for key, place in (
        ("ArrowDown", "4 / 5"),
        ("End", "5 / 5"),
        ("Home", "1 / 5"),
        ("PageDown", "5 / 5"),
    ):
        page.keyboard.press(key)
        expect(where).to_have_text(place)
    page.keyboard.press("]")
    expect(page.locator("#width")).to_have_value("420")
    page.keyboard.press(".")
    expect(page.locator("#centre")).to_have_value("61")
    page.keyboard.press("+")
    expect(page.locator(".stage")).to_have_attribute(
        "aria-label", "Picture 5 of 5, window centre 61, width 420, zoom 1.25"
    )
    page.keyboard.press("0")
    expect(page.locator("#width")).to_have_value("400")
    reached = set[str]()
    for _ in range(40):
        page.keyboard.press("Tab")
        name, ring = page.evaluate(
            "() => [document.activeElement.id || document.activeElement.className,"
            " getComputedStyle(document.activeElement).outlineStyle]"
        )
        if name and "medray" not in name:  # else the turn of the browser's own controls
            reached.add(name)
            assert ring != "none", name
    assert {
        "slice",
        "centre",
        "width",
        "preset",
        "reset",
        "explain",
        "opacity",
        "scan-model",
    } <= reached
    page.keyboard.press("2")
    expect(page.get_by_role("heading", name="Worklist")).to_be_visible()


def test_zoom_moves_nothing_and_dragging_moves_the_picture(
    visit: Any, address: str, tmp_path: Path
) -> None:
    values = np.zeros((101, 101), np.uint8)
    values[48:53, 48:53] = 255
    page = visit(address)
    upload(page, [png(tmp_path, values)])
    box = page.locator(".stage").bounding_box()
    assert box is not None
    middle = np.array([box["height"], box["width"]]) / 2

    def spot() -> tuple[Array, int]:
        shot = seen(page)[20:-20, 20:-20]  # without its round corners
        lit = np.argwhere(shot[..., 0] > 127)
        return lit.mean(0) + 20, len(lit)

    before, size = spot()
    assert np.abs(before - middle).max() <= 1.5
    page.locator(".stage").focus()
    page.keyboard.press("+")
    page.keyboard.press("+")
    after, larger = spot()
    assert np.abs(after - middle).max() <= 2.5
    assert larger == pytest.approx(size * 1.25**4, rel=0.1)
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down(button="right")
    page.mouse.move(x + 60, y + 30, steps=4)
    page.mouse.up(button="right")
    moved, _ = spot()
    assert np.abs(moved - after - [30, 60]).max() <= 3


def test_filters_order_and_leafing_of_the_worklist(visit: Any, address: str) -> None:
    page = visit(address, "#worklist")
    rows, count = page.locator("tbody tr"), page.locator("#count")
    expect(count).to_have_text("1–50 of 121 lines")
    page.click("#after")
    expect(count).to_have_text("51–100 of 121 lines")
    page.get_by_role("button", name="Score").click()
    expect(page.locator("th.score")).to_have_attribute("aria-sort", "ascending")
    expect(rows.first).to_contain_text("study000")
    page.select_option("#list-decision", "positive")
    expect(count).to_have_text("1–50 of 60 lines")
    page.click("#latest")
    expect(page.locator("#from")).to_have_value("2024-05-03")
    expect(count).to_have_text("1–20 of 20 lines")
    page.select_option("#list-decision", "rejected")
    expect(page.locator(".empty")).to_be_visible()


def test_a_token_is_asked_for_and_goes_into_no_address(
    visit: Any, behind: Behind, tmp_path: Path
) -> None:
    behind.requests.clear()
    with served(app_of(behind, (), TOKEN)) as address:
        page = visit(address)
        expect(page.get_by_role("alert")).to_contain_text("Give an access token")
        page.get_by_role("button", name="Access").click()
        page.get_by_label("Access token").fill(TOKEN)
        page.get_by_role("button", name="Use").click()
        expect(page.get_by_role("alert")).to_be_empty()
        upload(page, [png(tmp_path, np.full((30, 30), 90, np.uint8))])
        assert page.evaluate("() => [localStorage.length, document.cookie]") == [0, ""]
        assert TOKEN not in page.url
    asked = [(path, given) for path, given in behind.requests if path.startswith("/v1/")]
    assert asked[-1][1] == f"Bearer {TOKEN}"
    assert not any("words" in path for path, _ in behind.requests)


def test_what_cannot_be_read_is_said_in_words(visit: Any, address: str, tmp_path: Path) -> None:
    good = ct(0, phantom())
    names = [tmp_path / "a.dcm", tmp_path / "b.dcm"]
    names[0].write_bytes(good)
    names[1].write_bytes(good[:900])
    page = visit(address)
    upload(page, [str(name) for name in names])
    expect(page.locator("#facts")).to_contain_text("1 file without a picture")
    expect(page.locator(".refusals")).to_contain_text("1 file or picture not scored")
    page.set_input_files("#scan-files", [str(names[1])])
    expect(page.get_by_role("alert")).to_contain_text("None of 1 files can be shown")
    expect(page.get_by_role("alert")).to_contain_text("truncated")
    expect(page.locator(".stage")).to_be_hidden()  # not the picture before


def test_events_and_what_each_of_them_added(visit: Any, address: str, tmp_path: Path) -> None:
    page = visit(address, "#timeline")
    page.fill("#events", "{")
    page.click("#predict-events")
    expect(page.get_by_role("alert")).to_contain_text("The text is no JSON")
    page.fill("#events", '{"patients": []}')
    page.click("#predict-events")
    expect(page.get_by_role("alert")).to_contain_text("/events Field required")
    page.fill("#events", '[{"subject_id": "a", "time": null, "code": "sex", "text_value": "F"}]')
    page.click("#predict-events")
    expect(page.locator("[data-target=death] output")).to_have_text("0.620")
    bars = page.locator("svg.timeline rect")
    expect(bars).to_have_count(2)  # a fact has no time
    boxes = {bar.get_attribute("class"): bar.bounding_box() for bar in bars.all()}
    adds, takes = boxes["adds"], boxes["takes"]
    assert adds is not None
    assert takes is not None
    assert adds["y"] < takes["y"]
    assert adds["x"] > takes["x"]  # 2 h before the prediction, 30 h
    assert adds["height"] / takes["height"] == pytest.approx(1.1 / 0.6, rel=0.03)
    expect(page.locator(".answers tbody tr").first).to_contain_text("lactate")
    expect(page.locator(".answers")).to_contain_text("never seen: X1")
    page.screenshot(path=tmp_path / "timeline.png")


def test_molecules_with_their_atoms(visit: Any, address: str, tmp_path: Path) -> None:
    page = visit(address, "#molecule")
    page.fill("#smiles", "CCO\n\nCCN\n")
    page.click("#predict-molecules")
    expect(page.locator("img.structure")).to_have_count(2)
    page.wait_for_function(
        "() => [...document.querySelectorAll('img.structure')].every(i => i.naturalWidth > 0)"
    )
    drawn = Image.open(io.BytesIO(page.locator("img.structure").first.screenshot()))
    colours = np.asarray(drawn.convert("RGB")).reshape(-1, 3).astype(int)
    assert (np.abs(colours - [230, 158, 0]).max(1) <= 6).sum() > 100  # the atom that adds most
    expect(page.locator("[data-target=NR-AR] output").first).to_have_text("0.620")
    page.screenshot(path=tmp_path / "molecule.png")


def test_the_model_card_and_what_scores_mean(visit: Any, address: str) -> None:
    page = visit(address)
    expect(page.locator(".meaning")).to_contain_text(
        "bright a probability, calibrated on 120 tuning items; positive at or above 0.400."
    )
    page.get_by_text("Model card").click()
    expect(page.locator(".markdown td").nth(1)).to_have_text("0.91")


CONTRAST = """() => {
  const rgb = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = (c) => { const [r, g, b] = c.slice(0, 3).map((v) => { v /= 255;
    return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = (e) => { for (; e; e = e.parentElement) {
    const c = rgb(getComputedStyle(e).backgroundColor);
    if (c.length === 3 || c[3] > 0.99) return c; }
    return [255, 255, 255]; };
  const low = [];
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    const s = getComputedStyle(e);
    if (!own || !e.checkVisibility({visibilityProperty: true}) || e.disabled) continue;
    const [a, b] = [light(rgb(e.closest("svg") ? s.fill : s.color)), light(behind(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const name = e.className.baseVal ?? e.className;
    if (ratio < 4.5) low.push(`${e.tagName} ${name}: ${e.textContent.slice(0, 30)} ${ratio}`);
  }
  return low; }"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("place", ["", "#worklist", "#timeline", "#molecule"])
def test_text_is_readable_in_light_and_dark_and_fits_a_telephone(
    visit: Any, address: str, scheme: str, place: str
) -> None:
    page = visit(address, place, color_scheme=scheme, viewport={"width": 390, "height": 800})
    if place == "#timeline":
        page.fill("#events", "[]")
        page.click("#predict-events")
        page.wait_for_selector("svg.timeline")
    page.wait_for_load_state("networkidle")
    assert page.evaluate(CONTRAST) == []
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
