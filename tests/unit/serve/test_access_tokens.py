"""Tokens: their shape, the file of their hashes, and the commands that write it."""

import binascii
import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medray.errors import UsageError
from medray.serve.access.rates import Rates
from medray.serve.access.token_file import new_token, revoke_token
from medray.serve.access.tokens import (
    PREFIX,
    RefusedTokenError,
    Tokens,
    find,
    hash_of,
    make_token,
    parse,
    read,
    well_formed,
)

DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
TOKEN = make_token()
Run = Callable[..., tuple[int, str, str]]


def _number(text: str) -> int:
    return sum(DIGITS.index(digit) * 62**place for place, digit in enumerate(reversed(text)))


def test_a_token_is_256_bits_and_their_checksum() -> None:
    made = {make_token() for _ in range(500)}
    assert len(made) == 500
    numbers = []
    for token in made:
        assert token.startswith("medray_")
        secret, check = token[7:50], token[50:]
        assert _number(check) == binascii.crc32(secret.encode())
        numbers.append(_number(secret))
    assert max(numbers) < 2**256
    for bit in range(256):  # every bit is drawn
        ones = sum(number >> bit & 1 for number in numbers)
        assert 150 < ones < 350, bit


@given(st.text(max_size=80) | st.just(TOKEN).flatmap(lambda t: st.permutations(t).map("".join)))
def test_another_text_is_no_token(text: str) -> None:
    known = parse(json.dumps({"tokens": [_entry()]}), "here").tokens
    if text == TOKEN:
        return
    with pytest.raises(RefusedTokenError):
        find(known, text, NOW)


@given(st.integers(0, len(TOKEN) - 1), st.sampled_from(DIGITS))
def test_one_wrong_letter_is_seen_by_the_checksum(place: int, letter: str) -> None:
    typed = TOKEN[:place] + letter + TOKEN[place + 1 :]
    assert well_formed(typed) is (typed == TOKEN)
    if typed != TOKEN:
        with pytest.raises(RefusedTokenError, match="mistyped or cut off"):
            find((), typed, NOW)


def _entry(**changed: object) -> dict[str, object]:
    entry = {
        "name": "ward",
        "sha256": hashlib.sha256(TOKEN.encode()).hexdigest(),
        "scopes": ["predict"],
    }
    return {**entry, **changed}


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({}, None),
        ({"expires": "2026-11-25T12:00:01Z"}, None),
        ({"expires": "2026-11-25T12:00:00Z"}, "expired"),
        ({"expires": "2026-11-25T13:00:00+02:00"}, "expired"),
        ({"revoked": "2026-11-25T11:00:00Z", "expires": "2027-01-01T00:00:00Z"}, "revoked"),
        ({"sha256": "0" * 64}, "not known"),
    ],
)
def test_what_a_token_is_worth(changed: dict[str, object], why: str | None) -> None:
    known = parse(json.dumps({"tokens": [_entry(**changed)]}), "here").tokens
    if why is None:
        caller = find(known, TOKEN, NOW)
        assert (caller.name, caller.scopes, caller.by) == ("ward", {"predict"}, "token")
    else:
        with pytest.raises(RefusedTokenError, match=why):
            find(known, TOKEN, NOW)


SECRET = "medray_SECRET"
BAD = [
    "",
    SECRET,
    "[" * 100_000,
    "[]",
    "3",
    '{"tokens": 3}',
    json.dumps({SECRET: 1}),
    json.dumps({"tokens": [{SECRET: 1}]}),
    json.dumps({"tokens": [_entry(sha256=SECRET)]}),
    json.dumps({"tokens": [_entry(token=SECRET)]}),
    json.dumps({"tokens": [_entry(name=f"{SECRET} x")]}),
    json.dumps({"tokens": [_entry(scopes=[])]}),
    json.dumps({"tokens": [_entry(scopes=[SECRET])]}),
    json.dumps({"tokens": [_entry(per_minute=0)]}),
    json.dumps({"tokens": [_entry(expires="2026-11-25T12:00:00")]}),  # whose clock?
    json.dumps({"tokens": [_entry(), _entry()]}),
]


@pytest.mark.parametrize("text", BAD, ids=range(len(BAD)))
def test_a_bad_file_is_refused_at_the_start_and_not_quoted(tmp_path: Path, text: str) -> None:
    file = tmp_path / "tokens.json"
    file.write_text(text)
    with pytest.raises(UsageError, match=r"is no (JSON|list of tokens)") as refused:
        Tokens(file)
    assert SECRET not in str(refused.value)
    assert refused.value.remedy


@given(st.binary(max_size=200))
def test_any_bytes_are_a_list_or_a_usage_error(data: bytes) -> None:
    with contextlib.suppress(UsageError):
        parse(data, "here")


def test_a_file_that_everybody_may_write_to_is_refused(tmp_path: Path) -> None:
    new_token(tmp_path / "t.json", "ward", ["predict"])
    (tmp_path / "t.json").chmod(0o666)
    with pytest.raises(UsageError, match="everybody on this machine may write"):
        Tokens(tmp_path / "t.json")


def test_a_change_is_seen_and_a_spoilt_file_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "t.json"
    token = new_token(file, "ward", ["predict"]).token
    tokens = Tokens(file)
    assert tokens.refresh(0.0) is None
    new_token(file, "second", ["predict"])
    assert tokens.refresh(0.5) is None
    assert len(tokens.current) == 1, "not looked at twice in a second"
    assert tokens.refresh(1.5) is None
    assert [one.name for one in tokens.current] == ["ward", "second"]
    good = file.read_bytes()
    file.write_text("{")
    problem = tokens.refresh(3.0)
    assert problem is not None
    assert "stay as they were" in problem
    assert tokens.refresh(5.0) is None, "said once"
    assert find(tokens.current, token, NOW).name == "ward"
    file.write_bytes(good)
    assert tokens.refresh(7.0) is None
    file.unlink()
    assert "gone" in (tokens.refresh(9.0) or "")
    assert tokens.current == ()
    file.write_bytes(good)
    tokens.refresh(11.0)
    assert len(tokens.current) == 2


def test_the_file_holds_no_token_and_is_its_owners(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "t.json"
    before = os.umask(0)
    try:
        made = new_token(file, "ward", ["predict"], per_minute=3, days=2, now=NOW)
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert made.token not in file.read_text()
    (entry,) = read(file).tokens
    assert entry.sha256 == hashlib.sha256(made.token.encode()).hexdigest() == hash_of(made.token)
    assert (entry.expires, entry.per_minute) == (NOW + timedelta(days=2), 3)
    link = tmp_path / "link.json"
    link.symlink_to(file)
    revoke_token(link, "ward", now=NOW)
    assert link.is_symlink()
    assert read(file).tokens[0].revoked == NOW
    new_token(file, "ward", ["admin"])
    assert [path.name for path in file.parent.iterdir()] == ["t.json"], "nothing is left behind"


def test_many_at_once_lose_no_token(tmp_path: Path) -> None:
    file = tmp_path / "t.json"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: new_token(file, f"w{n}", ["predict"]), range(24)))
    assert {one.name for one in read(file).tokens} == {f"w{n}" for n in range(24)}


def test_the_commands(tmp_path: Path, run: Run) -> None:
    file = tmp_path / "tokens.json"
    asked = ["token", "new", "ward-3", "--scopes", "predict, explain", "--file", file]
    code, out, err = run(*asked, "--days", 30, "--per-minute", 60)
    assert code == 0
    token = out.strip()
    assert well_formed(token)
    assert "cannot be shown again" in err
    assert token not in err
    assert find(read(file).tokens, token, datetime.now(UTC)).scopes == {"predict", "explain"}
    code, _, err = run(*asked)
    assert (code, "already" in err) == (2, True)
    code, out, _ = run("token", "list", "--file", file)
    assert code == 0
    assert out.split()[:4] == ["ward-3", "valid", "predict,explain", "60/min"]
    assert token not in out
    assert run("token", "revoke", "ward-3", "--file", file)[0] == 0
    assert "revoked" in run("token", "list", "--file", file)[1]
    code, _, err = run("token", "revoke", "ward-3", "--file", file)
    assert (code, "no valid token" in err) == (2, True)
    for arguments in (
        ["new", "Ms X", "--scopes", "predict"],
        ["new", "w", "--scopes", "predict,everything"],
        ["new", "w", "--scopes", ","],
        ["new", "w", "--scopes", "predict", "--days", "99999999999"],
        ["list", "--file", tmp_path / "absent"],
        ["revoke", "w", "--file", tmp_path / "absent"],
        ["new", "w", "--scopes", "predict", "--file", file / "below"],
    ):
        given = arguments if "--file" in arguments else [*arguments, "--file", file]
        code, out, err = run("token", *given)
        assert (code, out) == (2, ""), arguments
        assert "→" in err


@given(
    st.integers(1, 120),
    st.lists(st.floats(0, 30, allow_nan=False), min_size=1, max_size=200),
)
def test_no_minute_lets_in_more_than_two_minutes_worth(per_minute: int, gaps: list[float]) -> None:
    rates, now, let_in = Rates(), 0.0, []
    for gap in gaps:
        now += gap
        wait = rates.take(("token", "a"), per_minute, now)
        if wait == 0:
            let_in.append(now)
        else:
            assert 0 < wait <= 60 / per_minute + 1e-6
    for start in let_in:
        # What was saved up, and what came in the meantime.
        within = sum(start <= one <= start + 60 for one in let_in)
        assert within <= 2 * per_minute


def test_waiting_as_long_as_told_is_enough_and_buckets_are_bounded() -> None:
    rates = Rates(most=100)
    assert [rates.take(("t", "a"), 2, 5.0) for _ in range(2)] == [0, 0]
    wait = rates.take(("t", "a"), 2, 5.0)
    assert wait == pytest.approx(30)
    assert rates.take(("t", "a"), 2, 5.0 + wait - 0.01) > 0
    assert rates.take(("t", "a"), 2, 5.0 + wait) == 0
    for number in range(5000):
        rates.take(("address", str(number)), 2, 40.0)
    assert len(rates._buckets) <= 100
    assert rates.take(("token", "b"), 1, 40.0) == 0
    assert rates.take(("token", "b"), 1, 40.0) > 0, "the newest are kept"


def test_no_more_than_a_minutes_worth_is_saved_up() -> None:
    rates = Rates()
    assert rates.take(("t", "a"), 3, 0.0) == 0
    assert [rates.take(("t", "a"), 3, 3600.0) == 0 for _ in range(5)] == [True] * 3 + [False] * 2


def test_the_prefix_does_not_change() -> None:
    assert PREFIX == "medray_", "secret scanners know it"
