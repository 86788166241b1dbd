"""llama.cpp as the yardstick of decoding: node-llama-cpp's prebuilt binaries, driven line by line. No measuring here."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import torch

PACKAGE = "node-llama-cpp@3.22.1"
INSTALL_SECONDS = 900
SCRIPT = """
import {getLlama, LlamaLogLevel} from "node-llama-cpp";
import {createInterface} from "node:readline";
const [,, path, threads] = process.argv;
const quiet = {gpu: false, build: "never", logLevel: LlamaLogLevel.error, maxThreads: Number(threads)};
const model = await (await getLlama(quiet)).loadModel({modelPath: path});
const context = await model.createContext({contextSize: 1024, threads: Number(threads)});
const sequence = context.getSequence();
console.log(JSON.stringify({ready: true}));
for await (const line of createInterface({input: process.stdin})) {
  const {prompt, tokens} = JSON.parse(line);
  await sequence.clearHistory();
  const asked = performance.now();
  let count = 0, first = 0;
  for await (const _ of sequence.evaluate(model.tokenize(prompt, true), {temperature: 0})) {
    if (count++ === 0) first = performance.now();
    if (count >= tokens) break;
  }
  const ended = performance.now();
  console.log(JSON.stringify({tokens: count, first_seconds: (first - asked) / 1000,
    decode_tokens_per_second: (count - 1) / (ended - first) * 1000}));
}
process.exit(0);
"""


class Unavailable(Exception):
    """llama.cpp cannot be measured here; the message says why."""


def installed(folder: Path) -> Path:
    """node-llama-cpp in a folder, installed there where it is not yet. Raises Unavailable."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise Unavailable("node and npm are not installed")
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "node_modules" / "node-llama-cpp").is_dir():
        command = [npm, "install", "--ignore-scripts", "--no-fund", "--no-audit", "--prefix", str(folder), PACKAGE]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=INSTALL_SECONDS)
        except (subprocess.SubprocessError, OSError) as e:
            raise Unavailable(f"npm could not install {PACKAGE} ({type(e).__name__})") from e
    (folder / "decode.mjs").write_text(SCRIPT)
    return folder


def write_gguf(source: Path, target: Path, precision: str) -> None:
    """Write a GGUF file's weights again as `bf16`, or `q8` (Q8_0), norms in float32. Raises Unavailable without gguf."""
    try:
        import gguf
    except ImportError as e:
        raise Unavailable("the package gguf is not installed") from e
    kind = {"bf16": gguf.GGMLQuantizationType.BF16, "q8": gguf.GGMLQuantizationType.Q8_0}[precision]
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, "llama")
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name in ("general.architecture", "general.file_type"):
            continue
        is_list = field.types[0] == gguf.GGUFValueType.ARRAY
        writer.add_key_value(field.name, field.contents(), field.types[0], field.types[-1] if is_list else None)
    for tensor in reader.tensors:
        # rounded to bfloat16 first, as the app's weights are
        values = torch.tensor(gguf.dequantize(tensor.data, tensor.tensor_type)).bfloat16().float().numpy()
        if values.ndim == 1:
            writer.add_tensor(tensor.name, values)
        else:
            writer.add_tensor(tensor.name, gguf.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def command(folder: Path, model: Path, threads: int) -> list[str]:
    return ["node", str(folder / "decode.mjs"), str(model), str(threads)]


def asked(prompt: str, tokens: int) -> dict[str, Any]:
    """A line for the process: a greedy continuation of a prompt whose control tokens are written out."""
    return {"prompt": prompt, "tokens": tokens}
