"""Charts of tables as Vega-Lite specifications, by Altair: one function for each kind of chart, named in the table ``CHARTS``. No torch.

Colours of text, axes and background are the page's business (``nas.reports.page``), which has them light and dark.
"""

from collections.abc import Callable
from typing import Any

import altair as alt

from nas.reports.parts import Figure

Chart = Any
"""A chart of whatever class: Altair says of most methods that they return anything."""
HEIGHT = 260
"""Of a chart in pixels; its width is the page's."""
LEGEND = alt.Legend(orient="top", direction="horizontal", columns=2, labelLimit=130, title=None)


def specification(figure: Figure) -> dict[str, Any]:
    """The figure as a Vega-Lite document that holds its data. Its table must not be empty."""
    chart = CHARTS[figure.chart](figure).properties(width="container", autosize=alt.AutoSizeParams(type="fit-x", contains="padding"))
    found: dict[str, Any] = chart.to_dict()
    del found["config"]  # the page's
    return found


def _base(figure: Figure) -> alt.Chart:
    return alt.Chart(alt.InlineData(values=figure.table.records()), height=HEIGHT)


def _text(figure: Figure, name: str, default: str = "") -> str:
    return str(figure.options.get(name, default))


def _tips(figure: Figure) -> list[alt.Tooltip]:
    """What hovering over a mark says: every column, numbers short."""
    return [
        alt.Tooltip(field=_field(name), type="quantitative", title=name, format=".5~g")
        if any(isinstance(row[place], float) for row in figure.table.rows)
        else alt.Tooltip(field=_field(name), type="nominal", title=name)
        for place, name in enumerate(figure.table.columns)
    ]


def _field(name: str) -> str:
    """A column's name as Vega reads it: it would take dots and brackets for a path."""
    return name.replace("\\", "\\\\").replace(".", "\\.").replace("[", "\\[").replace("]", "\\]")


def _y(figure: Figure, name: str) -> alt.Y:
    """A vertical axis that begins where the values do."""
    axis = alt.Axis(title=_text(figure, "y", figure.table.columns[1]), format=_text(figure, "format", ".4~g"))
    return alt.Y(field=_field(name), type="quantitative", scale=alt.Scale(zero=False, nice=True), axis=axis)


def _x(figure: Figure, name: str) -> alt.X:
    whole = _text(figure, "x format") == "d"
    scale = alt.Scale(zero=bool(figure.options.get("x zero", False)), nice=True)
    axis = alt.Axis(
        title=_text(figure, "x", name),
        format=_text(figure, "x format", ".4~g"),
        tickCount=6,
        tickMinStep=1 if whole else alt.Undefined,
        labelOverlap=True,
    )
    return alt.X(field=_field(name), type="quantitative", scale=scale, axis=axis)


def _colour(figure: Figure, name: str) -> alt.Color:
    """A colour for each series, in the order in which they come in the table."""
    at = figure.table.columns.index(name)
    order = list(dict.fromkeys(str(row[at]) for row in figure.table.rows))
    return alt.Color(
        field=_field(name), type="nominal", sort=order, scale=alt.Scale(domain=order), legend=LEGEND if len(order) > 1 else None
    )


def progress(figure: Figure) -> Chart:
    """Children as points and series as lines: columns x, y, series, trial. Series named in ``steps`` hold their value until the next."""
    columns = figure.table.columns
    x, y = _x(figure, columns[0]), _y(figure, columns[1])
    base = _base(figure).encode(x=x, y=y, color=_colour(figure, "series"), tooltip=_tips(figure))
    points, steps = (_names(figure, name) for name in ("points", "steps"))
    at = columns.index("series")
    dashed = [name for name in dict.fromkeys(str(row[at]) for row in figure.table.rows) if name not in (*points, *steps)]
    layers = [
        _only(base, points).mark_circle(size=28, opacity=0.45),
        _only(base, steps).mark_line(interpolate="step-after", strokeWidth=2.5),
    ]
    return alt.layer(*layers, *([_only(base, dashed).mark_line(strokeWidth=2, strokeDash=[5, 4])] if dashed else []))


def _only(chart: alt.Chart, series: list[str]) -> Chart:
    """The chart of some series alone."""
    return chart.transform_filter(alt.FieldOneOfPredicate(field="series", oneOf=series))


def _names(figure: Figure, option: str) -> list[str]:
    """An option that is several names."""
    value = figure.options.get(option)
    return [] if value is None or isinstance(value, str | int | float) else list(value)


def lines(figure: Figure) -> Chart:
    """A line for each series: columns x, y, series; with ``low`` and ``high`` a band around it."""
    columns = figure.table.columns
    base = _base(figure).encode(x=_x(figure, columns[0]), color=_colour(figure, "series"), tooltip=_tips(figure))
    layers = [base.mark_line(point=alt.OverlayMarkDef(size=22), strokeWidth=2).encode(y=_y(figure, columns[1]))]
    if "low" in columns:
        band = base.mark_area(opacity=0.18).encode(y=_y(figure, "low"), y2=alt.Y2("high"))
        layers.insert(0, band)
    return alt.layer(*layers)


def strips(figure: Figure) -> Chart:
    """Values of categories beside each other, spread sideways so that they can be told apart: columns category, value, series."""
    category, value = figure.table.columns[:2]
    return (
        _base(figure)
        .transform_calculate(spread="sqrt(-2*log(random()))*cos(2*PI*random())")
        .mark_circle(size=42, opacity=0.65)
        .encode(
            x=alt.X(field=_field(category), type="nominal", axis=alt.Axis(title=_text(figure, "x", category), labelAngle=0), sort=None),
            xOffset=alt.XOffset("spread:Q", scale=alt.Scale(domain=[-3.5, 3.5])),
            y=_y(figure, value),
            color=_colour(figure, "series"),
            tooltip=_tips(figure),
        )
    )


def bars(figure: Figure) -> Chart:
    """A bar for each category, in parts by series: columns category, value, series."""
    category, value = figure.table.columns[:2]
    order = list(dict.fromkeys(str(row[0]) for row in figure.table.rows))
    axis = alt.Axis(title=_text(figure, "y", value), format=_text(figure, "format", "~s"), tickCount=6)
    return (
        _base(figure)
        .mark_bar()
        .encode(
            y=alt.Y(field=_field(category), type="nominal", sort=order, axis=alt.Axis(title=None, labelLimit=150)),
            x=alt.X(field=_field(value), type="quantitative", axis=axis),
            color=_colour(figure, "series"),
            tooltip=_tips(figure),
        )
        .properties(height=26 * len(order))
    )


def against(figure: Figure) -> Chart:
    """Shares as bars beside what chance has, with its 95 % range: columns name, share, chance, low, high."""
    name = figure.table.columns[0]
    order = list(dict.fromkeys(str(row[0]) for row in figure.table.rows))
    base = _base(figure).encode(
        y=alt.Y(field=_field(name), type="nominal", sort=order, axis=alt.Axis(title=None, labelLimit=150)), tooltip=_tips(figure)
    )
    axis = alt.Axis(title=_text(figure, "y", "share"), format="~%", tickCount=6)
    return alt.layer(
        base.mark_bar(opacity=0.85).encode(x=alt.X("share:Q", axis=axis)),
        base.mark_rule(strokeWidth=2, color="#d55e00").encode(x="low:Q", x2="high:Q"),
        base.mark_tick(thickness=3, size=14, color="#d55e00").encode(x="chance:Q"),
    ).properties(height=22 * len(order))


def scatter(figure: Figure) -> Chart:
    """Points: columns x, y, series; those where ``front`` is true are joined by a line, ``low`` and ``high`` are an interval of y."""
    columns = figure.table.columns
    base = _base(figure).encode(x=_x(figure, columns[0]), y=_y(figure, columns[1]), tooltip=_tips(figure))
    layers = [base.mark_circle(size=55, opacity=0.75).encode(color=_colour(figure, "series"))]
    if "low" in columns:
        rule = base.mark_rule(opacity=0.4).encode(y=_y(figure, "low"), y2=alt.Y2("high"), color=_colour(figure, "series"))
        layers.insert(0, rule)
    if any(record.get("front") for record in figure.table.records()):
        on = base.transform_filter("datum.front").mark_line(interpolate="step-after", strokeWidth=1.5, strokeDash=[5, 4], color="gray")
        layers.insert(0, on)
    if figure.options.get("names"):
        text = base.mark_text(align="left", dx=7, dy=-6, fontSize=11).encode(text=alt.Text(field="series", type="nominal"))
        layers.append(text.encode(color=_colour(figure, "series")))
    return alt.layer(*layers)


def heat(figure: Figure) -> Chart:
    """Shares as shades: columns x, y, value; with the option ``choose`` a menu chooses the rows of one value of that column."""
    columns = figure.table.columns
    order = list(dict.fromkeys(str(row[1]) for row in figure.table.rows))
    across = list(dict.fromkeys(str(row[0]) for row in figure.table.rows))
    few = len(across) <= 30
    chart = (
        _base(figure)
        .mark_rect()
        .encode(
            x=alt.X(
                field=_field(columns[0]),
                type="ordinal",
                sort=across,
                axis=alt.Axis(title=_text(figure, "x", columns[0]), labels=few, labelAngle=-45),
            ),
            y=alt.Y(
                field=_field(columns[1]),
                type="nominal",
                sort=order,
                axis=alt.Axis(title=_text(figure, "y") or None, labelLimit=140, labels=len(order) <= 80),
            ),
            color=alt.Color(
                field=_field(columns[2]),
                type="quantitative",
                scale=alt.Scale(scheme="viridis", domainMin=0),
                legend=alt.Legend(title=columns[2], orient="top", format="~%", gradientLength=160),
            ),
            tooltip=_tips(figure),
        )
    )
    if not (choose := _text(figure, "choose")):
        return chart.properties(height=len(order) * (18 if len(order) <= 60 else 7))
    at = columns.index(choose)
    values = list(dict.fromkeys(str(row[at]) for row in figure.table.rows))
    first = _text(figure, "first", values[0])
    chosen = alt.selection_point(
        fields=[choose], bind=alt.binding_select(options=values, name=f"{choose}: "), value=[{choose: first}], name="chosen"
    )
    return chart.add_params(chosen).transform_filter(chosen).properties(height=HEIGHT)


def chosen_line(figure: Figure) -> Chart:
    """A line of the one series that a menu chooses: columns x, y, series."""
    columns = figure.table.columns
    values = list(dict.fromkeys(str(row[2]) for row in figure.table.rows))
    chosen = alt.selection_point(
        fields=["series"],
        bind=alt.binding_select(options=values, name="shown: "),
        value=[{"series": _text(figure, "first", values[0])}],
        name="chosen",
    )
    chart = (
        _base(figure)
        .mark_line(point=alt.OverlayMarkDef(size=22))
        .encode(x=_x(figure, columns[0]), y=_y(figure, columns[1]), tooltip=_tips(figure))
    )
    return chart.add_params(chosen).transform_filter(chosen)


def lanes(figure: Figure) -> Chart:
    """What was done when: columns start, end, lane, series."""
    start, end, lane = figure.table.columns[:3]
    return (
        _base(figure)
        .mark_bar(height=alt.RelativeBandSize(0.8), stroke="white", strokeWidth=0.4)
        .encode(
            x=_x(figure, start),
            x2=alt.X2(field=_field(end)),
            y=alt.Y(field=_field(lane), type="ordinal", axis=alt.Axis(title=_text(figure, "y", lane))),
            color=_colour(figure, "series"),
            tooltip=_tips(figure),
        )
        .properties(height=22 * len({row[2] for row in figure.table.rows}))
    )


CHARTS: dict[str, Callable[[Figure], Any]] = {
    "against": against,
    "bars": bars,
    "chosen line": chosen_line,
    "heat": heat,
    "lanes": lanes,
    "lines": lines,
    "progress": progress,
    "scatter": scatter,
    "strips": strips,
}
