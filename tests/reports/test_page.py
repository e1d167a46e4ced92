"""The page of a report, in headless Chromium where there is one."""

import html
import json
import re
import shutil
import subprocess

import pytest

from fairseq_layerdrop.reports.choice import COSTS, Bounds, best, commands
from fairseq_layerdrop.reports.drawing import encoded
from fairseq_layerdrop.reports.page import page
from fairseq_layerdrop.reports.sweep_pictures import draw_all, draw_grid
from tests.reports.sweeps import TWO_MODELS, point, sweep

BROWSER = next(filter(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome")), None)
NEEDS_BROWSER = pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here")
WATCH = """<script>
window.errors = [];
window.onerror = message => { window.errors.push(message); };
console.error = (...words) => { window.errors.push(words.join(" ")); };
</script>"""


@pytest.fixture(scope="module")
def text():
    return page(TWO_MODELS, "What <pruning> costs")


def opened(text: str, folder, script: str = "") -> str:
    """The page as Chromium has it after running a script in it."""
    path = folder / "page.html"
    path.write_text(text.replace("<head>", f"<head>{WATCH}").replace("</body>", f"{script}</body>"))
    done = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000",
         f"--user-data-dir={folder / 'profile'}", "--dump-dom", path.as_uri()],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def told(text: str) -> dict:
    """What a script left in the page for us."""
    return json.loads(html.unescape(re.search(r'<pre id="told-to-test">(.*?)</pre>', text, re.DOTALL)[1]))


def test_needs_no_network_and_no_script(text):
    """Everything is in the page: all points in a table, all pictures, how it was measured."""
    assert re.findall(r'(?:src|href)="(?!data:)', text) == [] and "http" not in re.sub(
        "http://www.w3.org/2000/svg", "", text
    )
    rows = re.findall(r"<tr><td>.*</tr>", text)
    assert len(rows) == len(TWO_MODELS.points)
    for row, one in zip(rows, TWO_MODELS.points, strict=True):
        cells = re.findall(r"<td>(.*?)</td>", row)
        assert cells[:4] == [
            one.model, one.prune_layers or "whole", f"{one.quality['BLEU']:.2f}", f"{one.quality['loss']:.2f}",
        ]  # fmt: skip
        assert cells[4:-1] == [f"{cost.of(one):.4g}" for cost in COSTS.values()]
    assert text.count("data:image/svg+xml;base64,") == 2
    assert "What &lt;pruning&gt; costs" in text and "a &lt;machine&gt;" in text and "<machine>" not in text
    assert "data-bin, valid, all sentences that fit the model<" in text
    assert text.index('id="interactive" hidden') < text.index("<h2>All points")  # scripts show it


def test_a_name_cannot_end_the_script():
    text = page(sweep(point("</script><b>")), "x")
    assert text.count("</script>") == 2 and "<b>" not in text


@NEEDS_BROWSER
def test_slider_and_copied_command(text, tmp_path):
    script = """<script>
    const got = {errors: window.errors, hidden: document.getElementById("interactive").hidden, chosen: []};
    navigator.clipboard.writeText = async words => { got.copied = words; };
    const slider = document.getElementById("budget");
    for (const cost of ["latency", "params"]) {
      const choice = document.getElementById("cost");
      choice.value = cost;
      choice.dispatchEvent(new Event("change"));
      for (const value of [1000, 500, 0]) {
        slider.value = value;
        slider.dispatchEvent(new Event("input"));
        const rows = [...document.querySelectorAll("tbody tr")];
        got.chosen.push({
          rows: rows.flatMap((row, number) => row.classList.contains("chosen") ? [number] : []),
          limit: document.getElementById("limit").textContent,
          use: document.getElementById("use").textContent,
          export: document.getElementById("export").textContent,
        });
      }
    }
    const mark = document.querySelectorAll("#chart .point")[1];
    mark.dispatchEvent(new Event("mouseenter"));
    got.hover = document.getElementById("told").textContent;
    mark.dispatchEvent(new Event("click"));
    setTimeout(() => {
      got.status = document.getElementById("copied").textContent;
      const left = document.createElement("pre");
      left.id = "told-to-test";
      left.textContent = JSON.stringify(got);
      document.body.append(left);
    }, 100);
    </script>"""
    got = told(opened(text, tmp_path, script))
    assert got["errors"] == [] and got["hidden"] is False
    limits = [("latency", 40), ("latency", 30), ("latency", 20), ("params", 60), ("params", 50), ("params", 40)]
    for (cost, most), chosen in zip(limits, got["chosen"], strict=True):
        wanted = best(TWO_MODELS.points, Bounds({cost: most}, {}))
        assert chosen["rows"] == [TWO_MODELS.points.index(wanted)]
        assert chosen["limit"] == f"{most} {COSTS[cost].unit}"
        assert {key: chosen[key] for key in ("use", "export")} == commands(TWO_MODELS, wanted)
    assert got["chosen"][0]["rows"] != got["chosen"][1]["rows"]
    clicked = TWO_MODELS.points[1]
    assert got["hover"].startswith(f"a {clicked.prune_layers}: BLEU 29, latency 30 ms a sentence")
    assert got["copied"] == commands(TWO_MODELS, clicked)["use"] and got["status"] == f"copied: {got['copied']}"


def test_pictures():
    """The same sweep gives the same pictures; a heat map is there where both depths vary."""
    figures = draw_all(TWO_MODELS)
    assert list(figures) == ["depths", "pareto"] and draw_grid(TWO_MODELS) is None
    curve = figures["depths"].axes[0].lines[0]
    assert list(curve.get_xdata()) == [8, 10, 12] and list(curve.get_ydata()) == [20, 29, 30]
    assert figures["pareto"].axes[0].get_xlabel() == "latency (ms a sentence)"
    assert encoded(figures["depths"], "svg") == encoded(draw_all(TWO_MODELS)["depths"], "svg")
    grid = sweep(*(point(layers=(e, d), bleu=e + d) for e in (2, 4, 6) for d in (3, 6)))
    image = draw_grid(grid).axes[0].images[0].get_array().tolist()
    assert image == [[5, 8], [7, 10], [9, 12]]
