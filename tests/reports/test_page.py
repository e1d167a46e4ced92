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
          spoken: slider.getAttribute("aria-valuetext"),
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
        assert chosen["limit"] == chosen["spoken"] == f"{most} {COSTS[cost].unit}"
        assert {key: chosen[key] for key in ("use", "export")} == commands(TWO_MODELS, wanted)
    assert got["chosen"][0]["rows"] != got["chosen"][1]["rows"]
    clicked = TWO_MODELS.points[1]
    assert got["hover"].startswith(f"a {clicked.prune_layers}: BLEU 29, latency 30 ms a sentence")
    assert got["copied"] == commands(TWO_MODELS, clicked)["use"] and got["status"] == f"copied: {got['copied']}"


@NEEDS_BROWSER
def test_without_a_mouse(text, tmp_path):
    """Marks are buttons with a description, which Enter and the space bar press; what was done is told as it is."""
    script = """<script>
    const byId = id => document.getElementById(id), marks = [...document.querySelectorAll("#chart .point")];
    const wait = () => new Promise(resolve => setTimeout(resolve, 50));
    const press = async (number, key) => {
      marks[number].focus();
      const event = new KeyboardEvent("keydown", {key, cancelable: true});
      marks[number].dispatchEvent(event);
      await wait();
      return {key, copied: byId("copied").textContent, told: byId("told").textContent, scrolls: !event.defaultPrevented,
        focused: document.activeElement === marks[number]};
    };
    (async () => {
      const role = one => one.getAttribute("role");
      const got = {
        chart: role(byId("chart")), live: ["told", "choice", "copied"].map(id => role(byId(id))),
        marks: marks.map(mark => [role(mark), mark.getAttribute("tabindex"), mark.getAttribute("aria-label")]),
        legend: [...byId("legend").children].map(item => [
          item.textContent, getComputedStyle(item).color, getComputedStyle(item.firstChild).color]),
        presses: [],
      };
      navigator.clipboard.writeText = async () => {};
      for (const [number, key] of [[0, "Enter"], [1, " "], [2, "x"]]) got.presses.push(await press(number, key));
      navigator.clipboard.writeText = async () => { throw new Error("refused"); };
      for (const done of [true, false]) {
        document.execCommand = () => done;
        got.presses.push(await press(3, "Enter"));
      }
      got.errors = window.errors;
      const left = document.createElement("pre");
      left.id = "told-to-test";
      left.textContent = JSON.stringify(got);
      document.body.append(left);
    })();
    </script>"""
    got = told(opened(text, tmp_path, script))
    uses = [commands(TWO_MODELS, one)["use"] for one in TWO_MODELS.points]
    assert got["errors"] == [] and got["chart"] == "group" and got["live"] == ["status"] * 3
    assert len(got["marks"]) == len(uses)
    for (role, tabindex, label), one in zip(got["marks"], TWO_MODELS.points, strict=True):
        assert (role, tabindex) == ("button", "0")
        assert label.startswith(f"{one.model} {one.prune_layers or 'whole'}: BLEU {one.quality['BLEU']:g}, latency ")
    (a, black, blue), (b, _, red) = got["legend"]
    assert (a, b, black, blue, red) == ("● a", "● b", "rgb(26, 26, 26)", "rgb(0, 114, 178)", "rgb(213, 94, 0)")
    enter, space, other, selected, refused = got["presses"]
    assert enter["copied"] == f"copied: {uses[0]}" and space["copied"] == other["copied"] == f"copied: {uses[1]}"
    assert [one["scrolls"] for one in (enter, space, other)] == [False, False, True]
    assert other["told"] == got["marks"][2][2]
    assert selected["copied"] == f"copied: {uses[3]}" and selected["focused"]
    assert refused["copied"] == f"the browser copies nothing; the command is: {uses[3]}"


def test_pictures():
    """The same sweep gives the same pictures; a heat map is there where both depths vary."""
    figures = draw_all(TWO_MODELS)
    assert list(figures) == ["depths", "pareto"] and draw_grid(TWO_MODELS) is None
    curve = figures["depths"].axes[0].lines[0]
    assert list(curve.get_xdata()) == [2, 4, 6] and list(curve.get_ydata()) == [20, 29, 30]
    assert figures["pareto"].axes[0].get_xlabel() == "latency (ms a sentence)"
    assert encoded(figures["depths"], "svg") == encoded(draw_all(TWO_MODELS)["depths"], "svg")
    grid = sweep(*(point(layers=(e, d), bleu=e + d) for e in (2, 4, 6) for d in (3, 6)))
    image = draw_grid(grid).axes[0].images[0].get_array().tolist()
    assert image == [[5, 8], [7, 10], [9, 12]]
