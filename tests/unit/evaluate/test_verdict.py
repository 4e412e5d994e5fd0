"""When one generator is better than another: by scipy's own interval, never by one sampling."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from medray.evaluate.verdict import BETTER, compare, measured, verdict
from medray.molecules.metrics.published import published_rows
from medray.report.generators import MakerRow

numbers = st.lists(st.floats(0, 1).map(lambda x: round(x, 3)), min_size=2, max_size=6)


def _row(name: str, **measures: list[float]) -> MakerRow:
    found = {key.replace("_", "/"): measured(values) for key, values in measures.items()}
    return MakerRow(name=name, kind="way", measures=found)


@given(numbers, numbers)
def test_a_difference_counts_where_the_interval_leaves_out_zero(
    one: list[float], other: list[float]
):
    found = compare(_row("gan", FCD_test=one), _row("normal", FCD_test=other), "FCD/test")
    back = compare(_row("normal", FCD_test=other), _row("gan", FCD_test=one), "FCD/test")
    opposite = {"better": "worse", "worse": "better"}
    said = found.verdicts["FCD/test"]
    assert back.verdicts["FCD/test"] == opposite.get(said, said)
    if len(set(one)) > 1 and len(set(other)) > 1:
        interval = stats.ttest_ind(one, other, equal_var=False).confidence_interval(0.95)
        clear = interval.low > 0 or interval.high < 0
        assert (said != "no clear difference") == clear
    if said == "better":
        assert sum(one) / len(one) < sum(other) / len(other)
        assert found.nearer is True


def test_one_sampling_says_nothing_of_the_spread():
    own, rival = _row("gan", FCD_test=[0.1]), _row("normal", FCD_test=[9.0])
    found = compare(own, rival, "FCD/test")
    assert found.nearer is None
    assert "spread is not known" in found.sentence
    assert "samplings: 3" in verdict(own, [found])


def test_it_earns_its_place_only_beside_every_rival():
    own = _row("gan", FCD_test=[0.30, 0.31, 0.32], valid=[0.9, 0.9, 0.9])
    far = _row("normal", FCD_test=[0.50, 0.51, 0.52], valid=[0.9, 0.9, 0.9])
    near = _row("lm", FCD_test=[0.30, 0.31, 0.33], valid=[0.95, 0.96, 0.95])
    beside = [compare(own, rival, "FCD/test") for rival in (far, near)]
    assert [one.nearer for one in beside] == [True, False]
    assert beside[1].verdicts["valid"] == "worse"
    assert beside[0].verdicts["valid"] == "no clear difference"
    assert "earns its place" in verdict(own, beside[:1])
    assert "does not earn its place" in verdict(own, beside)
    assert "lm" in verdict(own, beside)
    assert verdict(own, []) == ""


def test_a_measure_that_one_of_them_has_not_is_in_no_count():
    own = _row("gan", FCD_test=[0.3, 0.31], Scaf_test=[0.5, float("nan")])
    rival = _row("normal", FCD_test=[0.9, 0.91], Scaf_test=[0.5, 0.6])
    found = compare(own, rival, "FCD/test")
    assert found.verdicts == {"FCD/test": "better"}
    assert "Of 1 measures it is better in 1" in found.sentence


def test_what_is_not_defined_is_null_and_undecided():
    found = measured([0.5, float("nan")])
    assert (found.values, found.mean, found.deviation) == ((0.5, None), None, None)


def test_published_rows_are_named_as_our_own():
    rows = published_rows(("test", "test_scaffolds"))
    gan = rows["LatentGAN"]
    assert gan["FCD/test"] == 0.2968
    assert gan["FCD/test_scaffolds"] == 0.8281
    assert gan["Scaf/test_scaffolds"] == 0.1072
    assert gan["SNN/test"] == 0.5371
    assert "SNN/test_scaffolds" not in gan
    assert "Novelty" not in rows["Train"]
    assert {name.partition("/")[0] for name in gan} <= {*BETTER, "IntDiv"}
    assert "FCD/only" in published_rows(("only",))["VAE"]


@pytest.mark.parametrize("measure", sorted(BETTER))
def test_every_measure_says_which_end_is_better(measure: str):
    assert BETTER[measure] in (-1, 1)
