"""Lays a report out as one HTML file that needs no network: its charts' library, its data and its pictures are inside. No torch.

Every text that came from a file goes through Jinja's escaping, or into JSON in which no ``<`` stands; and the page forbids
itself all loading (Content-Security-Policy), evaluation of text as code included: Vega's expressions are interpreted.
"""

import json
from base64 import b64encode
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from nas.reports.charts import specification
from nas.reports.parts import Figure, Listing, Picture, Report, Section, Table, Value
from nas.tools.files import write_atomically
from search_spaces.genotype import Genotype

SHOWN = 30
"""Rows of a table that a page shows; its CSV has all of them."""
_INK = {"light": "#24292f", "dark": "#e6edf3"}
_LINE = {"light": "#d0d7de", "dark": "#3d444d"}
_COLOURS = {
    "light": ["#0072b2", "#d55e00", "#009e73", "#aa3377", "#8a6d00", "#3f4fb5", "#00798c", "#777777"],
    "dark": ["#56b4e9", "#ff9b55", "#3ccf9e", "#e583b6", "#e6c84f", "#9aa5ff", "#5cc8d8", "#b0b0b0"],
}
"""Colours of series that the colour-blind can tell apart, as far as eight can be."""


def page(report: Report) -> str:
    """The report as the text of an HTML document."""
    charts: list[dict[str, Any]] = []
    sections = [_section(section, charts) for section in report.sections]
    themes = {theme: _theme(theme) for theme in ("light", "dark")}
    return _template().render(
        report=report, sections=sections, charts=_json(charts), themes=_json(themes), library=_library() if charts else "", shown=SHOWN
    )


def write_page(report: Report, path: str | Path) -> None:
    """Write the page. Raises OSError where that cannot be done."""
    write_atomically(Path(path), page(report))


def _section(section: Section, charts: list[dict[str, Any]]) -> dict[str, Any]:
    """What the template needs of a section; the specifications of its charts are added to ``charts``."""
    return {
        "section": section,
        "id": _name(section.title),
        "figures": [_figure(figure, charts) for figure in section.figures if figure.table.rows],
        "listings": [_listing(listing) for listing in section.listings if listing.table.rows],
        "pictures": [_picture(picture) for picture in section.pictures],
    }


def _figure(figure: Figure, charts: list[dict[str, Any]]) -> dict[str, Any]:
    charts.append(specification(figure))
    return {"figure": figure, "id": f"chart-{len(charts) - 1}", "table": _table(figure.table, _name(figure.title))}


def _listing(listing: Listing) -> dict[str, Any]:
    return {"listing": listing, "table": _table(listing.table, _name(listing.title))}


def _picture(picture: Picture) -> dict[str, Any]:
    return {"picture": picture, "drawn": _cells(picture.genotype)}


def _cells(genotype: Genotype) -> str:
    """The cells as an ``<svg>`` element, light or dark as the page is; hovering says what a line or a box is."""
    from nas.networks.drawing.draw import genotype_svg

    return genotype_svg(genotype, theme="auto")


def _table(table: Table, name: str) -> dict[str, Any]:
    """What the template needs of a table: its first rows as texts, and all of it as a link that holds a CSV file."""
    encoded = b64encode(table.csv().encode()).decode()
    return {
        "columns": table.columns,
        "rows": [[_shown(value) for value in row] for row in table.rows[:SHOWN]],
        "numbers": [any(isinstance(row[i], int | float) for row in table.rows[:SHOWN]) for i in range(len(table.columns))],
        "count": len(table.rows),
        "file": f"{name}.csv",
        "csv": f"data:text/csv;charset=utf-8;base64,{encoded}",
    }


def _shown(value: Value) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10_000 else str(value)


def _name(title: str) -> str:
    """A title as a file's name or an anchor."""
    return "-".join("".join(letter if letter.isalnum() else " " for letter in title.lower()).split())


def _json(document: object) -> str:
    """JSON that ends no ``<script>`` element and begins no comment, whatever texts are in it."""
    text = json.dumps(document, allow_nan=False, separators=(",", ":"))
    return (
        text.replace("<", "\\u003c")
        .replace(">", "\\u003e")
        .replace("&", "\\u0026")
        .replace("\u2028", "\\u2028")
        .replace("\u2029", "\\u2029")
    )


def _theme(theme: str) -> dict[str, Any]:
    """Vega-Lite's configuration for a light or a dark page."""
    ink, line, font = _INK[theme], _LINE[theme], "system-ui, sans-serif"
    text = {"labelColor": ink, "titleColor": ink, "labelFont": font, "titleFont": font, "labelFontSize": 12, "titleFontSize": 12}
    return {
        "background": "transparent",
        "axis": {**text, "titleFontWeight": "normal", "gridColor": line, "domainColor": line, "tickColor": line, "gridOpacity": 0.6},
        "legend": text,
        "view": {"stroke": "transparent"},
        "range": {"category": _COLOURS[theme]},
        "mark": {"color": _COLOURS[theme][0]},
        "text": {"fill": ink, "font": font},
    }


@cache
def _library() -> str:
    """Vega, Vega-Lite and vega-embed as one script, of the version whose documents Altair writes; it ends no ``<script>`` element."""
    import altair
    import vl_convert

    version = "_".join(altair.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    library = vl_convert.javascript_bundle(vl_version=version)  # type: ignore[call-arg]  # the snippet need not be given
    return library.replace("</script", "<\\/script").replace("<!--", "<\\!--")


@cache
def _template() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    return jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True).get_template("page.html")
