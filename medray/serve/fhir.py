"""A FHIR R4 Bundle → resources one by one, as the lines of a bulk export that an ingest reads.

What a resource tells is `records.fhir`'s affair alone: the same resources give the same events.
Page names in comments are those of https://hl7.org/fhir/R4.
"""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, NamedTuple, cast

from medray.records.fhir import patient_of
from medray.serve.problems import ProblemError

_NOTHING = b"null"


class Resources(NamedTuple):
    """What a Bundle holds.

    lines     a resource each, as NDJSON has them; an entry without one is `null`.
    patients  names of patients, in the order in which the Bundle first names them.
    """

    lines: list[bytes]
    patients: list[str]


def resources(body: bytes) -> Resources:
    """Read a Bundle. Raises ProblemError: 400 for what is no JSON, 422 for what is no Bundle."""
    try:
        bundle = json.loads(body)
    except (ValueError, RecursionError):
        raise ProblemError(HTTPStatus.BAD_REQUEST, "not-json", "the body is no JSON") from None
    entries = _entries(bundle)
    named = _named(entries)
    lines: list[bytes] = []
    patients: dict[str, None] = {}
    for entry in entries:
        resource = _resolved(entry, named)
        try:
            lines.append(json.dumps(resource, ensure_ascii=False).encode())
        except (UnicodeEncodeError, RecursionError):  # half of a surrogate pair is no text
            lines.append(_NOTHING)
            continue
        if resource and (patient := patient_of(resource)):
            patients[patient] = None
    return Resources(lines, list(patients))


def _entries(bundle: Any) -> list[Any]:
    wrong = not isinstance(bundle, dict)
    holder = cast(Mapping[str, Any], {} if wrong else bundle)
    entries = holder.get("entry", [])
    if holder.get("resourceType") != "Bundle" or not isinstance(entries, list):
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "not-a-bundle",
            "the body is no FHIR R4 Bundle",
            [{"pointer": "/resourceType", "detail": "must be Bundle, its `entry` a list"}],
        )
    return cast(list[Any], entries)


def _named(entries: list[Any]) -> dict[str, str]:
    """Full URL of every patient → the id that its events stand under."""
    named: dict[str, str] = {}
    for entry in entries:
        resource, url = _resource(entry), _url(entry)
        if resource is None or url is None or resource.get("resourceType") != "Patient":
            continue
        # one that is still to be created has no id: others refer to it by this URL alone
        name = patient_of(resource) or patient_of({"subject": {"reference": url}})
        if name is not None:
            named[url] = name
    return named


def _resolved(entry: Any, named: Mapping[str, str]) -> dict[str, Any] | None:
    """A resource whose patient has the name that all others give it (bundle.html#references)."""
    resource, url = _resource(entry), _url(entry)
    if resource is None:
        return None
    if url is not None and url in named and resource.get("resourceType") == "Patient":
        return {**resource, "id": named[url]}
    subject = resource.get("subject")
    if isinstance(subject, dict):
        reference = cast(dict[str, Any], subject).get("reference")
        if isinstance(reference, str) and reference in named:
            return {**resource, "subject": {"reference": f"Patient/{named[reference]}"}}
    return resource


def _resource(entry: Any) -> dict[str, Any] | None:
    held = cast(dict[str, Any], entry).get("resource") if isinstance(entry, dict) else None
    return cast(dict[str, Any], held) if isinstance(held, dict) else None


def _url(entry: Any) -> str | None:
    url = cast(dict[str, Any], entry).get("fullUrl") if isinstance(entry, dict) else None
    return url if isinstance(url, str) and url else None
