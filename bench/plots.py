"""Plots for the docs: throughput against requests at once, and time per token against the length of the context. Measures with
`weir bench serve` against a server that it starts, or any OpenAI server that runs, and draws SVG files without any library.

    python3 bench/plots.py measure RESULTS --label weir --model .cache/mini [--concurrency 1,2,4,…] [--contexts 1k,2k,…]
    python3 bench/plots.py measure RESULTS --label vllm --url http://127.0.0.1:8101 --tokenizer .cache/mini
    python3 bench/plots.py draw RESULTS docs          # throughput.svg and context.svg, one line for each label in RESULTS

RESULTS is a folder of the JSON files that `weir bench serve --save-result` writes; several runs of a point become their median.
"""
import argparse
import contextlib
import json
import math
import pathlib
import statistics
import time
from xml.sax.saxutils import escape

from servers import bench, serve, served_model

COLOURS = ["#1b6ca8", "#c8553d", "#4f772d", "#7b2d8b", "#8d6a00", "#444444"]


def count(text):
    """64k -> 65536: contexts are powers of two."""
    return int(text[:-1]) * 1024 if text[-1] in "kK" else int(text)


# ---- measuring

def run(url, name, tokenizer, results, label, kind, point, *flags):
    bench(url, name, tokenizer, results, f"{label}-{kind}-{point}-{time.time_ns()}.json",
          {"plot_label": label, "plot_kind": kind, "plot_point": point}, *flags)
    print(f"{label}: {kind} {point}", flush=True)


def measure(arguments):
    with contextlib.ExitStack() as stack:
        # The same prompts must not be found in a cache, and all must be able to run at once.
        url = arguments.url or stack.enter_context(serve(arguments.model, "--no-enable-prefix-caching", "--max-num-seqs", str(max(arguments.concurrency)))).url
        name, longest = served_model(url)
        tokenizer = arguments.tokenizer or arguments.model
        for round_number in range(arguments.rounds):
            seed = ("--seed", round_number + 1)
            for at_once in arguments.concurrency:
                run(url, name, tokenizer, arguments.results, arguments.label, "concurrency", at_once, "--max-concurrency", at_once, "--num-prompts",
                      max(4, 2 * at_once), "--random-input-len", arguments.input, "--random-output-len", arguments.output, *seed)
            for context in arguments.contexts:
                prompt = context - arguments.context_output
                if prompt < 1 or context > longest:
                    print(f"{arguments.label}: context {context} does not fit the server's {longest} tokens")
                    continue
                run(url, name, tokenizer, arguments.results, arguments.label, "context", context, "--max-concurrency", 1, "--num-prompts", 2,
                      "--random-input-len", prompt, "--random-output-len", arguments.context_output, *seed)


# ---- drawing

def read_results(folder, kind, key):
    """{label: [(point, median of `key`), …]} in rising order."""
    values = {}
    for path in sorted(pathlib.Path(folder).glob("*.json")):
        result = json.loads(path.read_text())
        if result.get("plot_kind") == kind and result.get("completed"):
            values.setdefault(result["plot_label"], {}).setdefault(int(result["plot_point"]), []).append(float(result[key]))
    return {label: sorted((point, statistics.median(all_of)) for point, all_of in points.items()) for label, points in values.items()}


def round_up(value):
    """The next of 1, 2, 2.5, 5 times a power of ten, and how many steps of an axis it has."""
    power = 10.0 ** math.floor(math.log10(value)) if value > 0 else 1.0
    return next((factor * power, steps) for factor, steps in ((1, 5), (2, 4), (2.5, 5), (5, 5), (10, 5)) if factor * power >= value * 0.9999)


def short(value):
    if value >= 1024 and value % 1024 == 0:
        return f"{int(value) // 1024}k"
    return f"{value:g}"


def draw(series, title, x_label, y_label):
    """An SVG of lines over a logarithmic x axis (powers of two) and a y axis from zero."""
    width, height, left, right, top, bottom = 640, 360, 64, 20, 40, 52
    points = sorted({point for line in series.values() for point, _ in line})
    low, high = math.log2(points[0]), math.log2(points[-1])
    ceiling, steps = round_up(max(value for line in series.values() for _, value in line))

    def x(point):
        return left + (width - left - right) * ((math.log2(point) - low) / (high - low) if high > low else 0.5)

    def y(value):
        return height - bottom - (height - top - bottom) * value / ceiling

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
           f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
           f'<text x="{width / 2}" y="22" text-anchor="middle" font-size="14">{escape(title)}</text>']
    for step in range(steps + 1):
        value = ceiling * step / steps
        out.append(f'<line x1="{left}" y1="{y(value):.1f}" x2="{width - right}" y2="{y(value):.1f}" stroke="#dddddd"/>')
        out.append(f'<text x="{left - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value:g}</text>')
    for point in points:
        out.append(f'<text x="{x(point):.1f}" y="{height - bottom + 18}" text-anchor="middle">{short(point)}</text>')
    out.append(f'<text x="{(left + width - right) / 2}" y="{height - 12}" text-anchor="middle">{escape(x_label)}</text>')
    out.append(f'<text transform="translate(16 {(top + height - bottom) / 2}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>')
    for number, (label, line) in enumerate(sorted(series.items())):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{x(point):.1f},{y(value):.1f}" for point, value in line)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for point, value in line:
            out.append(f'<circle cx="{x(point):.1f}" cy="{y(value):.1f}" r="3" fill="{colour}"><title>{escape(label)}, {short(point)}: {value:.1f}</title></circle>')
        out.append(f'<text x="{left + 12}" y="{top + 14 + 16 * number}" fill="{colour}">{escape(label)}</text>')
    return "\n".join([*out, "</svg>"]) + "\n"


def draw_all(arguments):
    plots = [("throughput.svg", "concurrency", "output_throughput", "Throughput", "requests at once", "output tokens per second"),
             ("context.svg", "context", "median_tpot_ms", "Time per token", "tokens of context", "ms per output token, one stream")]
    drawn = 0
    for name, kind, key, title, x_label, y_label in plots:
        series = read_results(arguments.results, kind, key)
        if series:
            path = pathlib.Path(arguments.folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(draw(series, title, x_label, y_label))
            print(path)
            drawn += 1
    if drawn == 0:
        raise SystemExit(f"no results in {arguments.results}: run `measure` first")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    measuring = commands.add_parser("measure")
    measuring.add_argument("results")
    measuring.add_argument("--label", required=True)
    measuring.add_argument("--model", help="directory; weir serves it")
    measuring.add_argument("--url", help="instead: a server that runs")
    measuring.add_argument("--tokenizer", help="directory, with --url")
    measuring.add_argument("--concurrency", type=lambda text: [int(part) for part in text.split(",") if part], default=[1, 2, 4, 8, 16, 32, 64])
    measuring.add_argument("--contexts", type=lambda text: [count(part) for part in text.split(",") if part], default=[count(f"{1 << i}k") for i in range(7)])
    measuring.add_argument("--input", type=int, default=128)
    measuring.add_argument("--output", type=int, default=64)
    measuring.add_argument("--context-output", type=int, default=32, help="tokens timed at each context, its last ones")
    measuring.add_argument("--rounds", type=int, default=3)
    measuring.set_defaults(call=measure)
    picture = commands.add_parser("draw")
    picture.add_argument("results")
    picture.add_argument("folder")
    picture.set_defaults(call=draw_all)
    arguments = parser.parse_args()
    if arguments.call is measure and not arguments.model and not (arguments.url and arguments.tokenizer):
        parser.error("measure needs --model DIR, or --url URL and --tokenizer DIR")
    arguments.call(arguments)


if __name__ == "__main__":
    main()
