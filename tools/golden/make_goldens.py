#!/usr/bin/env python3
"""Regenerate tests/golden: tiny random checkpoints in the official layout with float32 references from transformers.

    python -m venv V && V/bin/pip install torch==2.13.0 transformers==5.24.0 safetensors numpy pillow tokenizers
    V/bin/python tools/golden/make_goldens.py [NAME …]

Each entry is one make_reference.py run; the seed is part of the options, so a rerun with the same versions gives the same files.
What the tests compare and how closely is said in tests/golden/README.md.
"""
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMMON = "--new-tokens 32 --no-check --vision-depth 1 --vision-positions 16 --trace-prompts 1"
GOLDENS = {
    # name: what is special about it
    "moe": "--seed 1 --prompt-lengths 7,70",                                             # the published layout: fused main layers, MTP per expert
    "moe_fused": "--seed 12 --experts-layout fused --prompt-lengths 33,64",               # Qwen3.6: fused everywhere
    "moe_per_expert": "--seed 3 --experts-layout per-expert --max-shard-bytes 250000 --prompt-lengths 65,31",  # and several shards with an index
    "moe_tied": "--seed 4 --tie-embeddings --prompt-lengths 20,128",
    "dense": "--seed 5 --model-type qwen3_5 --prompt-lengths 9,90",
    "dense_tied": "--seed 6 --model-type qwen3_5 --tie-embeddings --no-mtp --prompt-lengths 50,3",
    "head_ratios": "--seed 7 --heads 6 --kv-heads 1 --head-dim 48 --linear-k-heads 3 --linear-v-heads 6 --linear-k-dim 24 --linear-v-dim 40 "
                   "--hidden 72 --layers 6 --full-attention-interval 3 --experts 5 --top-k 3 --moe-intermediate 20 --shared-intermediate 28 --prompt-lengths 17,77",
    "real_heads": "--seed 8 --heads 2 --kv-heads 1 --head-dim 256 --linear-k-heads 1 --linear-v-heads 2 --linear-k-dim 128 --linear-v-dim 128 "
                  "--layers 2 --full-attention-interval 2 --prompt-lengths 30,140",      # head sizes of the released models
    "float32": "--seed 9 --dtype float32 --layers 3 --full-attention-interval 3 --prompt-lengths 40,66",
    "w8a8": "--seed 1 --w8a8 --prompt-lengths 7,70",                                     # "moe" as an ascend W8A8 export
    "w8a8_dense": "--seed 5 --w8a8 --model-type qwen3_5 --max-shard-bytes 300000 --prompt-lengths 9,90",  # o_proj and mlp too, several shards
    "long": "--seed 10 --vocab 320 --layers 4 --prompt-lengths 5,517",                   # several chunks and delta-net blocks
}


def main() -> None:
    import numpy as np
    from safetensors.numpy import load_file, save_file

    for name in sys.argv[1:] or GOLDENS:
        out = ROOT / "tests" / "golden" / name
        shutil.rmtree(out, ignore_errors=True)
        with tempfile.TemporaryDirectory() as tmp:
            options = f"--out {tmp} {COMMON} {GOLDENS[name]}".split()
            subprocess.run([sys.executable, ROOT / "tools/golden/make_reference.py", *options], check=True, stdout=subprocess.DEVNULL)
            int8 = "--w8a8" in options
            shutil.copytree(f"{tmp}/model-w8a8" if int8 else f"{tmp}/model", out)
            tensors = load_file(f"{tmp}/reference/reference.safetensors")
            info = json.loads(Path(f"{tmp}/reference/reference.json").read_text())
        # Kept: what the tests compare. The vision references are made again when vision is built.
        keep = {k: v for k, v in tensors.items()
                if (k.startswith(("w8a8.", "text.") if int8 else ("text.", "mtp."))
                    and (k.startswith("w8a8.") or not int8 or k.endswith("input_ids")) and not k.startswith(("mtp.image", "w8a8.image")) and not k.endswith("greedy_logits")
                    and ".mixer." not in k and ".router." not in k and ".kv." not in k)}
        keep = {k: v.astype(np.int32) if v.dtype == np.int64 else v for k, v in keep.items()}
        (out / "reference").mkdir()
        save_file(keep, out / "reference" / "reference.safetensors")
        info = {"options": GOLDENS[name], "made_with": {k: info["made_with"][k] for k in ("torch", "transformers")},
                "text": [{k: v for k, v in t.items() if k != "prompt"} for t in (info["w8a8"] if int8 else info)["text"]]}
        (out / "reference" / "reference.json").write_text(json.dumps(info) + "\n")
        for path in (out, out / "reference"):
            for file in path.iterdir():
                file.is_file() and file.chmod(0o644)
        print(name, sum(f.stat().st_size for f in out.rglob("*") if f.is_file()) // 1024, "kB",
              "smallest greedy margins", [round(t["greedy_margin"], 4) for t in info["text"]])


if __name__ == "__main__":
    main()
