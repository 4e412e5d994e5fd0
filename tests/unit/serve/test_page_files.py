"""The page's committed files belong to the committed sources, and name no other place."""

import hashlib
import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
VIEWER, STATIC = ROOT / "viewer", ROOT / "medray" / "serve" / "static"


def test_the_bundle_was_built_from_these_sources() -> None:
    names = ["build.mjs", "package.json", "package-lock.json", "tsconfig.json"]
    names += [f"src/{path.name}" for path in (VIEWER / "src").iterdir()]
    digest = hashlib.sha256()
    for name in sorted(names):
        data = (VIEWER / name).read_bytes()
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
    said = (STATIC / "built-from.txt").read_text().strip()
    assert said == digest.hexdigest(), "run `make viewer` and commit medray/serve/static"


def test_the_page_loads_its_own_files_only_and_has_nothing_inline() -> None:
    page = (STATIC / "index.html").read_text()
    places = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert {place for place in places if not place.startswith("#")} == {
        "/static/icon.svg",
        "/static/app.css",
        "/static/app.js",
    }
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script>", page)
    assert not re.search(r"url\(|@import", (STATIC / "app.css").read_text())


def test_packages_are_pinned_by_hash_without_a_place_to_get_them() -> None:
    lock = json.loads((VIEWER / "package-lock.json").read_text())
    others = {name: one for name, one in lock["packages"].items() if name}
    assert all(one["integrity"].startswith("sha512-") for one in others.values())
    assert not any("resolved" in one for one in others.values())


def test_the_licence_of_everything_in_the_bundle_is_beside_it() -> None:
    notices = (STATIC / "NOTICES.txt").read_text()
    for name in ("@niivue/niivue", "gl-matrix", "fflate", "nifti-reader-js", "zarrita"):
        assert re.search(rf"^{re.escape(name)} \d", notices, re.MULTILINE), name
