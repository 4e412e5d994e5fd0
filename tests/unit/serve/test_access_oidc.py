"""Signed tokens: real keys, a real key server, and forgeries made by hand."""

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from gates import Gate, KeyServer
from hypothesis import given, settings
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from pydantic import ValidationError

from medray.errors import UsageError
from medray.serve.access.caller import Caller
from medray.serve.access.oidc import FRESH_S, STALE_S, Keys, Oidc
from medray.serve.access.tokens import RefusedTokenError
from medray.serve.problems import ProblemError
from medray.spec.serve import OidcSpec

ISSUER, AUDIENCE = "https://id.hospital.example/realms/staff", "medray"
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
WEAK = rsa.generate_private_key(public_exponent=65537, key_size=1024)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
PEM = RSA.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)


def _jwk(key: Any, kid: str, **more: str) -> dict[str, Any]:
    kinds: Any = {rsa.RSAPrivateKey: RSAAlgorithm, ec.EllipticCurvePrivateKey: ECAlgorithm}
    made = next((kinds[kind] for kind in kinds if isinstance(key, kind)), OKPAlgorithm)
    return {**made.to_jwk(key.public_key(), as_dict=True), "kid": kid, **more}


def _claims(**changed: Any) -> dict[str, Any]:
    now = int(time.time())
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "dr.who",
        "exp": now + 300,
        "iat": now,
        "scope": "openid medray.predict medray.explain",
    }
    return {name: value for name, value in {**claims, **changed}.items() if value is not None}


def _signed(
    key: Any = RSA, algorithm: str = "RS256", kid: str | None = "r1", **changed: Any
) -> str:
    headers = {} if kid is None else {"kid": kid}
    return jwt.encode(_claims(**changed), key, algorithm, headers=headers)


def _part(content: Any) -> bytes:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=")


def _by_hand(header: dict[str, Any], secret: bytes | None, **changed: Any) -> str:
    """A token that no library would make: unsigned, or with an HMAC of any secret."""
    head = _part(header) + b"." + _part(_claims(**changed))
    mac = b"" if secret is None else hmac.new(secret, head, hashlib.sha256).digest()
    return (head + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()


@pytest.fixture
def provider() -> Iterator[KeyServer]:
    server = KeyServer()
    server.keys = [_jwk(RSA, "r1", use="sig"), _jwk(EC, "e1"), _jwk(ED, "d1")]
    yield server
    server.close()


def _spec(jwks: str, **more: Any) -> OidcSpec:
    algorithms = ("RS256", "PS256", "ES256", "EdDSA")
    given = {"issuer": ISSUER, "audience": AUDIENCE, "jwks": jwks, "algorithms": algorithms}
    return OidcSpec(**{**given, **more})


def _caller(oidc: Oidc, token: str) -> Caller:
    return asyncio.run(oidc.caller(token))


@pytest.mark.parametrize(
    ("key", "algorithm", "kid"),
    [
        (RSA, "RS256", "r1"),
        (RSA, "PS256", "r1"),
        (EC, "ES256", "e1"),
        (ED, "EdDSA", "d1"),
        (EC, "ES256", None),  # there is but one key that can have signed it
    ],
)
def test_good_tokens(provider: KeyServer, key: Any, algorithm: str, kid: str | None) -> None:
    caller = _caller(Oidc(_spec(provider.address)), _signed(key, algorithm, kid))
    assert caller == Caller("dr.who", frozenset({"predict", "explain"}), "oidc")


@pytest.mark.parametrize(
    ("changed", "scopes"),
    [
        ({"scope": "medray.admin"}, {"admin"}),
        ({"scope": None, "scp": ["medray.predict", 3]}, {"predict"}),
        ({"scope": None, "scp": "medray.predict x"}, {"predict"}),
        ({"scope": "medray.predictor predict"}, set()),
        ({"scope": None}, set()),
        ({"scope": {"medray.admin": 1}}, set()),
        ({"aud": ["other", AUDIENCE]}, {"predict", "explain"}),
    ],
)
def test_what_claims_give(provider: KeyServer, changed: dict[str, Any], scopes: set[str]) -> None:
    assert _caller(Oidc(_spec(provider.address)), _signed(**changed)).scopes == scopes


def test_clocks_may_differ_a_little(provider: KeyServer) -> None:
    oidc = Oidc(_spec(provider.address, leeway_s=120))
    now = int(time.time())
    for changed in ({"exp": now - 30}, {"nbf": now + 60}, {"iat": now + 60}):
        assert _caller(oidc, _signed(**changed)).name == "dr.who"
    with pytest.raises(RefusedTokenError, match="expired"):
        _caller(Oidc(_spec(provider.address, leeway_s=0)), _signed(exp=now - 1))


NOW = int(time.time())
FORGED = {
    "expired": (lambda: _signed(exp=NOW - 3600), "expired"),
    "not yet": (lambda: _signed(nbf=NOW + 3600), "not valid yet"),
    "issued tomorrow": (lambda: _signed(iat=NOW + 86_400), "not valid yet"),
    "another issuer": (lambda: _signed(iss="https://evil.example"), "another issuer"),
    "another service": (lambda: _signed(aud="payroll"), "another service"),
    "without end": (lambda: _signed(exp=None), "lacks"),
    "for nobody": (lambda: _signed(aud=None), "lacks"),
    "of nobody": (lambda: _signed(sub=None), "lacks"),
    "of a blank": (lambda: _signed(sub=" \u200b\n"), "names nobody"),
    "another key of that name": (lambda: _signed(OTHER), "signature is wrong"),
    "an unknown key": (lambda: _signed(OTHER, kid="zz"), "key that the provider does not have"),
    "two keys could be meant": (lambda: _signed(kid=None), "signature is wrong|does not have"),
    "changed claims": (lambda: _swapped(_signed()), "signature is wrong"),
    "alg none": (lambda: _by_hand({"alg": "none"}, None), "way that is not accepted"),
    "alg None": (lambda: _by_hand({"alg": "None", "kid": "r1"}, None), "not accepted"),
    "no alg": (lambda: _by_hand({"kid": "r1"}, None), "neither|not accepted"),
    "HMAC by public key": (lambda: _by_hand({"alg": "HS256", "kid": "r1"}, PEM), "not accepted"),
    "HMAC as RS256": (lambda: _by_hand({"alg": "RS256", "kid": "r1"}, PEM), "signature is wrong"),
    "RS384": (lambda: _signed(algorithm="RS384"), "not accepted"),
    "an EC key for RSA": (lambda: _by_hand({"alg": "RS256", "kid": "e1"}, PEM), "does not have"),
    "its own key": (lambda: _own_key(), "signature is wrong|does not have"),
    "critical": (lambda: _critical(), "no valid token|neither"),
    "no JWT": (lambda: "a.b.c", "neither one of ours nor a JWT"),
    "too long": (lambda: "a" * 20_000, "too long"),
}


def _swapped(token: str) -> str:
    head, _, mac = token.split(".")
    return f"{head}.{_part(_claims(scope='medray.admin')).decode()}.{mac}"


def _own_key() -> str:
    """RFC 7515 4.1.3: a key in the header is the attacker's."""
    headers = {"jwk": _jwk(OTHER, "r1"), "jku": "http://127.0.0.1:1/keys", "kid": "r1"}
    return jwt.encode(_claims(), OTHER, "RS256", headers=headers)


def _critical() -> str:
    return jwt.encode(_claims(), RSA, "RS256", headers={"kid": "r1", "crit": ["x"], "x": 1})


@pytest.mark.parametrize("name", FORGED)
def test_forgeries(provider: KeyServer, name: str) -> None:
    make, why = FORGED[name]
    token = make()
    if name == "two keys could be meant":
        provider.keys.append(_jwk(OTHER, "r2"))
    with pytest.raises(RefusedTokenError, match=why) as refused:
        _caller(Oidc(_spec(provider.address)), token)
    assert token not in str(refused.value)


def test_keys_that_are_not_for_this(provider: KeyServer) -> None:
    secret = base64.urlsafe_b64encode(b"s" * 32).decode()
    provider.keys = [
        {"kty": "oct", "kid": "h1", "k": secret},
        {"kty": "RSA", "kid": "broken", "n": "AQAB"},
        _jwk(WEAK, "w1"),
        _jwk(RSA, "r1", use="enc"),
        _jwk(OTHER, "r2", alg="RS512"),
        {"nothing": 1},
        _jwk(EC, "e1"),
    ]
    oidc = Oidc(_spec(provider.address))
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        weak = _signed(WEAK, kid="w1")
    for token in (_signed(kid="r1"), _signed(OTHER, kid="r2"), weak):
        with pytest.raises(RefusedTokenError, match="does not have"):
            _caller(oidc, token)
    assert _caller(oidc, _signed(EC, "ES256", "e1")).name == "dr.who"


def test_a_name_is_short_and_printable(provider: KeyServer) -> None:
    caller = _caller(Oidc(_spec(provider.address)), _signed(sub="a\r\n\x1b[31mb" + "c" * 900))
    assert caller.name.startswith("a[31mbc")
    assert len(caller.name) <= 128
    assert caller.name.isprintable()


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_rotation_is_followed_and_unknown_keys_do_not_hammer_the_provider(
    provider: KeyServer,
) -> None:
    clock = Clock()
    oidc = Oidc(_spec(provider.address), clock=clock)

    async def ask(token: str, times: int = 1) -> int:
        results = await asyncio.gather(
            *(oidc.caller(token) for _ in range(times)), return_exceptions=True
        )
        return sum(isinstance(one, Caller) for one in results)

    async def scenario() -> None:
        assert provider.asked == 0, "nothing is fetched before it is needed"
        assert await ask(_signed(), 20) == 20
        assert provider.asked == 1
        assert await ask(_signed(OTHER, kid="r2"), 20) == 0
        assert provider.asked == 1, "just fetched"
        provider.keys = [_jwk(OTHER, "r2")]
        clock.now += 31
        assert await ask(_signed(OTHER, kid="r2"), 20) == 20
        assert provider.asked == 2, "one for all"
        assert await ask(_signed()) == 0, "the old key is gone"
        assert provider.asked == 2
        for _ in range(100):
            await ask(_signed(OTHER, kid="guess"))
        assert provider.asked == 2

    asyncio.run(scenario())


def test_a_provider_that_is_down_stops_nobody_for_a_while(
    provider: KeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    oidc = Oidc(_spec(provider.address), clock=clock)

    async def scenario() -> None:
        provider.status = 500
        with pytest.raises(ProblemError) as refused:
            await oidc.caller(_signed())
        assert (refused.value.status, refused.value.kind) == (503, "no-keys")
        assert int(refused.value.headers["Retry-After"]) > 30
        assert "status 500" in caplog.text
        with pytest.raises(ProblemError):
            await oidc.caller(_signed())
        assert provider.asked == 1, "not again at once"
        provider.status = 200
        clock.now += 31
        assert (await oidc.caller(_signed())).name == "dr.who"
        provider.status = 500
        clock.now += FRESH_S + 1
        assert (await oidc.caller(_signed())).name == "dr.who"
        behind = oidc._keys._behind
        assert behind is not None, "looked for beside the request"
        await behind
        assert provider.asked == 3
        clock.now += STALE_S
        with pytest.raises(ProblemError):
            await oidc.caller(_signed())

    with caplog.at_level(logging.ERROR):
        asyncio.run(scenario())


def test_the_loop_goes_on_while_keys_are_fetched(provider: KeyServer) -> None:
    provider.wait_s = 0.4
    oidc = Oidc(_spec(provider.address))

    async def scenario() -> int:
        task, ticks = asyncio.create_task(oidc.caller(_signed())), 0
        while not task.done():
            await asyncio.sleep(0.01)
            ticks += 1
        assert task.result().name == "dr.who"
        return ticks

    assert asyncio.run(scenario()) > 5


def test_a_file_of_keys(tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps({"keys": [_jwk(RSA, "r1")]}))
    assert _caller(Oidc(_spec(str(file))), _signed()).name == "dr.who"
    assert _caller(Oidc(_spec(file.as_uri())), _signed()).name == "dr.who"
    for text in ("", "[]", "{}", '{"keys": 3}', '{"keys": [{}]}', "[" * 100_000):
        file.write_text(text)
        with pytest.raises(UsageError, match=r"access\.oidc\.jwks"):
            Oidc(_spec(str(file)))
    with pytest.raises(UsageError, match="cannot be read"):
        Oidc(_spec(str(tmp_path / "absent")))


def test_too_large_a_set_and_a_redirect_are_no_keys(provider: KeyServer) -> None:
    provider.keys = [_jwk(RSA, "r1", x="y" * (2 << 20))]

    async def key(address: str) -> Any:
        return await Keys(address).key("r1", "RS256")

    with pytest.raises(ProblemError):
        asyncio.run(key(provider.address))
    provider.keys, provider.status = [_jwk(RSA, "r1")], 302
    with pytest.raises(ProblemError):
        asyncio.run(key(provider.address))


@pytest.mark.parametrize(
    "jwks",
    [
        "http://id.example/keys",
        "http://127.0.0.1.evil.example/keys",
        "http://localhost@evil.example/keys",
        "ftp://id.example/keys",
    ],
)
def test_keys_come_over_tls(jwks: str) -> None:
    with pytest.raises(ValidationError):
        _spec(jwks)


@pytest.mark.parametrize("algorithm", ["none", "HS256"])
def test_no_spec_allows_what_anybody_can_sign(algorithm: str) -> None:
    with pytest.raises(ValidationError):
        _spec("keys.json", algorithms=(algorithm,))


headers_of_tokens = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@settings(max_examples=200)
@given(
    st.text(st.characters(max_codepoint=255), max_size=60)
    | st.builds(
        lambda header, rest: f"Bearer {_part(header).decode()}.{rest}",
        st.fixed_dictionaries(
            {"alg": st.sampled_from(["RS256", "none"]) | headers_of_tokens},
            optional={"kid": st.just("r1") | headers_of_tokens, "crit": headers_of_tokens},
        )
        | headers_of_tokens,
        st.sampled_from(["e30.AAAA", "e30.", ".", "e30", "W10.AAAA"]),
    )
    | st.just("Bearer " + _part([[]]).decode()[:2] + "W1tb" * 3000 + ".e30.AAAA")
)
def test_whatever_stands_in_authorization_is_refused_politely(any_gate: Gate, value: str) -> None:
    answer = any_gate.ask(token=None, headers=[("authorization", value)])
    assert answer.status in (400, 401)
    assert answer.kind in ("bad-authorization", "no-token", "invalid-token")


@pytest.fixture(scope="module")
def any_gate(tmp_path_factory: pytest.TempPathFactory) -> Gate:
    folder = tmp_path_factory.mktemp("gate")
    (folder / "jwks.json").write_text(json.dumps({"keys": [_jwk(RSA, "r1")]}))
    return Gate(folder, oidc=_spec(str(folder / "jwks.json")), per_minute=10**9)


def test_through_the_gate(tmp_path: Path, provider: KeyServer) -> None:
    gate = Gate(tmp_path, oidc=_spec(provider.address))
    answer = gate.ask(token=_signed())
    assert (answer.status, answer.content["caller"]) == (200, "dr.who")
    assert gate.ask(token="ward").content["caller"] == "ward"
    assert gate.ask("/metrics", token=_signed()).kind == "wrong-scope"
    expired = _signed(exp=NOW - 3600)
    answer = gate.ask(token=expired)
    assert (answer.status, answer.kind) == (401, "invalid-token")
    assert answer.headers["www-authenticate"].endswith('error="invalid_token"')
    lines = gate.lines()
    assert [(line["caller"], line["by"], line["status"]) for line in lines] == [
        ("dr.who", "oidc", 200),
        ("ward", "token", 200),
        ("dr.who", "oidc", 403),
        (None, None, 401),
    ]
    assert expired not in json.dumps(lines)
