"""bench/plots.py: measures a small server, and draws what Browsers can show from what was measured."""
import importlib.util
import json
import subprocess
import sys
from xml.etree import ElementTree

import pytest
from weir_server import MODEL, ROOT

SVG = "{http://www.w3.org/2000/svg}"
sys.path.insert(0, str(ROOT / "bench"))
spec = importlib.util.spec_from_file_location("plots", ROOT / "bench" / "plots.py")
plots = importlib.util.module_from_spec(spec)
spec.loader.exec_module(plots)


def test_measures_and_draws(tmp_path):
    results, docs = tmp_path / "results", tmp_path / "docs"
    script = [sys.executable, str(ROOT / "bench" / "plots.py")]
    subprocess.run([*script, "measure", results, "--label", "weir <tiny>", "--model", MODEL, "--concurrency", "1,2", "--contexts", "64,128,1024k", "--input",
                    "16", "--output", "4", "--context-output", "4", "--rounds", "1"], check=True, timeout=240)
    assert len(list(results.iterdir())) == 4, "what does not fit the model's context is left out"
    subprocess.run([*script, "draw", results, docs], check=True)
    for name, points in (("throughput.svg", {"1", "2"}), ("context.svg", {"64", "128"})):
        root = ElementTree.parse(docs / name).getroot()
        texts = {element.text for element in root.iter(f"{SVG}text")}
        assert points <= texts and "weir <tiny>" in texts
        assert len(list(root.iter(f"{SVG}polyline"))) == 1 and len(list(root.iter(f"{SVG}circle"))) == 2


def test_points_are_medians_and_labels_are_lines(tmp_path):
    for i, (label, point, value) in enumerate([("a", 1, 5), ("a", 1, 9), ("a", 1, 6), ("a", 64, 50), ("b", 8, 40)]):
        (tmp_path / f"{i}.json").write_text(json.dumps({"plot_label": label, "plot_kind": "concurrency", "plot_point": str(point), "completed": 3,
                                                        "output_throughput": value}))
    (tmp_path / "failed.json").write_text(json.dumps({"plot_label": "a", "plot_kind": "concurrency", "plot_point": "2", "completed": 0}))
    assert plots.read_results(tmp_path, "concurrency", "output_throughput") == {"a": [(1, 6), (64, 50)], "b": [(8, 40)]}
    with pytest.raises(SystemExit, match="run `measure` first"):
        plots.draw_all(type("Arguments", (), {"results": str(tmp_path / "nothing"), "folder": str(tmp_path)}))


def test_axes_end_at_round_numbers():
    assert [plots.round_up(value)[0] for value in (1, 1.1, 2.2, 3, 7, 99, 101, 0.03)] == [1, 2, 2.5, 5, 10, 100, 200, pytest.approx(0.05)]
    assert [plots.short(value) for value in (1, 64, 1024, 65536, 1500)] == ["1", "64", "1k", "64k", "1500"]
    assert [plots.count(text) for text in ("64", "1k", "64K")] == [64, 1024, 65536]
