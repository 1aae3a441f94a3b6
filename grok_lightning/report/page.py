"""The report as one self-contained HTML file."""

import base64
import re
from html import escape
from pathlib import Path
from urllib.parse import unquote

import markdown

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ddd; padding-bottom: .2rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .85rem; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid #ddd; vertical-align: top; white-space: nowrap; }
th { text-align: left; background: #f6f6f6; white-space: normal; } img { max-width: 100%; height: auto; }
pre { background: #f6f6f6; padding: .6rem; overflow-x: auto; }
@media (prefers-color-scheme: dark) { body, img { background: #fff; } }
"""


def page(text: str, folder: Path, title: str) -> str:
    """Markdown as HTML with its images inside.

    Args:
        text: The Markdown.
        folder: Where its images lie.
        title: The document's title.
    """
    body = markdown.markdown(text, extensions=["tables", "sane_lists"])
    body = re.sub(r'src="([^":]+\.png)"', lambda found: f'src="{_embed(folder / unquote(found[1]))}"', body)
    body = body.replace("<table>", '<div class="wide"><table>').replace("</table>", "</table></div>")
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}<style>{STYLE}</style></head><body>\n{body}\n</body></html>\n'


def _embed(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
