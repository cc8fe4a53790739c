"""What a server of a predictor takes and answers, as its OpenAPI page says it."""

from importlib.metadata import version
from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
NAMES: Schema = {"type": "array", "items": TEXT}
REASON: Schema = {"type": "object", "required": ["error"], "properties": {"error": TEXT}}
PREDICTION: Schema = {
    "type": "object",
    "required": ["label", "probabilities"],
    "properties": {
        "label": {"type": ["string", "null"], "description": "null is none of the classes"},
        "probabilities": {"type": "object", "additionalProperties": {"type": "number", "minimum": 0, "maximum": 1}},
    },
}
SUPPORT: Schema = {
    "type": "object",
    "required": ["classes"],
    "properties": {
        "classes": {
            "type": "object",
            "minProperties": 2,
            "additionalProperties": {"type": "array", "minItems": 1, "items": TEXT | {"contentEncoding": "base64"}},
            "description": "a few image files of each class",
        }
    },
}
PREDICTOR: Schema = {
    "type": "object",
    "required": ["predict", "classes"],
    "properties": {"predict": TEXT | {"description": "the path at which it answers"}, "classes": NAMES},
}
HEALTH: Schema = {
    "type": "object",
    "required": ["status", "classes"],
    "properties": {"status": {"const": "ok"}, "classes": NAMES},
}
REFUSALS = {
    400: "not what is wanted, as it says",
    401: "not the key",
    404: "there is no such predictor, or this server makes none",
    408: "the request took too long to arrive",
    413: "too large, or too many images",
    429: "too many requests; Retry-After says when to come back",
    500: "answers that are no numbers",
    503: "too much to do; Retry-After says when to come back",
}


def document(*, key: bool) -> Schema:
    """The page, of a server with or without a key."""
    image = {"image/*": {"schema": TEXT | {"format": "binary"}}}
    support = {"application/json": {"schema": SUPPORT}}
    name = {"name": "name", "in": "path", "required": True, "schema": TEXT}
    health = answer(HEALTH, "It answers")
    counters = {"description": "Counters", "content": {"text/plain": {"schema": TEXT}}}
    paths: Schema = {
        "/health": {"get": {"summary": "Whether it answers, and its classes", "responses": {"200": health}}},
        "/metrics": {"get": {"summary": "Counters, for Prometheus", "responses": {"200": counters}}},
        "/predict": {"post": asked("Label of the image in the body", image, PREDICTION)},
        "/predictors/{name}/predict": {
            "parameters": [name],
            "post": asked("Label of an image, by a predictor that was made here", image, PREDICTION),
        },
        "/adapt": {"post": asked("A new predictor, of a few images of each class", support, PREDICTOR)},
    }
    page = {"openapi": "3.1.0", "info": {"title": "dfml predictor", "version": version("dfml")}, "paths": paths}
    if not key:
        return page
    for path in ("/predict", "/predictors/{name}/predict", "/adapt"):
        paths[path]["post"]["security"] = [{"key": []}]
    return page | {"components": {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}}}


def asked(summary: str, body: Schema, answered: Schema) -> Schema:
    """A route that is asked something: what it takes and gives, and why it may refuse."""
    refusals = {str(status): answer(REASON, why) for status, why in REFUSALS.items()}
    taken = {"required": True, "content": body}
    return {"summary": summary, "requestBody": taken, "responses": {"200": answer(answered, "The answer")} | refusals}


def answer(schema: Schema, what: str) -> Schema:
    """A response in JSON."""
    return {"description": what, "content": {"application/json": {"schema": schema}}}
