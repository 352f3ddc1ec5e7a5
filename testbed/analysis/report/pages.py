"""What all pages share: the templates, tables and formulas in them, and figures as pictures.

A page is one HTML file that works without a network. Everything in it is escaped but our own scripts and formulas.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import vl_convert
from jinja2 import Environment, PackageLoader, select_autoescape
from latex2mathml.converter import convert as mathml
from markupsafe import Markup

from testbed.analysis.laws import Law
from testbed.analysis.report.study.tables import TextTable
from testbed.analysis.report.style import in_script

_PNG_SCALE = 2
PICTURES: Mapping[str, Callable[[str], bytes]] = {
    ".svg": lambda svg: svg.encode(),
    ".png": lambda svg: bytes(vl_convert.svg_to_png(svg, scale=_PNG_SCALE)),
    ".pdf": lambda svg: bytes(vl_convert.svg_to_pdf(svg)),
}


def pictures(chart: dict[str, Any], *endings: str) -> dict[str, bytes]:
    """A vega-lite specification as pictures, by ending: .svg, .png or .pdf."""
    svg = vl_convert.vegalite_to_svg(chart)
    return {ending: PICTURES[ending](svg) for ending in endings}


@cache
def _library() -> str:
    """Vega with what it needs, as one script: bundling it takes seconds."""
    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))


def page_html(template: str, charts: dict[str, Any], **text: Any) -> str:
    """The page of a template in this folder, with vega-lite specifications by name and the texts that it asks for."""
    environment = Environment(
        loader=PackageLoader("testbed.analysis.report", "."), autoescape=select_autoescape(["j2"])
    )
    return environment.get_template(template).render(
        **text,
        library=_library(),
        specifications=in_script(charts),
    )


def formula(law: Law) -> Markup:
    """A law's formula as MathML."""
    return Markup(mathml(law.formula))  # noqa: S704


def shown(table: TextTable) -> dict[str, Any]:
    """A table for a template, which sets the columns of numbers flush right."""
    numeric = [
        all(not row[i] or row[i].lstrip("+-")[:1].isdigit() for row in table.rows)
        and " to " not in "".join(r[i] for r in table.rows)
        for i in range(len(table.titles))
    ]
    return {"titles": table.titles, "rows": table.rows, "numeric": numeric}
