"""Explanations in the form a request accepts: JSON, a picture, DICOM objects."""

import base64
from collections.abc import Mapping
from http import HTTPStatus
from io import BytesIO
from typing import Any

import numpy as np
from fastapi import Response
from PIL import Image

from medray.errors import RejectError
from medray.privacy.pseudonyms import load_key
from medray.serve.asked import Explained, Heatmap, Request
from medray.serve.problems import ProblemError
from medray.serve.routes import Route

_KINDS = ("application/json", "image/png", "application/dicom", "multipart/related")


def as_accepted(
    accept: str, route: Route, request: Request, found: Explained, named: Mapping[str, Any]
) -> Response:
    """The answer in the first form of `accept` that there is. Raises ProblemError (406)."""
    kind = _wanted(accept)
    if kind == "application/json":
        from medray.serve.http import as_json

        told = {**named, "package": route.ref, "explanations": []}
        drawings = dict(found.drawings)
        pictures = [_as_dict(one) for one in found.heatmaps]
        content = {**found.content} if found.content else {"explanations": pictures}
        return as_json({**told, **content, **({"drawings": drawings} if drawings else {})})
    if not found.heatmaps:
        raise _not_acceptable("this model explains in application/json")
    if kind == "image/png":
        return Response(_only(found).overlay, media_type=kind)
    return _as_dicom(kind, route, request, found)


def _as_dicom(kind: str, route: Route, request: Request, found: Explained) -> Response:
    maps = (_only(found),) if kind == "application/dicom" else found.heatmaps
    objects = [_captured(request, one, route) for one in maps]
    if kind == "application/dicom":
        return Response(objects[0], media_type=kind)
    from medray.serve.dicomweb import related

    body, content_type = related(objects)
    return Response(body, media_type=content_type)


def _captured(request: Request, one: Heatmap, route: Route) -> bytes:
    """A Secondary Capture in the study of the picture. Raises ProblemError where it has none."""
    from medray.deliver.capture import secondary_capture
    from medray.deliver.source import Algorithm, read_source

    try:
        source = read_source(request.parts[one.part].data)
    except RejectError:
        raise _not_acceptable(
            f"part {one.part} is no DICOM instance of a study: accept application/json or image/png"
        ) from None
    return secondary_capture(
        source,
        np.asarray(Image.open(BytesIO(one.overlay)).convert("RGB")),
        frame=one.frame,
        target=one.target,
        by=Algorithm(route.name, route.version, route.digest),
        key=load_key(),
    )


def _wanted(accept: str) -> str:
    for one in accept.split(","):
        name = one.partition(";")[0].strip().lower()
        if name in ("", "*/*", "application/*"):
            return _KINDS[0]
        if name in _KINDS:
            return name
    raise _not_acceptable(f"accept one of {', '.join(_KINDS)}")


def _only(found: Explained) -> Heatmap:
    if len(found.heatmaps) != 1:
        raise _not_acceptable(
            f"there are {len(found.heatmaps)} pictures: accept application/json or "
            'multipart/related; type="application/dicom"'
        )
    return found.heatmaps[0]


def _not_acceptable(detail: str) -> ProblemError:
    return ProblemError(HTTPStatus.NOT_ACCEPTABLE, "not-acceptable", detail)


def _as_dict(one: Heatmap) -> dict[str, Any]:
    pictures = {"picture": one.picture, "heatmap": one.heatmap, "overlay": one.overlay}
    return {
        "part": one.part,
        "frame": one.frame,
        "item_id": one.item_id,
        "target": one.target,
        **{name: base64.b64encode(data).decode() for name, data in pictures.items()},
    }
