"""For all tests: the longest comes first, and the base model's predictions are computed once in a process.

A round holds its adapter to what the base model says of hundreds of anchors and probes. A data folder's first round
computes that, and most tests have a new folder: it was a third of their time. It depends on the weights and on the text
alone, one text at a time, so that it is the same bits; tests of that computation itself use models of their own.

Were the longest one not the first, all other processes would wait for its end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from weakref import WeakKeyDictionary

import pytest
import torch
from peft import PeftModel
from torch import Tensor

from spear_core.training.material import Anchors
from spear_core.training.traces import Encoded

LARGEST_VOCABULARY = 4096  # the pocket model's kind: of larger ones the rows are megabytes
LONGEST = "test_real_model.py"
Text = tuple[tuple[int, ...], tuple[int, ...]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name != LONGEST)


@pytest.fixture(scope="session", autouse=True)
def base_predictions_once() -> Iterator[None]:
    computed: dict[tuple[object, ...], dict[Text, Tensor]] = {}
    known_models: WeakKeyDictionary[PeftModel, tuple[object, ...]] = WeakKeyDictionary()
    base = Anchors.base

    def weights_of(model: PeftModel) -> tuple[object, ...]:
        if model not in known_models:
            kept = [p.detach() for name, p in model.named_parameters() if "lora_" not in name]
            sums = tuple(float(p.double().sum()) for p in kept)
            known_models[model] = (sums, kept[0].dtype, torch.get_num_threads())
        return known_models[model]

    def base_from_earlier(self: Anchors, model: PeftModel, examples: Sequence[Encoded], pad_id: int) -> Tensor:
        if model.get_input_embeddings().weight.shape[0] > LARGEST_VOCABULARY:
            return base(self, model, examples, pad_id)
        rows, cached = computed.setdefault(weights_of(model), {}), self._cache.rows
        keys = [(e.prompt_ids, e.completion_ids) for e in (x.shown_to_base for x in examples)]
        for key in keys:
            if key not in cached and key in rows:
                self._cache.add(key, rows[key])
        found = base(self, model, examples, pad_id)
        rows.update((key, cached[key]) for key in keys if key in cached)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Anchors, "base", base_from_earlier)
        yield
