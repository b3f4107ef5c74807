"""A sparse auto-encoder over a dense embedding (Contrastive Sparse Representation).

Wen et al., Beyond Matryoshka, arXiv:2503.01776. Shapes: B batch, D input width, H hidden width.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from raybert.errors import ModelError
from raybert.modules.checkpoint import (
    SAFE_WEIGHTS,
    check_finite,
    first_line,
    read_config,
    read_weights,
    write_config,
)
from raybert.modules.module import Features, Module, Opening

TIED, OWN = "decoder.linear.weight", "encoder.weight"
"""Two names of the one weight matrix; a file holds either."""
KEYS = ("input_dim", "hidden_dim", "k", "k_aux", "normalize", "dead_threshold")


class TiedTranspose(nn.Module):
    """The transpose of another layer's weights."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, latents_BH: Tensor) -> Tensor:
        """Return latents times the weights, [B, D]."""
        return F.linear(latents_BH, self.linear.weight.t())


class SparseAutoEncoder(Module):
    """Keep the k largest of H latents; in training also what its losses need.

    Args:
        input_dim: width D of the dense embedding.
        hidden_dim: number H of latents.
        k: latents kept for each text.
        k_aux: latents kept of those that have been dead, for the auxiliary loss.
        normalize: standardise the input first.
        dead_threshold: batches without activity after which a latent counts as dead.
    """

    family: ClassVar[str] = "sentence_transformers.sparse_encoder.models"

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int = 512,
        k: int = 8,
        k_aux: int = 512,
        normalize: bool = False,
        dead_threshold: int = 30,
    ) -> None:
        super().__init__()
        if k < 1 or k > hidden_dim:
            raise ModelError(f"SparseAutoEncoder k {k}: 1 to hidden_dim {hidden_dim} is allowed")
        self.input_dim, self.hidden_dim = input_dim, hidden_dim
        self.k, self.k_aux = k, k_aux
        self.normalize = normalize
        self.dead_threshold = dead_threshold
        self.pre_bias = nn.Parameter(torch.zeros(input_dim))
        self.encoder = nn.Linear(input_dim, hidden_dim, bias=False)
        self.latent_bias = nn.Parameter(torch.zeros(hidden_dim))
        self.decoder = TiedTranspose(self.encoder)
        self.stats_last_nonzero: Tensor
        self.register_buffer("stats_last_nonzero", torch.zeros(hidden_dim, dtype=torch.long))

    @classmethod
    def load(cls, folder: Path, opening: Opening) -> Self:
        """Read `config.json` and the weights, under either name of the tied matrix."""
        config = read_config(folder / "config.json")
        module = cls(**{key: config[key] for key in KEYS if key in config})
        weights = read_weights(folder, allow_pickle=opening.allow_pickle)
        matrix = weights.get(OWN, weights.get(TIED))
        if matrix is None:
            raise ModelError(f"weights of {str(folder)!r}: {OWN} is missing")
        try:
            module.load_state_dict({**weights, OWN: matrix, TIED: matrix})
        except RuntimeError as error:
            said = first_line(error)
            raise ModelError(f"weights of {str(folder)!r} do not fit: {said}") from None
        check_finite(module, folder)
        return module.to(opening.dtype)

    def save(self, folder: Path) -> None:
        """Write `config.json` and the weights, the tied matrix once."""
        from safetensors.torch import save_model

        write_config(folder / "config.json", {key: getattr(self, key) for key in KEYS})
        save_model(self, str(folder / SAFE_WEIGHTS))

    def width(self, width: int = 0) -> int:
        """Return the number of latents."""
        return self.hidden_dim

    def forward(self, features: Features) -> Features:
        """Turn [B, D] into sparse [B, H]; `max_active_dims` among the features replaces k."""
        k = features.get("max_active_dims") or self.k
        dense_BD: Tensor = features["sentence_embedding"]
        prepared_BD, scale_B1 = self._prepared(dense_BD)
        latents_BH = F.linear(prepared_BD - self.pre_bias, self.encoder.weight, self.latent_bias)
        features["sentence_embedding"] = kept_BH = self._top(latents_BH, k)
        if torch.is_grad_enabled():
            features |= self._for_losses(dense_BD, latents_BH, kept_BH, scale_B1, k)
        return features

    def _for_losses(
        self, dense_BD: Tensor, latents_BH: Tensor, kept_BH: Tensor, scale: Scale, k: int
    ) -> Features:
        """Return the reconstructions that the losses compare with the input.

        Activity is counted for k before the dead latents are chosen, and for 4k after.
        """
        wide = min(4 * k, self.hidden_dim)
        self._count_activity(latents_BH, k)
        aux_BH = self._dead(latents_BH) if self.k_aux else None
        self._count_activity(latents_BH, wide)
        wide_BH = self._top(latents_BH, wide)
        spread = 1.0 if scale is None else scale[1]
        bias = self.pre_bias * spread
        whole_BD = self._decoded(kept_BH, scale)
        aux_BD = None if aux_BH is None else (self.decoder(aux_BH) + self.pre_bias) * spread
        return {
            "sentence_embedding_backbone": dense_BD,
            "sentence_embedding_encoded": latents_BH,
            "sentence_embedding_encoded_4k": wide_BH,
            "auxiliary_embedding": aux_BH,
            "decoded_embedding_k": whole_BD,
            "decoded_embedding_4k": self._decoded(wide_BH, scale),
            "decoded_embedding_aux": aux_BD,
            "decoded_embedding_k_pre_bias": whole_BD - bias,
        }

    def _prepared(self, x_BD: Tensor) -> tuple[Tensor, Scale]:
        """Standardise the input if asked for; returns it with its mean and spread."""
        if not self.normalize:
            return x_BD, None
        mean_B1 = x_BD.mean(dim=-1, keepdim=True)
        spread_B1 = (x_BD - mean_B1).std(dim=-1, keepdim=True)
        return (x_BD - mean_B1) / (spread_B1 + 1e-5), (mean_B1, spread_B1)

    def _decoded(self, latents_BH: Tensor, scale: Scale) -> Tensor:
        """Reconstruct the input."""
        decoded: Tensor = self.decoder(latents_BH) + self.pre_bias
        return decoded if scale is None else decoded * scale[1] + scale[0]

    @staticmethod
    def _top(latents_BH: Tensor, k: int) -> Tensor:
        """Keep the k largest latents of each row, and of those the positive ones."""
        top = torch.topk(latents_BH, k=min(k, latents_BH.shape[-1]), dim=-1)
        zeros_BH = torch.zeros_like(latents_BH)
        return zeros_BH.scatter(-1, top.indices, top.values).relu()

    def _dead(self, latents_BH: Tensor) -> Tensor:
        """Keep the largest of the latents that have been dead for long."""
        dead_H = self.stats_last_nonzero > self.dead_threshold
        return self._top(latents_BH * dead_H, self.k_aux)

    def _count_activity(self, latents_BH: Tensor, k: int) -> None:
        """In training, count for each latent the batches since it was last active."""
        if not self.training:
            return
        top = torch.topk(latents_BH.detach(), k=k, dim=-1)
        active_H = torch.zeros_like(self.stats_last_nonzero)
        active_H.scatter_add_(0, top.indices.reshape(-1), (top.values > 1e-5).long().reshape(-1))
        self.stats_last_nonzero *= 1 - active_H.clamp(max=1)
        self.stats_last_nonzero += 1


Scale = tuple[Tensor, Tensor] | None
"""Mean and spread of each row, where the input was standardised."""
