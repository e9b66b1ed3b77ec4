"""Write the figures of eval_results.json into the table of the model card.

usage: python card.py CHECKPOINT_DIR     (README.md and eval_results.json in it; rows are found by the name of their file)
"""
import json
import pathlib
import re
import sys


def main(folder):
    folder = pathlib.Path(folder)
    results = json.loads((folder / "eval_results.json").read_text())
    plain, rounded = results["bf16_weights"], results["int8_weights"]
    lines = (folder / "README.md").read_text().splitlines()
    for i, line in enumerate(lines):
        row = re.match(r"\| (\w+) \| ([^|]+) \| \d+ \|", line)
        if not row or row[1] not in plain:
            continue
        name, r = row[1], plain[row[1]]
        mtp = " / ".join(f"{x:.2f}" for x in r["mtp"])
        lines[i] = (f"| {name} | {row[2]} | {r['n']} | {100 * r['exact']:.1f} | {100 * r['accuracy']:.1f} | {100 * rounded[name]['accuracy']:.1f} | {mtp} | "
                    f"{r['mtp_mean_accepted']:.2f} |")
    (folder / "README.md").write_text("\n".join(lines) + "\n")
    weights = [name for name in plain if name not in ("text", "image")]
    total = sum(plain[name]["n"] for name in weights)
    print(f"all text tasks: {100 * sum(plain[name]['accuracy'] * plain[name]['n'] for name in weights) / total:.1f} % of {total}")


if __name__ == "__main__":
    main(sys.argv[1])
