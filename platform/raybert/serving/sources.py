"""Where a served model comes from: a folder, a model hub, or the registry."""

from __future__ import annotations

import re

from raybert.errors import SettingsError

_REGISTERED = re.compile(r"models:/(?P<name>[^@/]+)(?:@(?P<alias>[^@/]+)|/(?P<version>\d+))")


def model_folder(path: str) -> str:
    """Return what an encoder can open: `models:/NAME@ALIAS` or `models:/NAME/VERSION` is fetched.

    The tracking server is found as for jobs (`MLFLOW_TRACKING_URI`, or the running platform's).

    Raises:
        SettingsError: it begins with `models:/` and is neither.
        PlatformError: the registry does not answer.
        InputError: there is no such model, alias or version.
    """
    if not path.startswith("models:"):
        return path
    found = _REGISTERED.fullmatch(path)
    if found is None:
        raise SettingsError(
            f"model {path!r}: models:/NAME@ALIAS or models:/NAME/VERSION is allowed"
        )
    from raybert.tracking import Registry

    return str(Registry().fetch(found["name"], found["alias"] or found["version"]))
