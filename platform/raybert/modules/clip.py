"""Texts and images in one space (CLIP).

Radford et al., Learning Transferable Visual Models From Natural Language Supervision,
arXiv:2103.00020. Shapes: B batch, T tokens, C channels, H height, W width, D embedding.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from raybert.errors import ModelError
from raybert.modules.checkpoint import first_line
from raybert.modules.fused import fuse_float32
from raybert.modules.images import Picture, read_image
from raybert.modules.module import Features, Module, Opening
from raybert.modules.pretrained import max_positions, open_config, open_model, quiet
from raybert.modules.tokenization import Tokenization

METHODS = ("get_text_features", "get_image_features")


class CLIPModel(Module):
    """A transformers model with one half for texts and one for images.

    Args:
        model: the transformers model; it has `get_text_features` and `get_image_features`.
        tokenization: tokenizes texts for it.
        processor: the transformers image processor.
    """

    def __init__(self, model: Any, tokenization: Tokenization, processor: Any) -> None:
        super().__init__()
        lacking = [name for name in METHODS if not hasattr(model, name)]
        if lacking:
            raise ModelError(f"CLIPModel: {type(model).__name__} has no {lacking[0]}")
        fuse_float32(model, head=False)
        self.model = model
        self.tokenization = tokenization
        self.processor = processor
        text, image = (inspect.signature(getattr(model, name)).parameters for name in METHODS)
        self._inputs = {"text": list(text), "image": list(image)}

    @classmethod
    def open_tokenization(cls, folder: Path, opening: Opening) -> Tokenization:
        """Read configuration and tokenizer, but no weights."""
        return _tokenization(folder, open_config(folder, opening), opening)

    @classmethod
    def load(cls, folder: Path, opening: Opening) -> Self:
        """Read the model, its tokenizer and its image processor."""
        config = open_config(folder, opening)
        processor = open_image_processor(folder, opening)
        model = open_model(folder, config, opening, "feature-extraction")
        return cls(model, _tokenization(folder, config, opening), processor)

    def save(self, folder: Path) -> None:
        """Write model, tokenizer and image processor."""
        with quiet():
            self.model.save_pretrained(str(folder))
            self.tokenization.save(folder)
            self.processor.save_pretrained(str(folder))

    def width(self, width: int = 0) -> int:
        """Return the width D of the common space."""
        return int(self.model.config.projection_dim)

    @property
    def patches(self) -> int:
        """The patches that an image is cut into, and one for the whole."""
        vision = self.model.config.vision_config
        return int((vision.image_size // vision.patch_size) ** 2 + 1)

    def pixels(self, images: Sequence[Picture]) -> Tensor:
        """Prepare images for the model, [B, C, H, W], on the CPU.

        Raises:
            InputError: one of them is no image, naming it.
        """
        opened = [read_image(image, row) for row, image in enumerate(images)]
        found: Tensor = self.processor(images=opened, return_tensors="pt")["pixel_values"]
        return found

    def forward(self, features: Features) -> Features:
        """Embed images where there are `pixel_values`, else texts; [B, D]."""
        kind = "image" if "pixel_values" in features else "text"
        inputs = {name: features[name] for name in self._inputs[kind] if name in features}
        found = getattr(self.model, f"get_{kind}_features")(**inputs)
        features["sentence_embedding"] = (
            found if isinstance(found, torch.Tensor) else found.pooler_output
        )
        return features


def _tokenization(folder: Path, config: Any, opening: Opening) -> Tokenization:
    """Open the tokenizer; the text half's positions limit it."""
    return Tokenization.open(
        folder,
        max_positions=max_positions(getattr(config, "text_config", config)),
        trust_remote_code=opening.trust_remote_code,
    )


def open_image_processor(folder: Path, opening: Opening) -> Any:
    """Open a transformers image processor.

    Raises:
        ModelError: there is none, or it cannot be read.
    """
    from transformers import AutoImageProcessor

    names = ("preprocessor_config.json", "processor_config.json")
    if not any((folder / name).exists() for name in names):
        raise ModelError(f"model folder {str(folder)!r}: has no image processor ({names[0]})")
    try:
        with quiet():
            return AutoImageProcessor.from_pretrained(
                str(folder),
                trust_remote_code=opening.trust_remote_code,
                local_files_only=True,
                backend="pil",
            )
    except (ValueError, OSError, KeyError, TypeError, ImportError, AttributeError) as error:
        raise ModelError(
            f"image processor of {str(folder)!r} cannot be read: {first_line(error)}"
        ) from None
