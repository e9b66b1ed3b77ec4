"""weir beside other servers on this machine, in turns: every cell is run on all of them before the next one, so that what else the machine does
falls on all alike. `weir bench serve` is the client of all. bench/peers.md says how the others are set up.

    python3 bench/peers.py --model CHECKPOINT [--target NAME=http://127.0.0.1:PORT[,pid=N] …] [--weir "NAME=FLAGS" …] [--results FOLDER]

Prints medians over the rounds, their spread, and how many times the best of the others weir's first entry is.
"""
import argparse
import contextlib
import itertools
import json
import pathlib
import shlex
import statistics
import tempfile
import time

from servers import bench, healthy, peak_memory, serve, served_model


def parse_target(text):
    name, _, rest = text.partition("=")
    url, _, pid = rest.partition(",pid=")
    if not name or not url.startswith("http://"):
        raise argparse.ArgumentTypeError(f"must be NAME=http://HOST:PORT[,pid=N], got {text}")
    return name, url.rstrip("/"), int(pid) if pid else None


def parse_shapes(text):
    return [tuple(map(int, part.split("/"))) for part in text.split(",") if part]


def spread(values):
    return f"{statistics.median(values):.1f} [{min(values):.1f}-{max(values):.1f}]"


def run_cells(arguments, targets, folder):
    """{(input, output, at once): {name: [result, …]}}"""
    cells = {}
    for (prompt, answer), at_once in itertools.product(arguments.shapes, arguments.concurrency):
        for round_number in range(arguments.rounds):
            for name, url, _ in targets:
                model = served_model(url)[0]
                # New prompts in each round, so that no cache knows them; the same for all servers of a round. cache_prompt is llama.cpp's.
                result = bench(url, model, arguments.model, folder, f"{name}-{prompt}-{answer}-{at_once}-{time.time_ns()}.json",
                               {"plot_label": name, "plot_kind": f"{prompt}/{answer}", "plot_point": at_once}, "--max-concurrency", at_once,
                               "--num-prompts", max(3, arguments.per_client * at_once), "--random-input-len", prompt, "--random-output-len", answer,
                               "--seed", 1000 * prompt + 10 * at_once + round_number, "--temperature", 0, "--extra-body", '{"cache_prompt": false}')
                if result["failed"]:
                    print(f"{name}: {result['failed']} of {result['num_prompts']} requests failed", flush=True)
                cells.setdefault((prompt, answer, at_once), {}).setdefault(name, []).append(result)
        print_cell(cells[prompt, answer, at_once], prompt, answer, at_once)
    return cells


def print_cell(cell, prompt, answer, at_once):
    print(f"\n{prompt} in / {answer} out, {at_once} at once")
    print(f"  {'':16} {'output tok/s':>26} {'TTFT ms':>26} {'TPOT ms':>24}")
    for name, results in cell.items():
        columns = [spread([result[key] for result in results]) for key in ("output_throughput", "median_ttft_ms", "median_tpot_ms")]
        print(f"  {name:16} {columns[0]:>26} {columns[1]:>26} {columns[2]:>24}")
    first, *others = (statistics.median(result["output_throughput"] for result in results) for results in cell.values())
    if others:
        ttft, *other_ttfts = (statistics.median(result["median_ttft_ms"] for result in results) for results in cell.values())
        print(f"  {next(iter(cell))}: {first / max(others):.2f} times the output of the best other, {ttft / min(other_ttfts):.2f} times its TTFT", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="directory of the checkpoint: weir serves it, and its tokenizer makes the prompts")
    parser.add_argument("--target", type=parse_target, action="append", default=[], metavar="NAME=URL[,pid=N]", help="a server that runs")
    parser.add_argument("--weir", action="append", metavar="NAME=FLAGS", help="weir with more flags; several are several servers. Default: weir=")
    parser.add_argument("--shapes", type=parse_shapes, default=[(128, 64), (512, 128)], metavar="IN/OUT,…")
    parser.add_argument("--concurrency", type=lambda text: [int(part) for part in text.split(",")], default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--per-client", type=int, default=1, help="requests of each client in a round")
    parser.add_argument("--results", help="folder for the result files (bench/plots.py draws from them); default: none is kept")
    arguments = parser.parse_args()
    for name, url, _ in arguments.target:
        if not healthy(url):
            parser.error(f"--target {name}: {url}/health does not answer 200")
    with contextlib.ExitStack() as stack:
        folder = arguments.results or stack.enter_context(tempfile.TemporaryDirectory())
        targets = []
        for text in arguments.weir or ["weir="]:
            name, _, flags = text.partition("=")
            server = stack.enter_context(serve(arguments.model, "--no-enable-prefix-caching", "--max-num-seqs", str(max(arguments.concurrency)),
                                               *shlex.split(flags)))
            print(f"{name}: ready after {server.ready_after:.2f} s")
            targets.append((name, server.url, server.pid))
        targets += arguments.target
        for name, url, _ in targets:  # the first requests are slow everywhere
            bench(url, served_model(url)[0], arguments.model, folder, f"{name}-warm-up.json", {"plot_label": name, "plot_kind": "warm-up"},
                  "--num-prompts", 2, "--random-input-len", 64, "--random-output-len", 8)
        run_cells(arguments, targets, folder)
        print("\nmost memory used: " + ", ".join(f"{name} {peak_memory(pid):.0f} MiB" for name, _, pid in targets if pid))
        pathlib.Path(folder, "setup.json").write_text(json.dumps({"model": arguments.model, "targets": [target[:2] for target in targets]}))


if __name__ == "__main__":
    main()
