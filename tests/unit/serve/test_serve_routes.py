"""Which version answers: names, versions, aliases, shares of requests, shadows."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medray.serve.problems import ProblemError
from medray.serve.routes import Route, Routes, check


def _route(version: str, name: str = "breast", **more: Any) -> Route:
    fields = {"app": f"{name}--{version}", "uri": f"/{name}/{version}", "digest": version * 64}
    return Route(name=name, version=version, reads="images", **fields | more)


def test_a_name_alone_means_latest_or_the_last_settled_one():
    assert Routes(every=(_route("1"), _route("2"))).of("breast").version == "2"
    named = Routes(every=(_route("1", aliases=("latest",)), _route("2")))
    assert named.of("breast").version == named.of("breast@latest").version == "1"
    trial = Routes(every=(_route("1"), _route("2", weight=0.1), _route("3", shadow=True)))
    assert trial.default("breast").version == "1"


def test_a_version_or_an_alias_is_asked_for_by_itself():
    routes = Routes(every=(_route("1", aliases=("stable",)), _route("2", weight=1.0)))
    assert routes.of("breast@1").version == routes.of("breast@stable").version == "1"
    assert routes.of("breast").version == "2", "a share of 1 is all requests"


@pytest.mark.parametrize(
    ("ref", "kind"), [("lung", "no-such-model"), ("breast@7", "no-such-version")]
)
def test_what_is_not_there_is_said(ref: str, kind: str):
    with pytest.raises(ProblemError) as problem:
        Routes(every=(_route("1"),)).of(ref)
    assert (problem.value.status, problem.value.kind) == (404, kind)
    assert "breast" in problem.value.detail or "1" in problem.value.detail


def test_a_canary_gets_its_share_and_a_repeated_request_the_same_version():
    routes = Routes(every=(_route("1"), _route("2", weight=0.2), _route("3", weight=0.1)))
    ids = [f"request-{number}" for number in range(5000)]
    answered = [routes.of("breast", one).version for one in ids]
    assert answered == [routes.of("breast", one).version for one in ids]
    shares = {version: answered.count(version) / len(ids) for version in "123"}
    # four standard errors of a share of .2 among 5,000
    assert shares["2"] == pytest.approx(0.2, abs=0.023)
    assert shares["3"] == pytest.approx(0.1, abs=0.017)


def test_shadows_see_what_others_of_their_name_answer():
    routes = Routes(every=(_route("1"), _route("2", shadow=True), _route("1", "lung")))
    assert [one.version for one in routes.shadows(routes.of("breast"))] == ["2"]
    assert routes.shadows(routes.of("breast@2")) == ()
    assert routes.shadows(routes.of("lung")) == ()


def test_one_name_stands_for_one_package():
    assert check([_route("1"), _route("2")]) == ""
    assert "breast@1" in check([_route("1"), _route("1")])
    assert "breast@stable" in check(
        [_route("1", aliases=("stable",)), _route("2", aliases=("stable",))]
    )
    assert "breast@2" in check([_route("1", aliases=("2",)), _route("2")])
    assert "weights" in check([_route("1", weight=0.7), _route("2", weight=0.7)])


@given(st.lists(st.floats(0, 0.3), min_size=1, max_size=3), st.text(max_size=8))
def test_every_request_is_answered_by_a_version_of_its_name(weights: list[float], request_id: str):
    versions = [_route(str(at), weight=weight) for at, weight in enumerate(weights)]
    routes = Routes(every=(*versions, _route("0", "lung")))
    assert routes.of("breast", request_id) in versions
