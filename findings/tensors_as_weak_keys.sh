#!/usr/bin/env bash
# torch and weakref: a cache from tensors to results in a WeakKeyDictionary fails once a key is looked up.
#
# Expected: Tensor.__hash__ is the object's identity, so a WeakKeyDictionary keeps a value for each tensor object, and
#   drops it with the tensor.
# Found: writing works, also for a second tensor. Each look-up makes another weak reference, and two weak references are
#   compared with ==, which gives a tensor: RuntimeError, "Boolean value of Tensor with more than one value is ambiguous".
#   With tensors of one element it gets as far as comparing values. torch.utils.weak.WeakIdKeyDictionary does what was
#   expected.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install -qq torch==2.13.0 numpy==2.4.6
env/bin/python - <<'PY'
import gc
import sys
from weakref import WeakKeyDictionary

import torch
from torch.utils.weak import WeakIdKeyDictionary

print("torch", torch.__version__)
first, second = torch.ones(3), torch.ones(3)


def looked_up(cache):
    """What a cache of two tensors gives for them."""
    cache[first], cache[second] = "first", "second"
    try:
        return cache[first], cache[second]
    except RuntimeError as error:
        return f"RuntimeError: {error}"


plain, by_identity = looked_up(WeakKeyDictionary()), WeakIdKeyDictionary()
print("WeakKeyDictionary:", plain)
print("WeakIdKeyDictionary:", looked_up(by_identity))
right = looked_up(by_identity) == ("first", "second")
del second
gc.collect()
print("WeakIdKeyDictionary after one tensor is gone:", len(by_identity))
as_found = "ambiguous" in str(plain) and right and len(by_identity) == 1
print("as found" if as_found else "THE BEHAVIOUR HAS CHANGED")
sys.exit(not as_found)
PY
