"""What the service answers, as its OpenAPI document describes it."""

from typing import Any, Literal

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, ConfigDict, Field

from medray.serve.problems import PROBLEM


class _Document(BaseModel):
    model_config = ConfigDict(extra="allow")


class Score(_Document):
    """One answer: a calibrated probability, a risk, or a value.

    text_value  a class, or a quantile as "q0.5": the ends of an interval.
    threshold   the operating point of the decision, chosen on `tuning`.
    """

    target: str
    text_value: str | None
    score: float
    decision: bool | None
    threshold: float | None


class Prediction(_Document):
    """One item of the request: a picture, a patient at a time, a molecule. Ids are pseudonyms."""

    item_id: str
    status: Literal["ok", "rejected"]
    reason: str | None = Field(description="Stable code of why there is no score.")
    detail: str = ""
    scores: list[Score]


class Answer(_Document):
    """What a version of a model says of a request."""

    request_id: str
    model: str
    version: str
    package: str = Field(description="name@version#digest, as in the table `predictions`.")
    predictions: list[Prediction]


class Explanations(_Document):
    """What the answers rest on: heat maps as base64 PNG, or parts of events or atoms."""

    request_id: str
    model: str
    version: str
    package: str
    explanations: list[dict[str, Any]]


class Target(_Document):
    """What is predicted."""

    name: str
    kind: str
    classes: list[str]
    threshold: float | None
    horizons_days: list[float]
    levels: list[float]


class ModelDocument(_Document):
    """A version of a model."""

    name: str
    version: str
    package: str
    aliases: list[str]
    default: bool
    weight: float
    shadow: bool
    pooled: bool
    workload: str
    reads: Literal["images", "records", "molecules"]
    accepts: list[str]
    time_unit: str | None = Field(
        default=None, description="Records: `timestamp`, or what numbers count from each start."
    )
    targets: list[Target]
    replicas: dict[str, int] | None = None
    card: str | None = None


class Models(_Document):
    """All models."""

    models: list[ModelDocument]


class Health(_Document):
    """It is alive."""

    status: Literal["ok"]


class Problem(_Document):
    """What is wrong, by RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[dict[str, Any]] | None = None


def openapi(app: FastAPI) -> dict[str, Any]:
    """The document, with the schema of problems, which no route names as its model."""
    if app.openapi_schema is None:
        made = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        schemas = made.setdefault("components", {}).setdefault("schemas", {})
        schemas["Problem"] = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's own, never answered
            schemas.pop(name, None)
        app.openapi_schema = made
    return app.openapi_schema


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may refuse with these."""
    schema = {"schema": {"$ref": "#/components/schemas/Problem"}}
    return {
        status: {"description": "A problem document (RFC 9457).", "content": {PROBLEM: schema}}
        for status in statuses
    }


def also(*kinds: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that answers in these kinds, too, where they are accepted."""
    binary = {"schema": {"type": "string", "format": "binary"}}
    return {200: {"content": dict.fromkeys(kinds, binary)}}


def bodies(*kinds: str) -> dict[str, Any]:
    """The `openapi_extra` of a route that reads its body itself."""
    of: dict[str, Any] = {
        "application/json": {"schema": {"type": "object"}},
        "application/fhir+json": {"schema": {"type": "object"}},
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {
                    "file": {"type": "array", "items": {"type": "string", "format": "binary"}}
                },
            }
        },
    }
    binary = {"schema": {"type": "string", "format": "binary"}}
    return {
        "requestBody": {
            "required": True,
            "content": {kind: of.get(kind, binary) for kind in kinds},
        }
    }
