"""What a simulated client works with: the model with its adapter, sampling, log-probabilities. No algorithm, no network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from experiments.tasks.base import Task
from spear_core.config import SpearConfig
from spear_core.inference.generation import Finish, Generated, Request, generate
from spear_core.inference.token_choice import Choice
from spear_core.models.loading import LoadedModel
from spear_core.models.prompts import encode_prompt, end_token_ids, padding_token_id
from spear_core.models.shared_base import AdapterState, SharedBaseModels
from spear_core.setting_fields import check_settings
from spear_core.training.packing import batches_by_prompt
from spear_core.training.scoring import score
from spear_core.training.traces import Encoded, Messages


@dataclass(frozen=True)
class PlaySettings:
    """How a client tries its prompts.

    Attributes:
        rollouts: prompts a round, at most.
        temperature, top_p: of sampling.
        batch_size: rows generated together.
        hints: `none` asks for a revision without a hint, `partial` gives the task's hint, `full` the whole answer.
        label_noise: share of the verdicts that is flipped.
        group: samples a prompt, of algorithms that compare samples (grpo, rltf_sd).
    """

    rollouts: Annotated[int, Field(ge=1)] = 160
    temperature: Annotated[float, Field(ge=0)] = 0.8
    top_p: float = 0.95
    batch_size: int = 32
    hints: Literal["none", "partial", "full"] = "partial"
    label_noise: Annotated[float, Field(ge=0, lt=1)] = 0.0
    group: Annotated[int, Field(ge=2)] = 8

    def __post_init__(self) -> None:
        check_settings(self, "play.")


@dataclass(frozen=True)
class Reply:
    """One sampled reply: exactly the tokens that were sampled (end token included where there was one), and its text."""

    encoded: Encoded
    text: str


class ClientRuntime:
    """One model with one adapter, in which clients take turns: what they share is only read, the adapter is loaded."""

    def __init__(self, loaded: LoadedModel, task: Task, config: SpearConfig, play: PlaySettings, seed: int) -> None:
        self.loaded = loaded
        self.task = task
        self.config = config
        self.play = play
        self.shared_models = SharedBaseModels(loaded.model, config, seed)
        tokenizer = loaded.tokenizer
        self.end_ids = frozenset(end_token_ids(tokenizer))
        self.pad_id = padding_token_id(tokenizer)
        self.protected = task.protected_ids(tokenizer)
        self.generated_tokens = 0

    @property
    def model(self) -> Any:
        return self.shared_models.training

    def load(self, adapter: AdapterState) -> None:
        self.shared_models.load(adapter)

    def state(self) -> AdapterState:
        """A copy of the adapter in main memory, where servers average, whatever device the model is on."""
        return {name: tensor.cpu() for name, tensor in self.shared_models.state().items()}

    def encode(self, prompt: Messages) -> tuple[int, ...]:
        room = self.loaded.context_tokens - self._new_tokens
        return tuple(encode_prompt(self.loaded.tokenizer, list(prompt), max_tokens=room))

    @property
    def _new_tokens(self) -> int:
        return min(self.config.max_new_tokens, self.loaded.context_tokens // 2)

    def replies(
        self, prompts: Sequence[Messages], seed: int, *, samples: int = 1, greedy: bool = False
    ) -> list[list[Reply]]:
        """`samples` replies to each prompt; the same seed gives the same replies. Counts the tokens."""
        encoded = [self.encode(p) for p in prompts]
        choice = Choice(0.0 if greedy else self.play.temperature, self.play.top_p)
        requests = [Request(ids, self._new_tokens, self.end_ids, choice) for ids in encoded for _ in range(samples)]
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            made = generate(self.model, requests, batch_size=self.play.batch_size)
        replies = [self._reply(tuple(asked.prompt), reply) for asked, reply in zip(requests, made, strict=True)]
        return [replies[i : i + samples] for i in range(0, len(replies), samples)]

    def _reply(self, prompt_ids: tuple[int, ...], made: Generated) -> Reply:
        ended = made.finish == Finish.ENDED
        completion = (*made.tokens, *(end_token_ids(self.loaded.tokenizer)[:1] if ended else ()))
        self.generated_tokens += len(completion)
        text = str(self.loaded.tokenizer.decode(made.tokens, skip_special_tokens=True)).strip()
        return Reply(Encoded(prompt_ids, completion, (True,) * len(completion)), text)

    def logps(self, examples: Sequence[Encoded]) -> list[Tensor]:
        """Log-probabilities of every completion token, each (tokens,), without gradients."""
        found: dict[int, Tensor] = {}
        with torch.no_grad():
            for indices in batches_by_prompt(examples, self.config.micro_batch):
                part = [examples[i] for i in indices]
                rows = score(self.model, part, self.pad_id, every_token=True).logps
                found |= {i: row[: len(e.completion_ids)] for i, e, row in zip(indices, part, rows, strict=True)}
        return [found[i] for i in range(len(examples))]

    def base_logps(self, examples: Sequence[Encoded]) -> list[Tensor]:
        """The same of the base model, that is with the adapter off."""
        with self.model.disable_adapter():
            return self.logps(examples)


def padded(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Rows of different lengths as one (B, C) tensor and its mask."""
    values = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
    lengths = torch.tensor([len(r) for r in rows], device=values.device)
    return values, (torch.arange(values.shape[1], device=values.device) < lengths.unsqueeze(1)).float()
