"""Lists in environment variables: separated by commas."""

from __future__ import annotations

from typing import Annotated

import pydantic
import pydantic_settings


def _listed(value: object) -> object:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


Words = Annotated[tuple[str, ...], pydantic_settings.NoDecode, pydantic.BeforeValidator(_listed)]
