"""Paths: what cannot mean two things, and what leads nowhere else."""

import posixpath
from pathlib import Path
from urllib.parse import quote, unquote

import pytest
from gates import Gate
from hypothesis import given
from hypothesis import strategies as st

from medray.serve.access.paths import ROUTES, checked_path, route_of
from medray.serve.problems import ProblemError

BAD = [  # as sent → status
    (b"/static/../tokens.json", 400),
    (b"/static/..", 400),
    (b"/static/./app.js", 400),
    (b"/static/%2e%2e/tokens.json", 400),
    (b"/static/%2E%2E%2Ftokens.json", 400),
    (b"/static/..%2f..%2fetc%2fpasswd", 400),
    (b"/static/%252e%252e/x", 400),
    (b"/static/..%5c..%5cx", 400),
    (b"/static/a%00.js", 400),
    (b"/static//etc/passwd", 400),
    (b"//v1/models", 400),
    (b"/v1/models/%2e%2e/predict", 400),
    (b"/v1/models/a%2fb/predict", 400),
    (b"/v1/models/%ff/predict", 400),
    (b"/v1/models/a%0d%0ax/predict", 400),
    (b"/static/.htaccess", 404),
    (b"/static/", 404),
    (b"/v1/models/", 404),
    (b"/v1/models/-rf/predict", 404),
    (b"/v1/models/Breast/predict", 404),
    (b"/v1/models/a@b@c/predict", 404),
    (b"/v1/models/breast;x/predict", 404),
    (b"/v1/models/" + b"a" * 65, 404),
    ("/v1/models/\u2025/predict".encode(), 404),
    (b"/dicomweb/studies/mueller", 404),
    (b"/docs", 404),
    (b"/v2/models", 404),
    (b"/" + b"a" * 3000, 414),
]


@pytest.mark.parametrize(("raw", "status"), BAD)
def test_refused_before_the_app_sees_it(tmp_path: Path, raw: bytes, status: int) -> None:
    gate = Gate(tmp_path)
    path = unquote(raw.decode("utf-8"), errors="replace")
    for method in ("GET", "POST"):
        answer = gate.ask(path, method, raw=raw)
        assert (answer.status, answer.headers["content-type"]) == (
            status,
            "application/problem+json",
        )
    line, _ = gate.lines()
    assert (line["route"], line["model"], line["status"]) == (None, None, status)


def test_other_methods_are_told_which_there_are(tmp_path: Path) -> None:
    answer = Gate(tmp_path).ask("/v1/models", "DELETE")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")
    answer = Gate(tmp_path / "2").ask("/v1/models/a/predict", "GET")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")


pieces = st.one_of(
    st.sampled_from(["..", ".", "", "static", "v1", "models", "a@1", "predict", "%2e", "\\", "\0"]),
    st.text(max_size=6),
)


@given(st.lists(pieces, max_size=6), st.booleans())
def test_what_passes_is_its_own_only_spelling(parts: list[str], encode_all: bool) -> None:
    path = "/" + "/".join(parts)
    raw = quote(path.encode("utf-8", "surrogatepass"), safe="" if encode_all else "/").encode()
    decoded = unquote(raw.decode(), errors="replace")
    try:
        passed = checked_path({"path": decoded, "raw_path": raw})
    except ProblemError:
        return
    assert passed == decoded
    assert posixpath.normpath(passed).rstrip("/") == passed.rstrip("/")
    assert unquote(passed) == passed
    inside = Path("/srv/static") / passed.removeprefix("/static/").lstrip("/")
    assert inside.resolve().is_relative_to("/srv/static")
    assert passed.isprintable() or not any(ord(one) < 32 for one in passed)


@given(st.sampled_from(ROUTES), st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,10}", fullmatch=True))
def test_every_route_is_found_and_names_its_model(route: object, name: str) -> None:
    template = route.template  # type: ignore[attr-defined]
    path = template.replace("{ref}", name).replace("{study}", "1.2").replace("{file}", "a/b.js")
    found, model = route_of(route.method, path)  # type: ignore[attr-defined]
    assert found is route
    assert model == (name if "{ref}" in template else None)
