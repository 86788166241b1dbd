#!/usr/bin/env bash
# pydantic: a length limit on a union makes some valid input raise TypeError instead of ValidationError.
#
# Expected: with `id: str | int = Field(max_length=64)` a number is accepted (the limit is for texts), or refused with a
#   ValidationError; the model can be declared, so one of the two holds.
# Found: the limit is applied to whatever member of the union was taken, and a number has no length: TypeError comes out of
#   the validation. Code that handles ValidationError, such as a web framework that answers 422, does not see it and answers
#   500. `str` with the limit inside, Annotated[str, Field(max_length=64)] | int, accepts the number.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install -qq pydantic==2.14.4
env/bin/python - <<'PY'
import sys
from typing import Annotated

import pydantic
from pydantic import BaseModel, Field, ValidationError


class Outside(BaseModel):
    id: str | int = Field(max_length=8)


class Inside(BaseModel):
    id: Annotated[str, Field(max_length=8)] | int


def of(model, value):
    try:
        return repr(model(id=value).id)
    except (ValidationError, TypeError) as e:
        return type(e).__name__


print("pydantic", pydantic.VERSION)
found = {}
for model in (Outside, Inside):
    for value in ("abc", "a" * 20, 7):
        found[model.__name__, value] = of(model, value)
        print(f"limit {model.__name__.lower()}, id={value!r}: {found[model.__name__, value]}")
as_found = found["Outside", 7] == "TypeError" and found["Inside", 7] == "7" and found["Outside", "a" * 20] == "ValidationError"
print("as found" if as_found else "THE BEHAVIOUR HAS CHANGED")
sys.exit(not as_found)
PY
