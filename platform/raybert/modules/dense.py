"""A linear layer with an activation over an embedding."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from torch import nn

from raybert.modules.activations import activation, activation_path
from raybert.modules.checkpoint import fill, read_config, save_weights, write_config
from raybert.modules.module import Features, Module, Opening

SENTENCE = "sentence_embedding"


class Dense(Module):
    """y = f(W x + b), and with a residual y + x (projected where the widths differ).

    Args:
        in_features: width before.
        out_features: width after.
        bias: whether b is learned.
        activation_function: f; tanh unless told otherwise.
        use_residual: add the input to the output.
        module_input_name: feature to read.
        module_output_name: feature to write; None writes where it read.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        activation_function: nn.Module | None = None,
        *,
        use_residual: bool = False,
        module_input_name: str = SENTENCE,
        module_output_name: str | None = None,
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features, bias=bias)
        self.activation_function = nn.Tanh() if activation_function is None else activation_function
        self.use_residual = use_residual
        if use_residual and in_features != out_features:
            self.residual = nn.Linear(in_features, out_features, bias=False)
        self.module_input_name = module_input_name
        self.module_output_name = module_output_name or module_input_name

    @classmethod
    def load(cls, folder: Path, opening: Opening) -> Self:
        """Read `config.json` and the weights."""
        config = read_config(folder / "config.json")
        path = config.get("activation_function") or "torch.nn.modules.activation.Tanh"
        module = cls(
            config["in_features"],
            config["out_features"],
            config.get("bias", True),
            activation(path, str(folder / "config.json")),
            use_residual=config.get("use_residual", False),
            module_input_name=config.get("module_input_name") or SENTENCE,
            module_output_name=config.get("module_output_name"),
        )
        fill(module, folder, allow_pickle=opening.allow_pickle)
        return module.to(opening.dtype)

    def save(self, folder: Path) -> None:
        """Write `config.json` with the keys every version reads, and newer keys only if used."""
        config: dict[str, Any] = {
            "in_features": self.linear.in_features,
            "out_features": self.linear.out_features,
            "bias": self.linear.bias is not None,
            "activation_function": activation_path(self.activation_function),
        }
        if (self.module_input_name, self.module_output_name) != (SENTENCE, SENTENCE):
            config["module_input_name"] = self.module_input_name
            config["module_output_name"] = self.module_output_name
        if self.use_residual:
            config["use_residual"] = True
        write_config(folder / "config.json", config)
        save_weights(self, folder)

    def width(self, width: int = 0) -> int:
        """Return `out_features`."""
        return self.linear.out_features

    def forward(self, features: Features) -> Features:
        """Apply the layer over the last axis."""
        x = features[self.module_input_name]
        y = self.activation_function(self.linear(x))
        if self.use_residual:
            y = y + (self.residual(x) if hasattr(self, "residual") else x)
        features[self.module_output_name] = y
        return features
