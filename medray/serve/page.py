"""The web page, and what it alone asks for: a volume to look at, the list of what was scored.

Decoding and reading tables happen in threads. The page's files hold no data and are open.
"""

import asyncio
import gzip
import hashlib
import json
import mimetypes
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from importlib import resources
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from medray.dicom.contained import ContainedDecoder
from medray.serve import documents
from medray.serve.access.headers import PAGE_POLICY
from medray.serve.asked import Request as Question
from medray.serve.pictures import display
from medray.serve.problems import ProblemError
from medray.serve.worklist import Worklist, asked_of
from medray.spec.pixels import PixelSpec
from medray.spec.serve import ViewerSpec

_BODIES = (
    "application/dicom",
    "image/png",
    "image/jpeg",
    "application/zip",
    "multipart/form-data",
)
_INDEX = "index.html"
_SMALL = 1400  # bytes: what fits one packet is not compressed

ReadRequest = Callable[[Request], Awaitable[Question]]
"""The body of a request, in parts. Raises ProblemError."""

PixelsOf = Callable[[str], PixelSpec | None]
"""How the model of a reference reads pictures; None: other things. Raises ProblemError."""


@dataclass(frozen=True)
class Asset:
    """A file of the page."""

    data: bytes
    kind: str

    @cached_property
    def tag(self) -> str:
        """Its ETag."""
        return f'"{hashlib.sha256(self.data).hexdigest()[:32]}"'

    @cached_property
    def packed(self) -> bytes:
        """Compressed, once."""
        return gzip.compress(self.data, 6, mtime=0)


def assets() -> Mapping[str, Asset]:
    """Read every file of the page, by name: what is not among them is not there."""
    found: dict[str, Asset] = {}
    for file in resources.files("medray.serve").joinpath("static").iterdir():
        kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        text = kind.startswith("text/") or kind.endswith("javascript")
        found[file.name] = Asset(file.read_bytes(), kind + ("; charset=utf-8" if text else ""))
    return found


def page_router(viewer: ViewerSpec, read: ReadRequest, pixels_of: PixelsOf) -> APIRouter:
    """Build the routes of the page. A ProblemError is left to the application."""
    router = APIRouter(include_in_schema=True)
    _files(router, assets())
    _display(router, read, pixels_of)
    _worklist(router, Worklist(viewer.worklist))
    return router


def _files(router: APIRouter, every: Mapping[str, Asset]) -> None:
    @router.get("/", response_class=Response, summary="The web page")
    async def page(request: Request) -> Response:
        return await _asset(every, _INDEX, request)

    @router.get("/static/{file}", response_class=Response, summary="A file of the web page")
    async def static(file: str, request: Request) -> Response:
        return await _asset(every, file, request)


async def _asset(every: Mapping[str, Asset], name: str, request: Request) -> Response:
    asset = every.get(name)
    if asset is None:
        raise ProblemError(HTTPStatus.NOT_FOUND, "no-such-path", "there is nothing here")
    headers = {
        "ETag": asset.tag,
        "Cache-Control": "no-cache",
        "Content-Security-Policy": PAGE_POLICY,
        "Vary": "Accept-Encoding",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }
    if asset.tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    data = asset.data
    if "gzip" in request.headers.get("accept-encoding", "") and len(data) > _SMALL:
        data = await asyncio.to_thread(lambda: asset.packed)
        headers["Content-Encoding"] = "gzip"
    return Response(data, headers=headers, media_type=asset.kind)


def _display(router: APIRouter, read: ReadRequest, pixels_of: PixelsOf) -> None:
    decoder = ContainedDecoder()  # its child starts with the first compressed frame

    @router.post(
        "/v1/display",
        response_class=Response,
        responses={
            200: {"content": {"application/octet-stream": {}}, "description": "A .nii.gz volume"},
            **documents.problems(400, 404, 413, 415, 422),
        },
        openapi_extra=documents.bodies(*_BODIES),
        summary="A volume to look at",
    )
    async def shown(
        request: Request, ref: Annotated[str | None, Query(max_length=128)] = None
    ) -> Response:
        spec = None if ref is None else await asyncio.to_thread(pixels_of, ref)
        question = await read(request)
        if any(part.kind != "file" for part in question.parts):
            detail = "send files of a scan: DICOM, PNG or JPEG, several as form data or ZIP"
            raise ProblemError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "no-scan", detail)
        found = await asyncio.to_thread(display, question.parts, decoder, spec)
        told = {name: value for name, value in found.facts.items() if name != "refused"}
        headers = {"X-Display": json.dumps(told), "Cache-Control": "no-store"}
        return Response(found.body, headers=headers, media_type="application/octet-stream")


def _worklist(router: APIRouter, worklist: Worklist) -> None:
    names = ("from", "to", "model", "target", "decision", "sort", "order", "limit", "offset")
    parameters = [{"name": name, "in": "query", "schema": {"type": "string"}} for name in names]

    @router.get(
        "/v1/worklist",
        response_model=dict[str, Any],
        responses=documents.problems(422, 503),
        openapi_extra={"parameters": parameters},
        summary="What was scored",
    )
    async def lines(request: Request) -> Response:
        asked = asked_of(dict(request.query_params))
        told = await asyncio.to_thread(worklist.page, asked)
        text = json.dumps(told, ensure_ascii=False, allow_nan=False)
        return Response(text, headers={"Cache-Control": "no-store"}, media_type="application/json")
