"""Activation functions by the dotted path a configuration file names them with."""

from __future__ import annotations

from torch import nn

from raybert.errors import ModelError


def activation(path: str, where: str) -> nn.Module:
    """Build an activation from its path, such as `torch.nn.modules.activation.Tanh`.

    Only classes of `torch.nn` are built: a path is data from a file, not code to run.

    Raises:
        ModelError: the path is no activation of torch.
    """
    name = path.rsplit(".", 1)[-1]
    found = getattr(nn, name, None) if path.startswith("torch.") else None
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ModelError(f"{where}: activation {path!r} is not one of torch.nn")
    try:
        return found()
    except TypeError:
        raise ModelError(f"{where}: activation {path!r} cannot be built without values") from None


def activation_path(function: object) -> str:
    """Return the dotted path of an activation, as configuration files name it."""
    return f"{type(function).__module__}.{type(function).__qualname__}"
