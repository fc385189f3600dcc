"""One class per token: tagging, masked words, the next token."""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlprun.data.nested import AnyBatch
from mlprun.data.source import IGNORED
from mlprun.errors import ConfigError, DataError
from mlprun.task_names import TOP5_FROM
from mlprun.tasks.base import Metric, Step
from mlprun.tasks.losses import NLL, Hinge
from mlprun.tasks.metrics import TopAccuracy, exact
from mlprun.tasks.supervised import TAKE_VALUES, Supervised


class TokenClassification(Supervised):
    """Targets are class indices (N, L) int64, `IGNORED` where none counts; the model gives logits (N, L, K).

    The criterion gets them as (N * L, K) and (N * L,).
    """

    name = "token_classification"
    higher_is_better = MappingProxyType({"loss": False, "accuracy": True, "perplexity": False})

    @property
    def values_per_token(self) -> int:  # type: ignore[override]
        """K."""
        return self.num_outputs

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss; 0 where no token of a batch counts."""
        targets = targets.flatten()
        value = super().loss(outputs.flatten(0, 1), targets)
        # of no tokens that count the mean is 0/0, and they are to change nothing
        return torch.where((targets != IGNORED).any(), value, 0.0)

    def weight_of(self, targets: Tensor) -> int | Tensor:
        """The tokens that count, or the sum of the weights of their classes."""
        counted = targets != IGNORED
        weight = getattr(self.criterion, "weight", None)
        if weight is None or type(self.criterion) not in (nn.CrossEntropyLoss, NLL):
            return counted.sum()
        return (cast(Tensor, weight)[targets.clamp(min=0)] * counted).sum()

    def score(self, outputs: Tensor, targets: Tensor, loss: Tensor) -> Step:
        """With the number of tokens that are classified correctly; no class is `IGNORED`."""
        num_correct = (outputs.argmax(-1) == targets).sum()
        count = (targets != IGNORED).sum()
        return Step(loss, count, self.weight_of(targets), {"accuracy": num_correct}, outputs, targets)

    def eval_step(self, model: nn.Module, batch: AnyBatch) -> Step:
        """With the sum of the cross entropy, in nats."""
        return self._with_nats(self.step(model, batch))

    def trial_step(self, model: nn.Module, batch: AnyBatch) -> Step:
        """The same, with each misfit explained."""
        return self._with_nats(super().trial_step(model, batch))

    def _with_nats(self, step: Step) -> Step:
        criterion = self.criterion
        known = type(criterion) in (nn.CrossEntropyLoss, NLL) and getattr(criterion, "weight", None) is None
        if known and not getattr(criterion, "label_smoothing", 0.0):
            nats = exact(step.loss) * (1 if self.sums_loss else step.weight)
        else:  # class weights, smoothed labels or a criterion of the user's own make another loss of it
            outputs, targets = _flat(step)
            nats = F.cross_entropy(outputs.float(), targets, ignore_index=IGNORED, reduction="sum")
        return step._replace(sums={**step.sums, "nats": nats})

    def compared(self, step: Step) -> tuple[Tensor, Tensor]:
        """The tokens that count, (M, K) and (M,)."""
        outputs, targets = _flat(step)
        counted = targets != IGNORED
        return outputs[counted], targets[counted]

    def summarize(self, means: dict[str, float]) -> dict[str, float]:
        """With the perplexity: among how many tokens a uniform guess would be as unsure."""
        nats = means["nats"]
        perplexity = math.exp(nats) if nats < 700 else math.inf
        return {"loss": means["loss"], "perplexity": perplexity, "accuracy": means["accuracy"]}

    def metrics(self, device: torch.device) -> dict[str, Metric]:
        """From 20 classes on `top5_accuracy`."""
        return {"top5_accuracy": TopAccuracy(5)} if self.num_outputs >= TOP5_FROM else {}

    def output_shape(self, inputs: Tensor) -> list[int]:
        """K outputs at each token."""
        return [*inputs.shape[:2], self.num_outputs]

    @property
    def output_remedy(self) -> str:
        """What to do about a model with another one."""
        return f"data.task={self.name} needs data.num_outputs={self.num_outputs} outputs at each token"

    def explain(self, error: Exception, batch: AnyBatch, when: str) -> None:
        """Raise a DataError if a label is no class."""
        targets = self.pair(batch)[1]
        wrong = targets[((targets < 0) | (targets >= self.num_outputs)) & (targets != IGNORED)]
        if len(wrong):
            raise DataError(
                f"data: at {when}, a label is {int(wrong[0])} (data.num_outputs={self.num_outputs})"
                f"\n  labels are 0 to {self.num_outputs - 1}, and {IGNORED} where no target counts: correct "
                "data.num_outputs, or the labels of the data set"
            ) from error

    def describe_targets(self) -> str:
        """The number of classes."""
        return f"{self.num_outputs:,} classes of each token"

    def check_criterion(self) -> None:
        """Raise ConfigError if the criterion cannot leave tokens out."""
        if type(self.criterion) in (*TAKE_VALUES, nn.MultiMarginLoss, Hinge):
            raise self.misfit("cannot leave tokens out, and does not classify them", "write loss=cross_entropy")
        if self.one_hot:
            raise ConfigError("loss.one_hot", self.one_hot, "the targets are a class of each token", "leave it out")
        if (index := getattr(self.criterion, "ignore_index", IGNORED)) != IGNORED:
            raise ConfigError(
                "loss.ignore_index", index, f"tokens that do not count are marked by {IGNORED}",
                f"leave it out, or give such tokens of your own data the target {IGNORED}",
            )  # fmt: skip
        super().check_criterion()
        if self.num_outputs == 1:
            raise ConfigError("data.num_outputs", 1, "a token needs two classes or more", "set it to their number")


class LanguageModeling(TokenClassification):
    """The class of each token is the next token, predicted from those before it alone."""

    name = "language_modeling"

    def check_model(self, model: nn.Module, batch: AnyBatch, step: Step) -> None:
        """Raise ConfigError if an output depends on tokens that come after its own."""
        assert step.outputs is not None
        inputs, outputs = self.pair(batch)[0], step.outputs
        middle = inputs.shape[1] // 2
        changed = inputs.clone()
        changed[:, middle:] = (changed[:, middle:] + 1) % outputs.shape[-1]
        if not torch.allclose(outputs[:, :middle], model(changed)[:, :middle], rtol=1e-3, atol=1e-4):
            raise ConfigError(
                "model", ConfigError.MISSING,
                "sees the tokens that it is to predict: its outputs change with what follows",
                "a language model may look back only; for words hidden in a text, which both sides tell, use "
                "data.task=token_classification",
            )  # fmt: skip


def _flat(step: Step) -> tuple[Tensor, Tensor]:
    assert step.outputs is not None
    assert step.targets is not None
    return step.outputs.flatten(0, 1), step.targets.flatten()
