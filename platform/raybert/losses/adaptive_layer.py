"""Adaptive layers: any loss, on embeddings pooled from earlier layers too.

Shapes: N rows, L earlier layers, D width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from raybert.losses.draws import Draws
from raybert.losses.loss import LAYERS, CompoundLoss, Loss, LossInputs, Terms, one_of
from raybert.losses.matryoshka import MatryoshkaLoss


def _uniform(layer: int) -> float:
    return 1.0


def _log(layer: int) -> float:
    return 1 / (1 + math.log(1 + layer))


def _linear(layer: int) -> float:
    return 1 / (1 + layer)


LAYER_WEIGHTINGS: dict[str, Callable[[int], float]] = {
    "uniform": _uniform,
    "log": _log,
    "linear": _linear,
}
"""Weight of layer 0, 1, ... of `AdaptiveLayerLoss`."""


class AdaptiveLayerLoss(CompoundLoss):
    """Makes a model good after any number of its layers, so that later ones can be dropped.

    `w_last L(last) + sum_l w_prior w_l L(l) / n + w_kl T KL(softmax(last / T) || softmax(l / T))`
    over n drawn layers l; the last layer teaches (no gradient), KL is a mean over rows of all
    columns. arXiv:2402.14776. The earlier layers' embeddings come as the detail `layers`, one
    tensor [N, L, D] a column, layer 0 being the token embeddings' output.

    Args:
        loss: any loss.
        n_layers_per_step: how many earlier layers a step draws at random; -1 takes all.
        last_layer_weight: w_last.
        prior_layers_weight: w_prior.
        kl_div_weight: w_kl.
        kl_temperature: T; 0 leaves the KL term out.
        layer_weighting: w_l: `uniform`, `log`, `linear`, or a function of the layer's number.
        seed: of the draw.

    Prefer:
        Around the loss of choice when one model must serve at several speeds; a plain loss gives
        the full model slightly better quality. With shorter vectors too: Matryoshka2dLoss.
    """

    def __init__(
        self,
        loss: Loss,
        n_layers_per_step: int = 1,
        last_layer_weight: float = 1.0,
        prior_layers_weight: float = 1.0,
        kl_div_weight: float = 1.0,
        kl_temperature: float = 0.3,
        layer_weighting: str | Callable[[int], float] = "uniform",
        seed: int = 0,
    ) -> None:
        super().__init__()
        if isinstance(layer_weighting, str):
            one_of("layer_weighting", layer_weighting, list(LAYER_WEIGHTINGS))
            layer_weighting = LAYER_WEIGHTINGS[layer_weighting]
        self.loss = loss
        self.n_layers_per_step = n_layers_per_step
        self.last_layer_weight = last_layer_weight
        self.prior_layers_weight = prior_layers_weight
        self.kl_div_weight = kl_div_weight
        self.kl_temperature = kl_temperature
        self.layer_weight = layer_weighting
        self.draws = Draws(seed)
        self.follow(loss)
        self.by_rows = False

    def terms(self, inputs: LossInputs, labels: Tensor | None = None) -> Terms:
        """Return the last layer's terms, and `prior_layers` and `kl_div` where there are any."""
        terms = {
            name: self.last_layer_weight * term
            for name, term in self.loss.terms(inputs, labels).items()
        }
        layers = inputs.detail(LAYERS)
        drawn = self.draws.take(self.n_layers_per_step, layers[0].shape[1])
        if drawn:
            pooled = [[column_NLD[:, layer] for column_NLD in layers] for layer in drawn]
            losses = [self.loss(inputs.with_columns(columns), labels) for columns in pooled]
            weights = [self.layer_weight(layer) for layer in drawn]
            weighted = [loss * weight for loss, weight in zip(losses, weights, strict=True)]
            terms["prior_layers"] = self.prior_layers_weight * torch.stack(weighted).mean()
            if self.kl_temperature > 0:
                terms["kl_div"] = self.kl_div_weight * self._divergence(inputs.columns, pooled)
        return terms

    def at_step(self, step: int, total_steps: int) -> None:
        """Pass the step on."""
        self.loss.at_step(step, total_steps)

    def _divergence(self, last: Sequence[Tensor], layers: Sequence[Sequence[Tensor]]) -> Tensor:
        """Return the sum over layers of T KL(last || layer), embeddings taken as logits."""
        teacher = torch.softmax(torch.cat(list(last)).detach() / self.kl_temperature, dim=-1)
        students = [
            torch.log_softmax(torch.cat(list(layer)) / self.kl_temperature, -1) for layer in layers
        ]
        divergences = [F.kl_div(student, teacher, reduction="batchmean") for student in students]
        return torch.stack(divergences).sum() * self.kl_temperature


class Matryoshka2dLoss(AdaptiveLayerLoss):
    """Adaptive layers around Matryoshka: drop layers and coordinates alike. arXiv:2402.14776.

    Args:
        loss: any loss.
        matryoshka_dims: the widths.
        matryoshka_weights: their weights; 1 each by default.
        n_layers_per_step: how many earlier layers a step draws.
        n_dims_per_step: how many widths a step draws for each layer.
        last_layer_weight, prior_layers_weight, kl_div_weight, kl_temperature, layer_weighting:
            as in AdaptiveLayerLoss.
        seed: of the draws.

    Prefer:
        When the model must shrink in both ways; one kind of shrinking alone is learnt better by
        MatryoshkaLoss or AdaptiveLayerLoss.
    """

    def __init__(
        self,
        loss: Loss,
        matryoshka_dims: Sequence[int],
        matryoshka_weights: Sequence[float] | None = None,
        n_layers_per_step: int = 1,
        n_dims_per_step: int = 1,
        last_layer_weight: float = 1.0,
        prior_layers_weight: float = 1.0,
        kl_div_weight: float = 1.0,
        kl_temperature: float = 0.3,
        layer_weighting: str | Callable[[int], float] = "uniform",
        seed: int = 0,
    ) -> None:
        nested = MatryoshkaLoss(loss, matryoshka_dims, matryoshka_weights, n_dims_per_step, seed)
        super().__init__(
            nested,
            n_layers_per_step,
            last_layer_weight,
            prior_layers_weight,
            kl_div_weight,
            kl_temperature,
            layer_weighting,
            seed,
        )
