"""A directory as a page that a person can browse: directories first, sizes, dates."""

import html
import time
import urllib.parse

from core.quantities import size
from isomirror.served import Catalogue

HEAD = (
    "<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>"
    "<style>body{{font:14px/1.5 monospace}}td{{padding-right:2em}}td.n{{text-align:right}}</style>"
    "<h1>{title}</h1><table>"
)


def page(catalogue: Catalogue, path: str) -> str:
    """The page of directory ``path``, which must be one of the catalogue's."""
    names = catalogue.directories[path]
    rows = [_row("../", "", "")] if path != "/" else []
    for name in sorted(names, key=lambda name: (not name.endswith("/"), name.lower(), name)):
        entry = catalogue.files.get(path + name)
        when = time.strftime("%Y-%m-%d %H:%M", time.gmtime(entry.modified)) if entry else ""
        rows.append(_row(name, when, size(entry.size) if entry else ""))
    return HEAD.format(title=html.escape(path)) + "".join(rows) + "</table></html>\n"


def _row(name: str, when: str, size: str) -> str:
    link = html.escape(urllib.parse.quote(name))
    shown = html.escape(name)
    return f'<tr><td><a href="{link}">{shown}</a><td>{when}<td class=n>{size}\n'
