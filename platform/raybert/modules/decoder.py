"""A decoder that reads nothing but a text's embedding, for denoising auto-encoders.

Shapes: N texts, D width, T tokens, V vocabulary.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from raybert.errors import ModelError
from raybert.modules.checkpoint import first_line
from raybert.modules.module import Opening
from raybert.modules.pretrained import open_config, quiet


class Decoder(nn.Module):
    """A causal language model with the text's embedding as its only cross-attention key.

    Args:
        model: the transformers model.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    @classmethod
    def open(cls, folder: Path, tied_to: nn.Module | None = None) -> Decoder:
        """Open the decoder of an encoder's own folder; what the folder lacks is made anew.

        Args:
            folder: the encoder's transformers folder.
            tied_to: the encoder's transformers model, whose weights the decoder then shares.

        Raises:
            ModelError: the folder cannot be read, or its architecture has no such decoder.
        """
        from transformers import AutoModelForCausalLM

        config = open_config(folder, Opening())
        config.is_decoder = config.add_cross_attention = True
        try:
            with quiet():
                model = AutoModelForCausalLM.from_pretrained(
                    str(folder), config=config, local_files_only=True
                )
        except (ValueError, OSError, KeyError, TypeError) as error:
            raise ModelError(
                f"model {str(folder)!r} cannot be used as a decoder: {first_line(error)}"
            ) from None
        if tied_to is not None:
            _share(tied_to, getattr(model, model.base_model_prefix))
            model.tie_weights()
        return cls(model)

    def forward(self, embeddings_ND: Tensor, input_ids_NT: Tensor) -> Tensor:
        """Return the logits of each next token, [N, T, V]."""
        logits_NTV: Tensor = self.model(
            input_ids=input_ids_NT,
            encoder_hidden_states=embeddings_ND[:, None],
            use_cache=False,
        ).logits
        return logits_NTV


def _share(source: nn.Module, target: nn.Module) -> None:
    """Make every parameter of `target` that `source` has too one and the same."""
    owners = dict(target.named_modules())
    for name, parameter in source.named_parameters():
        owner, _, leaf = name.rpartition(".")
        own = getattr(owners.get(owner), leaf, None)
        if isinstance(own, nn.Parameter) and own.shape == parameter.shape:
            setattr(owners[owner], leaf, parameter)
