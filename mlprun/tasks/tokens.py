"""One class per token: tagging, masked words, next-token prediction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import MappingProxyType
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlprun.data.nested import AnyBatch, Batch
from mlprun.data.source import IGNORED
from mlprun.data.text.tokenizer import PADDING
from mlprun.errors import ConfigError
from mlprun.tasks.base import Metric, Step
from mlprun.tasks.losses import NLL, Hinge
from mlprun.tasks.metrics import TopAccuracy, exact
from mlprun.tasks.names import TOP5_FROM
from mlprun.tasks.supervised import TAKE_VALUES, Supervised


class TokenClassification(Supervised):
    """Targets are class indices (N, L) int64, `IGNORED` where none counts; the model returns logits (N, L, K).

    The criterion gets them as (N * L, K) and (N * L,).
    """

    name = "token_classification"
    higher_is_better = MappingProxyType({"loss": False, "accuracy": True, "perplexity": False})

    @property
    def values_per_token(self) -> int:  # type: ignore[override]  # a constant elsewhere
        return self.num_outputs

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        targets = targets.flatten()
        value = super().loss(outputs.flatten(0, 1), targets)
        # Without a token that counts the mean is 0/0; such a batch must change nothing.
        return torch.where((targets != IGNORED).any(), value, 0.0)

    def weight_of(self, targets: Tensor) -> int | Tensor:
        counted = targets != IGNORED
        weight = getattr(self.criterion, "weight", None)
        if weight is None or type(self.criterion) not in (nn.CrossEntropyLoss, NLL):
            return counted.sum()
        return (cast(Tensor, weight)[targets.clamp(min=0)] * counted).sum()

    def score(self, outputs: Tensor, targets: Tensor, loss: Tensor) -> Step:
        num_correct = (outputs.argmax(-1) == targets).sum()  # no class is IGNORED
        count = (targets != IGNORED).sum()
        return Step(loss, count, self.weight_of(targets), {"accuracy": num_correct}, outputs, targets)

    def eval_step(self, model: nn.Module, batch: AnyBatch) -> Step:
        return self._with_nats(self.step(model, batch))

    def trial_step(self, model: nn.Module, batch: AnyBatch) -> Step:
        return self._with_nats(super().trial_step(model, batch))

    def _with_nats(self, step: Step) -> Step:
        """Add the sum of the cross entropy, in nats."""
        criterion = self.criterion
        known = type(criterion) in (nn.CrossEntropyLoss, NLL) and getattr(criterion, "weight", None) is None
        if known and not getattr(criterion, "label_smoothing", 0.0):
            nats = exact(step.loss) * (1 if self.sums_loss else step.weight)
        else:  # class weights, smoothed labels or a user's criterion: the loss is not the cross entropy
            outputs, targets = _flat(step)
            nats = F.cross_entropy(outputs.float(), targets, ignore_index=IGNORED, reduction="sum")
        return step._replace(sums={**step.sums, "nats": nats})

    def compared(self, step: Step) -> tuple[Tensor, Tensor]:
        outputs, targets = _flat(step)
        counted = targets != IGNORED
        return outputs[counted], targets[counted]

    def summarize(self, means: dict[str, float]) -> dict[str, float]:
        nats = means["nats"]
        perplexity = math.exp(nats) if nats < 700 else math.inf
        return {"loss": means["loss"], "perplexity": perplexity, "accuracy": means["accuracy"]}

    def metrics(self, device: torch.device) -> dict[str, Metric]:
        return {"top5_accuracy": TopAccuracy(5)} if self.num_outputs >= TOP5_FROM else {}

    def probabilities(self, outputs: Tensor) -> Tensor | None:
        return outputs.softmax(-1) if type(self.criterion) in (nn.CrossEntropyLoss, NLL) else None

    def output_shape(self, inputs: Tensor) -> list[int]:
        return [*inputs.shape[:2], self.num_outputs]

    @property
    def output_remedy(self) -> str:
        return f"data.task={self.name} needs data.num_outputs={self.num_outputs} outputs at each token"

    def explain(self, error: Exception, batch: AnyBatch, when: str) -> None:
        labels = self.pair(batch)[1]
        also = f", and {IGNORED} where no target counts"
        self.check_labels(error, labels[labels != IGNORED], when, self.num_outputs, also)

    def describe_targets(self) -> str:
        return f"{self.num_outputs:,} classes of each token"

    def target_lines(self, targets: Tensor, first: Batch, known: Sequence[str], *, redrawn: bool) -> list[str]:
        amount = f"{int((targets != IGNORED).sum()):,} tokens"
        if redrawn:
            share = float((first.targets != IGNORED).sum() / (first.inputs != PADDING).sum())
            amount = f"{share:.0%} of the tokens, others in every batch"
        return [f"targets of train  {amount}, each of {self.num_outputs:,} classes"]

    def check_criterion(self) -> None:
        if type(self.criterion) in (*TAKE_VALUES, nn.MultiMarginLoss, Hinge):
            raise self.misfit("cannot leave tokens out, and does not classify them", "write loss=cross_entropy")
        if self.one_hot:
            raise ConfigError("loss.one_hot", self.one_hot, "the targets are a class of each token", "leave it out")
        if (index := getattr(self.criterion, "ignore_index", IGNORED)) != IGNORED:
            problem = f"tokens that do not count are marked by {IGNORED}"
            remedy = f"leave it out, or give such tokens of your own data the target {IGNORED}"
            raise ConfigError("loss.ignore_index", index, problem, remedy)
        super().check_criterion()
        if self.num_outputs == 1:
            raise ConfigError("data.num_outputs", 1, "a token needs two classes or more", "set it to their number")


class LanguageModeling(TokenClassification):
    """The class of each token is the next token, predicted from the previous tokens only."""

    name = "language_modeling"

    def check_model(self, model: nn.Module, batch: AnyBatch, step: Step) -> None:
        assert step.outputs is not None
        inputs, outputs = self.pair(batch)[0], step.outputs
        middle = inputs.shape[1] // 2
        changed = inputs.clone()  # all tokens from the middle on
        changed[:, middle:] = (changed[:, middle:] + 1) % outputs.shape[-1]
        if not torch.allclose(outputs[:, :middle], model(changed)[:, :middle], rtol=1e-3, atol=1e-4):
            problem = "sees the tokens that it is to predict: its outputs change with those that follow"
            remedy = "a language model may look back only; for masked words use data.task=token_classification"
            raise ConfigError("model", ConfigError.MISSING, problem, remedy)


def _flat(step: Step) -> tuple[Tensor, Tensor]:
    assert step.outputs is not None
    assert step.targets is not None
    return step.outputs.flatten(0, 1), step.targets.flatten()
