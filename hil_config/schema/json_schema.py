"""JSON Schemas of the files people write, for editors. `docs/reference/schemas` holds them as published."""

from __future__ import annotations

import json
from typing import Any

from hil_config.schema.bench import Bench
from hil_config.schema.campaign import Campaign
from hil_config.schema.strict import Strict

DIALECT = "https://json-schema.org/draft/2020-12/schema"
MODELS: dict[str, type[Strict]] = {"bench": Bench, "campaign": Campaign}


def json_schema(name: str) -> dict[str, Any]:
    """The schema of `bench` or `campaign`. Only `hil config check` knows conditions between keys."""
    content = MODELS[name].model_json_schema()
    return {"$schema": DIALECT, **content, "title": f"SpaceMoE-HIL {name}.yaml"}


def schema_text(name: str) -> str:
    """The schema as it is published."""
    return json.dumps(json_schema(name), indent=2, ensure_ascii=False) + "\n"
