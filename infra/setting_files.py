"""Settings whose value is in a file: `SPILLWAY_DATABASE_URL_FILE=/run/secrets/database_url`.

Docker and Kubernetes give secrets to a container as files, so that they are in no environment and no manifest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from infra.errors.exceptions import WrongUse

SUFFIX = "_FILE"
_PREFIX = "SPILLWAY_"
_MOST_BYTES = 64 << 10  # a URL with all its options is far smaller


class SettingFiles(PydanticBaseSettingsSource):
    """The settings that `variables` name a file for. `variables`: of the environment or of `.env`, in capitals."""

    def __init__(self, settings: type[BaseSettings], variables: Mapping[str, str]) -> None:
        super().__init__(settings)
        self._variables = variables

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """The content of the file of a setting, see `read_setting`; None if no file is named."""
        variable = f"{_PREFIX}{field_name.upper()}{SUFFIX}"
        path = self._variables.get(variable)
        return (None if not path else read_setting(variable, Path(path))), field_name, False

    def __call__(self) -> dict[str, Any]:
        """All of them. Raises `WrongUse` for a file that cannot be read."""
        found = ((name, self.get_field_value(field, name)[0]) for name, field in self.settings_cls.model_fields.items())
        return {name: value for name, value in found if value is not None}


def variables_of(source: PydanticBaseSettingsSource) -> dict[str, str]:
    """The variables that a source of settings has read, in capitals."""
    found: Mapping[str, str | None] = getattr(source, "env_vars", {})
    return {name.upper(): value for name, value in found.items() if value is not None}


def read_setting(variable: str, path: Path) -> str:
    """The text of a file, without spaces and line ends at its end. Raises `WrongUse`; its content is never quoted.

    An empty file is refused: a secret that was not filled must not select the local servers.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise ValueError(f"expected at most {_MOST_BYTES:,} bytes, found more")
        text = content.decode()
    except OSError as error:
        raise _unreadable(variable, path, error.strerror or type(error).__name__) from None
    except UnicodeDecodeError:
        raise _unreadable(variable, path, "expected text in UTF-8") from None
    except ValueError as error:
        raise _unreadable(variable, path, str(error)) from None
    if not (value := text.rstrip()):
        raise _unreadable(variable, path, "expected a value, found an empty file")
    return value


def _unreadable(variable: str, path: Path, why: str) -> WrongUse:
    return WrongUse(
        f"settings: {variable}: {path}: {why}; nothing was started; fill or mount the file, or correct the variable"
    )


def twice(variables: Mapping[str, str]) -> Iterator[str]:
    """A fault for each setting that has both a value and a file."""
    for name in sorted(variables):
        other = name.removesuffix(SUFFIX)
        if name.endswith(SUFFIX) and name.startswith(_PREFIX) and variables[name] and variables.get(other):
            yield f"{other}: expected a value or a file, found both it and {name}; remove one"
