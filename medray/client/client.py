"""The client: questions in pieces, sent one after another, their answers put together."""

import json
import os
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from datetime import datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import quote

import httpx

from medray.client import batches
from medray.client.answer import Answer, joined
from medray.client.batches import Piece
from medray.client.transport import Body, Content, Transport
from medray.errors import ServiceError, UsageError

Progress = Callable[[dict[str, Any]], None]
_POLL_S = 0.25
_TOO_LARGE = 413
_FILES, _JSON, _FHIR = "multipart/form-data", "application/json", "application/fhir+json"
_BYTES = "application/octet-stream"  # what a file is, its first bytes tell


class Client:
    """A service that `medray serve` runs.

    token      absent: $MEDRAY_TOKEN, if set. It never goes to another machine without TLS.
    timeout_s  how long one answer is waited for.
    retries    how often a request is repeated after a broken connection, 429, 502, 503 or 504;
               each time later, and not before the service says (Retry-After).
    ca         PEM file of the authority behind the service's certificate; absent: the system's.
    Raises UsageError for an address that is none, or that is no place for a token.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        timeout_s: float = 30.0,
        retries: int = 2,
        ca: str | None = None,
    ) -> None:
        token = token or os.environ.get("MEDRAY_TOKEN") or None
        self._transport = Transport(url.rstrip("/"), token, timeout_s, retries, ca)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all connections."""
        self._transport.close()

    def ready(self, wait_s: float = 0.0) -> None:
        """Nothing, as soon as every model answers. Raises ServiceError when none does in time."""
        end = time.monotonic() + wait_s
        while True:
            try:
                self._transport.ask("GET", "/readyz", request_id=_new_id(), retries=0)
                return
            except ServiceError as error:
                fatal = error.status not in (None, 429, 502, 503, 504)
                if fatal or time.monotonic() + _POLL_S > end:
                    raise
            time.sleep(_POLL_S)

    def models(self) -> list[dict[str, Any]]:
        """What is served: every version with its aliases, targets and what it takes."""
        answer = self._transport.ask("GET", "/v1/models", request_id=_new_id())
        return list(_json(answer)["models"])

    def model(self, ref: str) -> dict[str, Any]:
        """One version, with its model card. ref: name, name@version or name@alias."""
        path = f"/v1/models/{quote(ref, safe='@')}"
        return dict(_json(self._transport.ask("GET", path, request_id=_new_id())))

    def predict(
        self,
        ref: str,
        *,
        files: Sequence[str | Path] | None = None,
        events: Sequence[Mapping[str, Any]] | None = None,
        prediction_times: Sequence[Mapping[str, Any]] | None = None,
        smiles: Sequence[str] | None = None,
        bundle: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> Answer:
        """Score one kind of thing.

        files     DICOM, PNG, JPEG, ZIP, by the names that they are given with.
        events    rows of MEDS 0.4; prediction_times: when, by patient; absent: the latest moment.
        smiles    molecules. bundle: a FHIR R4 Bundle.
        progress  called after each request, with `done` and `total`.
        Many are sent in several requests of one id, so that of two versions on trial one answers.
        Raises ServiceError; UsageError for a file that cannot be read, or unless one kind is given.
        """
        given = _Given(files, events, prediction_times, smiles, bundle)
        return self._ask(f"/v1/models/{quote(ref, safe='@')}/predict", given, {}, progress)

    def explain(
        self,
        ref: str,
        *,
        target: str | None = None,
        files: Sequence[str | Path] | None = None,
        events: Sequence[Mapping[str, Any]] | None = None,
        prediction_times: Sequence[Mapping[str, Any]] | None = None,
        smiles: Sequence[str] | None = None,
        bundle: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> Answer:
        """What a score rests on: heat maps (base64 PNG), or what events or atoms added.

        target  absent: the one of the highest score. Otherwise as `predict`.
        """
        given = _Given(files, events, prediction_times, smiles, bundle)
        params = {} if target is None else {"target": target}
        return self._ask(f"/v1/models/{quote(ref, safe='@')}/explain", given, params, progress)

    def display(self, ref: str, files: Sequence[str | Path]) -> tuple[bytes, dict[str, Any]]:
        """A series as a viewer shows it: gzipped NIfTI-1, and its frames, window and spacing.

        Raises ServiceError; UsageError for a file that cannot be read.
        """
        answer = self._transport.ask(
            "POST",
            "/v1/display",
            request_id=_new_id(),
            body=partial(_upload, [str(one) for one in files]),
            params={"ref": ref},
        )
        return answer.content, json.loads(answer.headers["x-display"])

    def _ask(
        self, path: str, given: "_Given", params: Mapping[str, str], progress: Progress | None
    ) -> Answer:
        request_id = _new_id()
        pieces, total = given.pieces()
        told: list[tuple[list[int], Mapping[str, Any]]] = []
        for piece in pieces:
            told += self._piece(path, piece, given.kind, params, request_id)
            if progress is not None:
                done = sum(len(places) for places, _ in told)
                progress({"stage": "asking", "done": done, "total": total, "unit": given.unit})
        return joined(request_id, told)

    def _piece(
        self, path: str, piece: Piece, kind: str, params: Mapping[str, str], request_id: str
    ) -> list[tuple[list[int], Mapping[str, Any]]]:
        """Ask about a piece; about its halves when it is too much for the service."""
        body = partial(_upload, piece.content) if kind == _FILES else _text(piece.content, kind)
        try:
            answer = self._transport.ask(
                "POST", path, request_id=request_id, body=body, params=params
            )
        except ServiceError as error:
            two = batches.halves(piece) if error.status == _TOO_LARGE else None
            if two is None:
                raise
            first, second = (self._piece(path, one, kind, params, request_id) for one in two)
            return first + second
        return [(piece.places, _json(answer))]


class _Given(NamedTuple):
    """What is asked about: one kind of thing, the others None."""

    files: Sequence[str | Path] | None
    events: Sequence[Mapping[str, Any]] | None
    times: Sequence[Mapping[str, Any]] | None
    smiles: Sequence[str] | None
    bundle: Mapping[str, Any] | None

    @property
    def kind(self) -> str:
        """Content type of its requests."""
        if self.files is not None:
            return _FILES
        return _FHIR if self.bundle is not None else _JSON

    @property
    def unit(self) -> str:
        """What its pieces are counted in."""
        kinds = ((self.files, "files"), (self.events, "patients"), (self.smiles, "molecules"))
        return next((unit for given, unit in kinds if given is not None), "bundles")

    def pieces(self) -> tuple[Iterator[Piece], int]:
        """In pieces, and how many things there are. Raises UsageError."""
        kinds = (self.files, self.events, self.smiles, self.bundle)
        if sum(one is not None for one in kinds) != 1 or (self.times and self.events is None):
            raise UsageError(
                "a question is about files, events, smiles or a bundle: one of them",
                remedy="ask twice; prediction_times go with events",
            )
        if self.files is not None:
            names = [str(one) for one in self.files]
            return batches.of_files(names), len(names)
        if self.smiles is not None:
            return batches.of_smiles(self.smiles), len(self.smiles)
        if self.events is not None:
            found = list(batches.of_events(self.events, self.times))
            return iter(found), sum(len(one.places) for one in found)
        return iter([Piece([0], self.bundle)]), 1


@contextmanager
def _upload(names: Sequence[str]) -> Generator[Content]:
    """Files as multipart/form-data, read while they are sent. Raises UsageError."""
    with ExitStack() as opened:
        try:
            files = [
                ("file", (_sendable(name), opened.enter_context(open(name, "rb")), _BYTES))
                for name in names
            ]
        except OSError as error:
            raise batches.unreadable(error) from None
        yield Content(files=files)


def _text(content: Any, kind: str) -> Body:
    try:
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, default=_plain)
    except ValueError:
        raise UsageError(
            "a number is NaN or infinite", remedy="leave out what is missing"
        ) from None
    data = text.encode()
    return lambda: nullcontext(Content(data, kind))


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise UsageError(f"a question holds a {type(value).__name__}", remedy="give plain values")


def _sendable(name: str) -> str:
    """A name that is no UTF-8, as far as it is."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _json(answer: httpx.Response) -> Mapping[str, Any]:
    try:
        content = answer.json()
    except ValueError:
        content = None
    if isinstance(content, dict):
        return content
    raise ServiceError(
        "the answer is no JSON",
        remedy="see that the address is that of a medray service",
        status=answer.status_code,
    )


def _new_id() -> str:
    return uuid.uuid4().hex
