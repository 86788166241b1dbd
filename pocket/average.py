"""Average the weights of several phases: `python -m pocket.average --out FOLDER FOLDER=SHARE ...` (shares sum to 1)."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

WEIGHTS = "model.safetensors"


def average(parts: dict[Path, float], out: Path) -> None:
    """Weighted mean in float32, stored in bf16; everything else is copied from the last folder.

    Raises ValueError where the shares do not sum to 1.
    """
    if abs(sum(parts.values()) - 1) > 1e-6:
        raise ValueError(f"the shares sum to {sum(parts.values())}, not to 1")
    total: dict[str, torch.Tensor] = {}
    for folder, share in parts.items():
        for name, tensor in load_file(folder / WEIGHTS).items():
            total[name] = total.get(name, torch.zeros(tensor.shape)) + share * tensor.float()
    shutil.copytree(folder, out, dirs_exist_ok=True)
    save_file({name: t.bfloat16().contiguous() for name, t in total.items()}, out / WEIGHTS, metadata={"format": "pt"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("parts", nargs="+", metavar="FOLDER=SHARE")
    arguments = parser.parse_args()
    average({Path(f): float(share) for f, _, share in (p.rpartition("=") for p in arguments.parts)}, arguments.out)


if __name__ == "__main__":
    main()
