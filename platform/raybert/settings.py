"""Settings: frozen, unknown keys refused, from flags and YAML alike; the environment, read once.

A job's settings class is its command line: `Settings.from_command_line()` reads
`--config job.yaml` and flags (flags win) and answers a fault in one line.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn, Self, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic_settings import (
    BaseSettings,
    CliSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from raybert.errors import RaybertError, SettingsError

Names = Annotated[
    list[str], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)
]
"""One or several strings: repeat the flag, or write a string or a list in YAML."""


class Settings(BaseModel):
    """Ground of all nested settings: frozen, documented under each field, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class _Parser(argparse.ArgumentParser):
    """An argument parser whose faults are one line and an exception, not a usage page."""

    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"command line: {message} (--help lists what is allowed)")


class CommandSettings(BaseSettings):
    """Settings of a command: `--help`, flags, `--config FILE.yaml`; flags win over the file."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        cli_use_class_docs_for_groups=True,
        protected_namespaces=(),
    )

    @classmethod
    def from_command_line(cls, argv: Sequence[str] | None = None) -> Self:
        """Read the settings from `argv` (default: the process's arguments).

        Raises:
            SettingsError: unknown key, wrong type, missing value, unreadable file; in one line
                that names the key and where it came from.
        """
        arguments = list(sys.argv[1:] if argv is None else argv)
        config, arguments = _split_config(arguments)
        from_file = {} if config is None else read_yaml(config)
        parser = _Parser(prog=Path(sys.argv[0]).name, description=cls.__doc__, allow_abbrev=False)
        parser.add_argument("--config", metavar="FILE", help="YAML with the same settings")
        source: CliSettingsSource[argparse.ArgumentParser] = CliSettingsSource(
            cls, root_parser=parser, cli_parse_args=arguments
        )
        flags = source()
        try:
            return cls(**_merged(from_file, flags))
        except ValidationError as error:
            raise SettingsError(_one_line(error, config, flags)) from None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take values from where `from_command_line` gathered them, never from the environment."""
        return (init_settings,)


class JobSettings(CommandSettings):
    """Settings that every job has: where its artifact goes and where its run is tracked."""

    out: str
    """Folder to write the artifact to, local or remote (anything fsspec opens)."""
    experiment: str = "raybert"
    """MLflow experiment that the job's run is filed under."""
    tracking_uri: str | None = None
    """MLflow server or sqlite:///FILE; `none` tracks nothing. Default: MLFLOW_TRACKING_URI, else
    the server of the running local platform, else a sqlite file in the platform's home."""


J = TypeVar("J", bound=CommandSettings)


def run_job(
    settings_class: type[J],
    main: Callable[[J], str | Path | None],
    argv: Sequence[str] | None = None,
) -> NoReturn:
    """Run a job file: read its command line, call `main`, print where the artifact lies, exit.

    Exit status: 0 done; 2 a fault of the user's, told in one line; 130 stopped by Ctrl-C; 143
    stopped by SIGTERM; 1 a fault of ours, with its traceback.
    """

    def command() -> int:
        artifact = main(settings_class.from_command_line(argv))
        if artifact is not None:
            print(f"artifact: {artifact}", flush=True)
        return 0

    sys.exit(guarded(command))


def guarded(command: Callable[[], int]) -> int:
    """Run a command and return its exit status; see `run_job` for what the statuses mean."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return command()
    except RaybertError as error:
        print(f"error: {fault(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)


def fault(error: BaseException) -> str:
    """Say an error in one line; an error that came through Ray is told by its own cause."""
    cause = getattr(error, "cause", None)
    return _flat(error) if not isinstance(cause, BaseException) else fault(cause)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping; keys may be written with dashes or underscores.

    Raises:
        SettingsError: the file is missing, is no YAML, or is not a mapping.
    """
    try:
        data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"{path}: cannot be read as YAML: {_flat(error)}") from None
    if not isinstance(data, dict):
        raise SettingsError(f"{path}: a mapping of settings is expected, not {type(data).__name__}")
    return {str(key).replace("-", "_"): value for key, value in data.items()}


def home() -> Path:
    """Return the folder that holds this platform's state: `RAYBERT_HOME`, else `./.raybert`."""
    return Path(os.environ.get("RAYBERT_HOME", ".raybert")).absolute()


def environment(name: str, default: str | None = None) -> str | None:
    """Return an environment variable; no other room reads the environment."""
    return os.environ.get(name) or default


def process_environment(**changes: str) -> dict[str, str]:
    """Return the environment for a child process: this one's, with changes."""
    return {**os.environ, **changes}


def set_environment(**values: str) -> None:
    """Set variables of this process that a library reads only when it is imported."""
    os.environ.update(values)


def _split_config(arguments: list[str]) -> tuple[str | None, list[str]]:
    """Take `--config FILE` out of the arguments."""
    rest: list[str] = []
    config: str | None = None
    items = iter(arguments)
    for item in items:
        if item == "--config":
            config = next(items, None)
            if config is None:
                raise SettingsError("command line: --config needs a YAML file")
        elif item.startswith("--config="):
            config = item.removeprefix("--config=")
        else:
            rest.append(item)
    return config, rest


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Merge nested mappings; values of `above` win."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        both = isinstance(old, dict) and isinstance(value, dict)
        merged[key] = _merged(old, value) if both else value  # type: ignore[arg-type]
    return merged


def _one_line(error: ValidationError, config: str | None, flags: dict[str, Any]) -> str:
    """Say the first fault of a validation in one line: key, origin, what is allowed."""
    first = error.errors()[0]
    keys = [str(part) for part in first["loc"]] or ["settings"]
    flag = "--" + ".".join(keys).replace("_", "-")
    origin = "command line" if config is None or keys[0] in flags else config
    if first["type"] == "missing":
        return f"{flag} is required (as a flag, or in --config FILE)"
    if first["type"] == "extra_forbidden":
        return f"{origin}: unknown setting {'.'.join(keys)!r} (--help lists what is allowed)"
    return f"{origin}: {flag} {first['input']!r}: {_flat(first['msg'])}"


def _flat(message: object) -> str:
    """Fold a message into one line."""
    return " ".join(str(message).split())


def ray_address() -> str | None:
    """Return the Ray cluster to join, or None where a job starts its own.

    A cluster of one's own listens on this machine only: it does without token authentication
    and reports no usage, unless the environment says otherwise.
    """
    address = environment("RAY_ADDRESS")
    if address is None:
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    return address
