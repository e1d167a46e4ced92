"""What MkDocs does beside its plugins: see ``mkdocs.yml``.

- Pictures of measurements, CONTRIBUTING and CHANGELOG, which are outside docs/, become files of the site.
- ``<!-- commands -->`` becomes the reference of the command line, from its own parsers.
- ``<!-- functions -->`` becomes that of the functions under the verbs, likewise.
- Every room of the package that exports something gets a page, which mkdocstrings fills from the docstrings.
- The comments that say where a number comes from stay out of the site.
"""

import re
import subprocess
import sys
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
import fairseq_layerdrop  # noqa: E402  (light)

PACKAGE = ROOT / "fairseq_layerdrop"
COMMANDS = ROOT / "scripts/docs/commands.py"
PICTURES = [str(path.relative_to(ROOT)) for name in ("configs", "scripts") for path in (ROOT / name).rglob("*.png")]
# What is outside docs/, and what it is called in the site.
OUTSIDE = {
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    **{path: f"measured/{path}" for path in PICTURES},
}
# As a page of mkdocstrings wants it.
FUNCTION = "::: fairseq_layerdrop.{}.{}\n    options: {{ show_root_heading: true, heading_level: 3 }}\n"
LINK = re.compile(r"(\]\()(?:\.\./)*(" + "|".join(map(re.escape, OUTSIDE)) + r")(?=[)#])")


def rooms() -> list[str]:
    """Names of the rooms that export something."""
    return sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py") if "__all__" in path.read_text())


def on_config(config):
    """Put the rooms' pages behind that of the Python interface."""
    [reference] = [section["Reference"] for section in config.nav if "Reference" in section]
    [python] = [entry for entry in reference if "Python" in entry]
    python["Python"] = [python["Python"], *(f"reference/rooms/{room}.md" for room in rooms())]
    return config


def on_files(files, config):
    """Add what is outside docs/, and the rooms' pages."""
    for path, uri in OUTSIDE.items():
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / path)))
    for room in rooms():
        text = f"# {room}\n\n::: fairseq_layerdrop.{room}\n"
        files.append(File.generated(config, f"reference/rooms/{room}.md", content=text))
    return files


def on_page_content(html, page, config, files):
    """Show Sphinx's roles, of which the docstrings are full, as code."""
    return re.sub(r":\w+:<code>~?\.*(.*?)</code>", r"<code>\1</code>", html)


def on_page_markdown(markdown, page, config, files):
    """Fit a page to the site."""
    if page.file.src_uri in OUTSIDE.values():
        markdown = re.sub(r"(\]\()docs/", r"\1", markdown)
    else:
        markdown = re.sub(r"<!--= .*? -->|<!-- \[\[\[(cog.*?\]\]\]|end\]\]\]) -->", "", markdown, flags=re.DOTALL)
    up = "../" * page.file.src_uri.count("/")
    markdown = LINK.sub(lambda match: f"{match[1]}{up}{OUTSIDE[match[2]]}", markdown)
    if "<!-- commands -->" in markdown:  # in a process of its own: what the commands import sets up logging
        written = subprocess.run([sys.executable, COMMANDS], cwd=ROOT, capture_output=True, text=True, check=True)
        markdown = markdown.replace("<!-- commands -->", written.stdout)
    if "<!-- functions -->" in markdown:
        own = {name: module for name, module in fairseq_layerdrop._MODULES.items() if not name.startswith("LayerDrop")}
        functions = (FUNCTION.format(module, name) for name, module in own.items())
        markdown = markdown.replace("<!-- functions -->", "\n".join(functions))
    return markdown
