"""A service in one file: which models answer, how they grow, who may ask (`medray serve`)."""

from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from medray.spec.base import Section

Scope = Literal["predict", "explain", "admin"]
Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"]

LOOPBACK = ("127.0.0.1", "::1", "localhost")


class ReplicasSpec(Section):
    """Processes that each hold the model, and when there are more of them.

    min, max      how many there are at rest, and at most. 0 at rest: the first request waits for
                  the model to load.
    ongoing       requests per replica that are aimed at: above it there will be more of them.
    up_s, down_s  how long load must stay above, or below, before their number changes.
    cpus, gpus    what each one has for itself.
    """

    min: int = Field(default=1, ge=0)
    max: int = Field(default=1, ge=1)
    ongoing: float = Field(default=4.0, gt=0)
    up_s: float = Field(default=5.0, ge=0)
    down_s: float = Field(default=120.0, ge=0)
    cpus: float = Field(default=1.0, ge=0)
    gpus: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _min_below_max(self) -> Self:
        if self.min > self.max:
            raise ValueError("`min` is not above `max`")
        return self


class BatchSpec(Section):
    """Requests computed together. A score does not depend on what it is computed with.

    most     requests at once.
    wait_ms  how long the first one waits for others. 0: it takes with it what came while the batch
             before was computed.
    """

    most: int = Field(default=16, ge=1, le=1024)
    wait_ms: float = Field(default=0.0, ge=0, le=1000)


class ServedModel(Section):
    """One package behind the door. Its name and version are the package's own.

    aliases    other names for the version: `stable`, `latest`. A version without any is asked
               for as name@version. A name alone means `latest`, or else the newest entry.
    weight     share of the requests for the name alone, or for `latest`, that this version answers
               instead (canary).
    shadow     it also gets every request for the name, is not waited for, and what it says goes to
               the table `shadow`.
    pooled     loaded when it is asked for, into replicas that several models share, and put aside
               when others need the room.
    queue      requests that wait for a free replica; more are turned away with 429.
    timeout_s  after this an answer is not waited for any more (504).
    """

    package: str
    aliases: tuple[str, ...] = ()
    replicas: ReplicasSpec = ReplicasSpec()
    batch: BatchSpec = BatchSpec()
    device: Literal["cpu", "cuda", "auto"] = "cpu"
    weight: float = Field(default=0.0, ge=0, le=1)
    shadow: bool = False
    pooled: bool = False
    queue: int = Field(default=64, ge=0)
    timeout_s: float = Field(default=30.0, gt=0)


class PoolSpec(Section):
    """Replicas that `pooled` models share.

    resident  models that one of them holds at most; the one not asked for longest goes first.
    """

    resident: int = Field(default=3, ge=1)
    replicas: ReplicasSpec = ReplicasSpec()
    queue: int = Field(default=64, ge=0)


class LimitsSpec(Section):
    """What a request may cost.

    body_mib        of a request. json_mib: of one that is JSON or FHIR, which takes many times its
                    size once it is read.
    parts           files in one request, those of its ZIPs among them.
    unzipped_mib    of all files of a ZIP together; ratio: to its compressed size.
    body_s          that a request's body is waited for, from the first to the last byte.
    per_minute      requests of one who asks, at each door; its token may say another number. A
                    minute's requests may come at once.
    """

    body_mib: int = Field(default=512, ge=1)
    json_mib: int = Field(default=32, ge=1)
    parts: int = Field(default=2000, ge=1)
    unzipped_mib: int = Field(default=2048, ge=1)
    ratio: float = Field(default=200.0, gt=1)
    body_s: float = Field(default=60.0, gt=0)
    per_minute: int = Field(default=6000, ge=1)


class OidcSpec(Section):
    """Tokens that an identity provider signs (OpenID Connect, JWT by RFC 7519).

    issuer    what `iss` must be. audience: what `aud` must hold.
    jwks      where the provider's keys are: an https:// address, or a file. Fetched when needed,
              again every hour, and at a key id that is not known.
    scopes    claim → scope: which value of the token's `scope` (or `scp`) means which of ours.
    leeway_s  by which the clocks of the two may differ.
    """

    issuer: str
    audience: str
    jwks: str
    algorithms: tuple[Algorithm, ...] = ("RS256", "ES256")
    scopes: dict[str, Scope] = Field(
        default={"medray.predict": "predict", "medray.explain": "explain", "medray.admin": "admin"}
    )
    leeway_s: int = Field(default=30, ge=0, le=300)

    @field_validator("jwks")
    @classmethod
    def _not_in_the_clear(cls, value: str) -> str:
        address = urlsplit(value)
        if address.scheme not in ("https", "http", "file", ""):
            raise ValueError("give an https:// address or a file")
        if address.scheme == "http" and address.hostname not in LOOPBACK:
            raise ValueError("keys without TLS are anybody's keys: give an https:// address")
        return value


class AccessSpec(Section):
    """Who may ask.

    tokens      a file that `medray token` writes: names, hashes and scopes, never a token. Read
                again when it changes. Absent: the tokens of $MEDRAY_TOKENS, if set.
    open        nobody has to say who they are. Only on this machine's own address.
    """

    tokens: str | None = None
    oidc: OidcSpec | None = None
    open: bool = False


class AuditSpec(Section):
    """The append-only record of who asked what: JSON lines, a file per door and day (UTC).

    Each line carries the hash of the line before (`medray audit verify`). What cannot be recorded
    is not answered (503).

    folder      on a disk of this machine; absent: `audit` in the service's output.
    keep_days   older files go; 0: none.
    file_mib    a file that has grown to this is followed by another.
    """

    folder: str | None = None
    keep_days: int = Field(default=0, ge=0)
    file_mib: int = Field(default=64, ge=1)


class TlsSpec(Section):
    """PEM files of the certificate (its chain too) and of its key."""

    certificate: str
    key: str


class ViewerSpec(Section):
    """The web page.

    worklist   folders of scored runs (or their `predictions` tables): what the page lists.
    """

    enabled: bool = True
    worklist: tuple[str, ...] = ()


class DoorsSpec(Section):
    """Processes that read requests and answer them; models are behind them."""

    min: int = Field(default=1, ge=1)
    max: int = Field(default=1, ge=1)
    ongoing: int = Field(default=64, ge=1)
    waiting: int = Field(default=256, ge=0)
    cpus: float = Field(default=0.5, ge=0)


class FrontSpec(Section):
    """What is in front of the models.

    output      audit, shadow scores; absent: runs/<name>.
    haproxy     the ingress that Ray ships beside its own, several times faster: `auto` where
                there is one and no TLS is wanted of it.
    drain_s     how long requests that are being answered may go on at the end.
    """

    name: str = Field(default="medray", pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=65535)
    output: str | None = None
    doors: DoorsSpec = DoorsSpec()
    limits: LimitsSpec = LimitsSpec()
    access: AccessSpec = AccessSpec()
    audit: AuditSpec = AuditSpec()
    tls: TlsSpec | None = None
    viewer: ViewerSpec = ViewerSpec()
    haproxy: Literal["auto", "on", "off"] = "auto"
    drain_s: float = Field(default=30.0, ge=0)

    @property
    def output_uri(self) -> str:
        """Where what the service writes goes to."""
        return self.output or f"runs/{self.name}"

    @property
    def audit_folder(self) -> str:
        """Where the audit lies."""
        return self.audit.folder or f"{self.output_uri.rstrip('/')}/audit"

    @model_validator(mode="after")
    def _open_only_at_home(self) -> Self:
        if self.access.open and self.host not in LOOPBACK:
            raise ValueError(
                "`access.open` is for this machine alone: give `access.tokens`, or host 127.0.0.1"
            )
        return self

    @model_validator(mode="after")
    def _tls_is_not_haproxys(self) -> Self:
        if self.tls is not None and self.haproxy == "on":
            raise ValueError("`haproxy: on` speaks no TLS: leave out one of the two")
        return self


class ServeSpec(FrontSpec):
    """A service. Relative paths start at the current folder.

    store       packages must lie in this folder; absent: anywhere.
    """

    store: str | None = None
    models: tuple[ServedModel, ...] = Field(min_length=1)
    pool: PoolSpec = PoolSpec()

    @property
    def front(self) -> FrontSpec:
        """What the doors need to know."""
        return FrontSpec.model_validate(self.model_dump(include=set(FrontSpec.model_fields)))
