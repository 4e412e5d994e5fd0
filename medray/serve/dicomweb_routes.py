"""The routes of /dicomweb: instances are sent as to an archive, and answered with scores."""

import asyncio
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Response
from fastapi import Request as Asked

from medray.deliver.source import Algorithm
from medray.deliver.sr import structured_reports
from medray.privacy.pseudonyms import load_key
from medray.serve import documents
from medray.serve.dicomweb import JSON, Offer, Outcome, offer, outcome, related, response
from medray.serve.http import REF, Doorway, note, request_id_of
from medray.serve.problems import ProblemError
from medray.serve.routes import Route

_REPORTS = "multipart/related"
_TAKEN = ("multipart/related", "application/dicom")

Study = Annotated[str, Path(pattern=r"^[0-9.]{1,64}$", description="Study Instance UID")]
Model = Annotated[
    str | None,
    Query(pattern=REF, description="name, name@version or name@alias; absent: the only one"),
]
Accept = Annotated[
    str,
    Header(description=f'{JSON}, or multipart/related; type="application/dicom" for reports'),
]
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_DOCUMENT = {JSON: {"schema": {"type": "object"}}}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "All instances were scored (PS3.18 10.5.3, I.1), or reports of them.",
        "content": {**_DOCUMENT, _REPORTS: _BINARY},
    },
    202: {
        "description": "Some instances were scored, or some frames of one.",
        "content": {**_DOCUMENT, _REPORTS: _BINARY},
    },
    409: {"description": "No instance was scored; each has its reason.", "content": _DOCUMENT},
}
_RESPONSES = _ANSWERS | documents.problems(
    400, 401, 403, 404, 406, 408, 413, 415, 422, 429, 503, 504
)


def dicomweb_router(door: Doorway) -> APIRouter:
    """STOW-RS (PS3.18 10.5), for models of images."""
    router = APIRouter()

    @router.post(
        "/dicomweb/studies",
        response_class=Response,
        responses=_RESPONSES,
        openapi_extra=documents.bodies(*_TAKEN),
        summary="Score instances that are sent as to an archive",
    )
    async def studies(asked: Asked, model: Model = None, accept: Accept = JSON) -> Response:
        return await _store(door, asked, None, model, accept)

    @router.post(
        "/dicomweb/studies/{study}",
        response_class=Response,
        responses=_RESPONSES,
        openapi_extra=documents.bodies(*_TAKEN),
        summary="Score instances of one study",
    )
    async def study(
        asked: Asked, study: Study, model: Model = None, accept: Accept = JSON
    ) -> Response:
        return await _store(door, asked, study, model, accept)

    return router


async def _store(
    door: Doorway, asked: Asked, study: str | None, model: str | None, accept: str
) -> Response:
    kind = _wanted(accept)
    route = _route(door, model, request_id_of(asked))
    note(asked, route.ref)
    _taken(asked.headers.get("content-type", ""))
    request = await door.read(asked)
    if any(part.kind != "file" for part in request.parts):
        raise _other_input()
    offered = await asyncio.to_thread(offer, request, study)
    predictions = await _predictions(door, asked, route, offered)
    return await asyncio.to_thread(_answer, offered, predictions, route, kind)


async def _predictions(
    door: Doorway, asked: Asked, route: Route, offered: Offer
) -> list[dict[str, Any]]:
    if not offered.request.parts:
        return []
    answer = await door.ask(asked, route, offered.request)
    return answer["predictions"]


def _answer(offered: Offer, predictions: list[dict[str, Any]], route: Route, kind: str) -> Response:
    found = outcome(offered, predictions)
    by, key = Algorithm(route.name, route.version, route.digest), load_key()
    if kind == JSON or not found.items:
        return Response(response(found, by, key), int(found.status), media_type=JSON)
    body, content_type = related(structured_reports(found.items, by, key))
    return Response(body, int(found.status), _warning(found), content_type)


def _warning(found: Outcome) -> dict[str, str]:
    """Reports have no place for what was not scored."""
    if found.status == HTTPStatus.OK:
        return {}
    count = len(found.failures) + len(found.partial)
    return {"Warning": f'299 medray "not scored, or not whole: {count}; {JSON} tells why"'}


def _route(door: Doorway, model: str | None, request_id: str) -> Route:
    """The model that is asked for, or the only one of images."""
    routes = door.backend.routes
    names = routes.images()
    if model is None and len(names) != 1:
        raise ProblemError(
            HTTPStatus.BAD_REQUEST,
            "which-model",
            f"say ?model=, one of: {', '.join(names) or 'none, no model of images is served'}",
        )
    route = routes.of(model or names[0], request_id)
    if route.reads != "images":
        raise ProblemError(
            HTTPStatus.BAD_REQUEST, "which-model", f"{route.name} does not predict from images"
        )
    return route


def _taken(content_type: str) -> None:
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in _TAKEN or "dicom+" in content_type.lower():
        raise _other_input()


def _other_input() -> ProblemError:
    return ProblemError(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "media-type",
        'send instances as multipart/related; type="application/dicom"',
    )


def _wanted(accept: str) -> str:
    """What is answered: the first of `accept` that there is. Raises ProblemError (406)."""
    for one in accept.lower().split(","):
        name = one.partition(";")[0].strip()
        if name in ("", "*/*", "application/*", JSON, "application/json"):
            return JSON
        if name in (_REPORTS, "multipart/*") and "dicom+" not in one:
            return _REPORTS
    raise ProblemError(
        HTTPStatus.NOT_ACCEPTABLE,
        "not-acceptable",
        f'accept {JSON} or multipart/related; type="application/dicom"',
    )
