"""Pictures are readable by measurement: no label leaves its box, no box touches another, no line runs through a box."""

import functools
import itertools
import random
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from nas.errors import UserError
from nas.networks.drawing.cells import _Panel, genotype_figure
from nas.networks.drawing.dot import to_dot
from nas.networks.drawing.draw import draw_genotype, draw_skeleton, genotype_svg, skeleton_svg
from nas.networks.drawing.layered import lay_out, state_layers
from nas.networks.drawing.networks import Skip, network_parts, skeleton_figure
from nas.tools.pictures import DARK, LIGHT
from search_spaces.genotype import STATE_NAMES, CellGenotype, Edge, Genotype, Node, Provenance
from search_spaces.nasnet import NASNET
from search_spaces.reference import load_reference, reference_names
from search_spaces.skeletons import load_skeleton
from search_spaces.space import sample_actions
from search_spaces.vocabulary import OPERATION_OPTIONS

NASTY = 'a "name" \\ $x_1^2$ <b>& {; }'


BENCH = Genotype(CellGenotype((Node((Edge(0, "conv_3x3"),)), Node((Edge(0, "identity"), Edge(1, "avg_pool_3x3")))), (2,), inputs=1))


def searched(seed):
    return NASNET.decode(sample_actions(NASNET, random.Random(seed)))


def wild(seed, nodes):
    """A cell of any number of edges, options, dead nodes, inputs as outputs."""
    rng = random.Random(seed)
    made = []
    for i in range(nodes):
        edges = []
        for _ in range(rng.randint(1, 4)):
            operation = rng.choice(list(OPERATION_OPTIONS))
            options = tuple((key, rule.default) for key, rule in OPERATION_OPTIONS[operation].items() if rng.random() < 0.7)
            edges.append(Edge(rng.randrange(2 + i), operation, options))
        made.append(Node(tuple(edges), rng.choice(("add", "concat"))))
    outputs = rng.sample(range(2 + nodes), rng.randint(1, min(4, nodes + 2)))
    return Genotype(CellGenotype(tuple(made), tuple(outputs)), name=NASTY)


SAMPLES = {
    **{name: load_reference(name) for name in ("nasnet-a", "amoebanet-a", "pnasnet-5", "darts-v2", "enas-micro", "resnext-32x4d")},
    **{f"searched {seed}": searched(seed) for seed in range(4)},
    **{f"wild {seed}": wild(seed, nodes) for seed, nodes in enumerate((1, 4, 5, 12))},
}


@functools.cache
def panels(name):
    return [_Panel.of(cell_name, cell) for cell_name, cell in SAMPLES[name].cells()]


@functools.cache
def rendered(name):
    """The figure, and the extent of every text in it, in pixels."""
    figure = genotype_figure(SAMPLES[name])
    return figure, extents(figure)


def extents(figure):
    renderer = FigureCanvasAgg(figure).get_renderer()
    texts = [text for axes in figure.axes for text in axes.texts] + list(figure.texts)
    return [(text, text.get_window_extent(renderer)) for text in texts if text.get_text()]


def boxes(panel):
    """Left, right, bottom, top of every state's box."""
    own = {state: level for level, layer in reversed(list(enumerate(panel.layout.layers))) for state, _ in layer}
    result = {}
    for state, level in own.items():
        x, half = panel.layout.x[state, level], sum(panel.widths[state]) / 2
        result[state] = (x - half, x + half, panel.bottoms[level], panel.bottoms[level] + panel._box_height(state))
    return result


def points(route):
    """Points along a line: its straight piece, then its Bézier curve."""
    start, *control = np.array(route)
    t = np.linspace(0, 1, 200)[:, None]
    a, b, c, d = control
    curve = (1 - t) ** 3 * a + 3 * (1 - t) ** 2 * t * b + 3 * (1 - t) * t**2 * c + t**3 * d
    return np.concatenate([start + t * (a - start), curve])


@pytest.mark.parametrize("name", SAMPLES)
def test_boxes_keep_their_distance(name):
    for panel in panels(name):
        placed = sorted(boxes(panel).items())
        for i, (_, (left, right, bottom, top)) in enumerate(placed):
            assert panel.left <= left and right <= panel.left + panel.width
            for _, (other_left, other_right, other_bottom, other_top) in placed[i + 1 :]:
                assert right + 0.15 < other_left or other_right + 0.15 < left or top + 0.15 < other_bottom or other_top + 0.15 < bottom


@pytest.mark.parametrize("name", SAMPLES)
def test_no_line_runs_through_a_box_and_every_edge_has_its_line(name):
    for panel in panels(name):
        placed = boxes(panel)
        for line in panel.layout.lines:
            x, y = points(panel.route(line)).T
            for state, (left, right, bottom, top) in placed.items():
                inside = (x > left - 0.04) & (x < right + 0.04) & (y > bottom + 1e-6) & (y < top - 1e-6)
                assert not inside.any(), f"the line from {line.lower} to {line.upper} runs through state {state}"
        drawn = sorted((line.lower[0], line.upper[0], line.port) for line in panel.layout.lines if line.port is not None)
        edges = [(e.source, s, p) for s, node in enumerate(panel.cell.nodes, panel.cell.inputs) for p, e in enumerate(node.edges)]
        assert drawn == sorted(edges)
        assert {state for state, _ in panel.layout.layers[-1]} == set(panel.cell.outputs)


@pytest.mark.parametrize("name", SAMPLES)
def test_trunks_pass_beside_boxes_and_other_trunks(name):
    for panel in panels(name):
        placed = boxes(panel)
        for level, layer in enumerate(panel.layout.layers):
            xs = sorted(panel.layout.x[place] for place in layer)
            assert all(b - a > 0.15 for a, b in itertools.pairwise(xs))
            for state, _ in layer:
                for left, right, bottom, _top in (box for other, box in placed.items() if other != state):
                    if bottom == panel.bottoms[level]:
                        assert not left - 0.15 < panel.layout.x[state, level] < right + 0.15


@pytest.mark.parametrize("name", SAMPLES)
def test_labels_stay_apart_and_inside_the_picture(name):
    assert_labels_apart(*rendered(name))


def assert_labels_apart(figure, texts):
    for i, (text, extent) in enumerate(texts):
        assert extent.x0 >= 0 and extent.y0 >= 0 and extent.x1 <= figure.bbox.width and extent.y1 <= figure.bbox.height
        for other, other_extent in texts[i + 1 :]:
            assert not extent.overlaps(other_extent), f"{text} {other}"


@pytest.mark.parametrize("name", SAMPLES)
def test_labels_fit_their_boxes(name):
    figure, texts = rendered(name)
    for panel, axes in zip(panels(name), figure.axes, strict=False):  # the last axes are the legend's
        widths = {text.get_text(): extent.width / figure.dpi for text, extent in texts if text.axes is axes}
        for state, labels in panel.labels.items():
            for label, width in zip(labels, panel.widths[state], strict=True):
                assert max(widths[line] for line in label.split("\n")) < width - 0.05


def test_a_published_cell_has_few_crossings():
    """NASNet-A's normal cell can be drawn with three crossings of lines of different states; a bad order has dozens."""
    cell = load_reference("nasnet-a").normal
    layout = lay_out(cell, {state: [1.0, 1.0][: 1 if state < 2 else 2] for state in range(7)}, 0.3, 0.2)
    ends = {}
    for line in layout.lines:
        ports = layout.ports.get(line.upper[0], ())
        shift = 0.0 if line.port is None else ports.index(line.port) - 0.5
        ends.setdefault(line.upper[1], []).append((layout.x[line.lower], layout.x[line.upper] + shift, line.lower))
    crossings = sum(
        (a[0] - b[0]) * (a[1] - b[1]) < 0 and a[2] != b[2] for lines in ends.values() for i, a in enumerate(lines) for b in lines[i + 1 :]
    )
    assert crossings <= 4


def test_layers_follow_the_edges_and_are_not_crowded():
    for genotype in SAMPLES.values():
        for _, cell in genotype.cells():
            layers = state_layers(cell)
            for state, node in enumerate(cell.nodes, cell.inputs):
                assert all(layers[edge.source] < layers[state] for edge in node.edges)
            assert all(list(layers.values()).count(level) <= 6 for level in layers.values())


def test_what_reaches_no_output_is_faded_and_the_legend_says_so():
    read, unread = (Edge(0, "identity"), Edge(0, "conv_1x1")), (Edge(1, "identity"), Edge(2, "identity"))
    cell = CellGenotype((Node(read, "add"), Node(unread, "add")), (2,))
    texts = {text.get_text(): text.get_color() for text, _ in extents(genotype_figure(Genotype(cell)))}
    assert "reaches no output" in texts and "stride 2" not in texts
    assert texts["1 · current"] == LIGHT.faded != texts["0 · previous"]


def test_the_legend_says_what_occurs():
    texts = [text.get_text() for text, _ in extents(genotype_figure(load_reference("nasnet-a")))]
    assert {"convolution", "pooling", "identity", "/2", "stride 2"} <= set(texts)
    assert not {"block", "reaches no output"} & set(texts)


def test_reward_and_size_stand_under_the_title():
    found = replace(load_reference("nasnet-a"), provenance=Provenance("mine", 7, 0.61234, "ppo"))
    texts = [text.get_text() for text, _ in extents(genotype_figure(found, note="1.2M parameters"))]
    assert "61.23% validation accuracy believed, trial 7 of mine by ppo · 1.2M parameters" in texts


# ------------------------------------------------------------------------------------------------ SVG

_SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("name", SAMPLES)
def test_every_edge_and_node_has_a_title(name):
    root = ElementTree.fromstring(genotype_svg(SAMPLES[name]))
    titles = [title.text for group in root.iter(f"{_SVG}g") if group.get("class") == "nas-edge" for title in group.findall(f"{_SVG}title")]
    nodes = [title.text for group in root.iter(f"{_SVG}g") if group.get("class") == "nas-node" for title in group.findall(f"{_SVG}title")]
    for _, cell in SAMPLES[name].cells():
        for state, node in enumerate(cell.nodes, cell.inputs):
            assert any(text.startswith(f"node {state} = ") and text.endswith(node.combine) for text in nodes)
            for edge in node.edges:
                source = STATE_NAMES[-cell.inputs :][edge.source] if edge.source < cell.inputs else f"node {edge.source}"
                assert any(text.startswith(f"{source} → ") and text.endswith(f" → node {state}") for text in titles)
        assert sum(text.startswith("hidden state") for text in nodes) >= cell.inputs


def test_text_is_text_and_no_picture_disturbs_another_on_a_page():
    root = ElementTree.fromstring(genotype_svg(load_reference("nasnet-a")))
    texts = [text.text for text in root.iter(f"{_SVG}text")]
    assert {"NASNet-A", "sep conv 5×5", "normal cell", "stride 2"} <= set(texts)
    assert not [group for group in root.iter(f"{_SVG}g") if group.get("id")]


@pytest.mark.parametrize("draw", [lambda theme: genotype_svg(wild(3, 12), theme=theme), lambda theme: nasnet_large(theme)])
def test_every_colour_of_a_picture_follows_the_theme(draw):
    """An SVG that follows its reader's theme has a rule for each of its colours; a dark one has only dark ones."""
    for theme, palette in (("auto", LIGHT), ("dark", DARK)):
        root = ElementTree.fromstring(draw(theme))
        used = {colour for element in root.iter() for colour in re.findall(r"(?:fill|stroke): (#\w{6})", element.get("style", ""))}
        assert used <= set(palette.colours()) and len(used) > 5
        rules = root.find(f"{_SVG}style").text
        assert all((f'"fill: {colour}"' in rules) == (theme == "auto") for colour in used)
    assert len(set(LIGHT.colours())) == len(LIGHT.colours()) == len(DARK.colours())


def nasnet_large(theme="light"):
    return skeleton_svg(load_reference("nasnet-a"), load_skeleton("nasnet-large"), classes=1000, image_size=331, theme=theme)


# ------------------------------------------------------------------------------------------------ files


@pytest.mark.parametrize("suffix", [".svg", ".png", ".pdf", ".SVG"])
def test_the_ending_chooses_the_format(tmp_path, suffix):
    path = tmp_path / f"cell{suffix}"
    draw_genotype(load_reference("nasnet-a"), path)
    start = path.read_bytes()[:400]
    assert {".svg": b"<svg", ".png": b"\x89PNG", ".pdf": b"%PDF"}[suffix.lower()] in start


def test_svg_is_whole_xml_and_the_same_every_time(tmp_path):
    for name in ("first.svg", "second.svg"):
        draw_genotype(wild(3, 5), tmp_path / name)
    assert (tmp_path / "first.svg").read_bytes() == (tmp_path / "second.svg").read_bytes()
    root = ElementTree.parse(tmp_path / "first.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert len(list(root.iter("{http://www.w3.org/2000/svg}path"))) > 30


def test_png_shows_something(tmp_path):
    draw_genotype(load_reference("nasnet-a"), tmp_path / "cell.png")
    pixels = np.asarray(Image.open(tmp_path / "cell.png").convert("RGB"))
    assert pixels.shape[0] > 400 and pixels.shape[1] > 1000
    coloured = (pixels.max(2).astype(int) - pixels.min(2)) > 60
    assert 0.002 < coloured.mean() < 0.5


@pytest.mark.parametrize(
    "name,message", [("cell.jpg", r"must end in one of \.svg, \.png, \.pdf, but got '\.jpg'"), ("no/cell.svg", "cannot be written")]
)
def test_what_cannot_be_written_is_refused(tmp_path, name, message):
    with pytest.raises(UserError, match=message):
        draw_genotype(load_reference("nasnet-a"), tmp_path / name)


@pytest.mark.parametrize(
    "name,theme,message",
    [("cell.png", "auto", "only an .svg file follows"), ("cell.svg", "pink", "light, dark, auto, but got 'pink'")],
)
def test_a_theme_that_cannot_be_had_is_refused(tmp_path, name, theme, message):
    with pytest.raises(UserError, match=message):
        draw_genotype(load_reference("nasnet-a"), tmp_path / name, theme=theme)
    assert not list(tmp_path.iterdir())


def test_a_long_title_fits():
    figure = genotype_figure(load_reference("resnext-32x4d"), title="a name of very many characters " * 6)
    assert_labels_apart(figure, extents(figure))


def test_the_text_of_a_genotype_needs_neither_torch_nor_matplotlib():
    code = "import sys, nas.networks.drawing.draw; assert not {'torch', 'matplotlib', 'sklearn'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# ------------------------------------------------------------------------------------------------ networks


NETWORKS = [
    ("nasnet-a", "nasnet-cifar", 32),
    ("nasnet-a", "nasnet-large", 331),
    ("pnasnet-5", "pnasnet-mobile", 224),
    ("darts-v2", "darts-imagenet", 224),
    ("resnext-8x64d", "resnet-29-cifar", 32),
    ("convnext-roadmap-11", "convnext-roadmap-11", 224),
    ("convnext", "convnext-isotropic-s", 224),
    ("nasbench201", "nasbench201", 32),
]


@pytest.mark.parametrize("genotype,skeleton,image_size", NETWORKS)
def test_networks_are_drawn_with_labels_apart(genotype, skeleton, image_size):
    cells = BENCH if genotype == "nasbench201" else load_reference(genotype)
    arguments = {"classes": 10, "image_size": image_size}
    figure = skeleton_figure(cells, load_skeleton(skeleton), **arguments)
    assert_labels_apart(figure, extents(figure))


def test_a_network_is_written_to_a_file(tmp_path):
    draw_skeleton(load_reference("convnext"), load_skeleton("convnext-cifar"), tmp_path / "network.svg", classes=10, image_size=32)
    ElementTree.parse(tmp_path / "network.svg")


def test_parts_of_nasnet_a_have_the_published_shapes():
    """Shapes of the released code's unit tests (tensorflow/models, nasnet_test.py)."""
    skeleton = replace(load_skeleton("nasnet-cifar"), auxiliary=True)
    parts = network_parts(load_reference("nasnet-a"), skeleton, classes=10, channels=3, image_size=32)
    assert [(part.text.split("\n")[0], part.shape, part.branch) for part in parts[1:-1]] == [
        ("convolution 3×3", "96 × 32 × 32", ""),
        ("normal cell  × 6", "192 × 32 × 32", ""),
        ("reduction cell /2", "256 × 16 × 16", ""),
        ("normal cell  × 6", "384 × 16 × 16", "auxiliary head"),
        ("reduction cell /2", "512 × 8 × 8", ""),
        ("normal cell  × 6", "768 × 8 × 8", ""),
    ]


def test_skip_inputs_of_networks():
    """NASNet-A for ImageNet: a cell after a reduction reads what that read as previous; CIFAR's reads what it read as current."""
    parts = network_parts(load_reference("nasnet-a"), load_skeleton("nasnet-large"), classes=1000, channels=3, image_size=331)
    assert [part.skip for part in parts] == [
        *(None, None, None),  # image, stem, and the first cell, before which there is one state only
        *(Skip(2, inside=False), Skip(2, inside=False)),
        *(Skip(1, inside=True), Skip(2, inside=True)),
        *(Skip(1, inside=True), Skip(2, inside=True)),
        None,
    ]
    skeleton = replace(load_skeleton("nasnet-cifar"), auxiliary=False)
    parts = network_parts(load_reference("nasnet-a"), skeleton, classes=10, channels=3, image_size=32)
    assert [part.skip for part in parts[3:-1]] == [Skip(1, True), Skip(2, False), Skip(1, True), Skip(2, False)]
    root = ElementTree.fromstring(nasnet_large())
    titles = [title.text for title in root.iter(f"{_SVG}title")]
    assert "skip input of reduction cell /2: from inside normal cell  × 6" in titles


def test_a_cell_that_reads_current_alone_has_no_skip_input():
    cell = CellGenotype((Node((Edge(1, "conv_3x3"), Edge(1, "identity")), "add"),), (2,))
    parts = network_parts(Genotype(cell, cell), load_skeleton("nasnet-cifar"), classes=10, channels=3, image_size=32)
    assert [part.skip for part in parts] == [None] * len(parts)


def test_parts_of_a_nasbench201_network():
    parts = network_parts(BENCH, load_skeleton("nasbench201"), classes=10, channels=3, image_size=32)
    assert [(part.text.replace("\n", ", "), part.shape) for part in parts[1:-1]] == [
        ("convolution 3×3", "16 × 32 × 32"),
        ("normal cell  × 5, 16 filters", "16 × 32 × 32"),
        ("residual block /2, 32 filters", "32 × 16 × 16"),
        ("normal cell  × 5, 32 filters", "32 × 16 × 16"),
        ("residual block /2, 64 filters", "64 × 8 × 8"),
        ("normal cell  × 5, 64 filters", "64 × 8 × 8"),
    ]


def test_parts_of_resnext_50_have_the_published_shapes():
    parts = network_parts(load_reference("resnext-32x4d"), load_skeleton("resnet-50"), classes=1000, channels=3, image_size=224)
    assert [part.shape for part in parts] == [
        "3 × 224 × 224",
        "64 × 56 × 56",
        "256 × 56 × 56",
        "512 × 28 × 28",
        "1024 × 14 × 14",
        "2048 × 7 × 7",
        "1000 classes",
    ]
    assert parts[3].text == "resnext block  × 4, the first /2\ncardinality: 32, width: 4"


# ------------------------------------------------------------------------------------------------ DOT


@pytest.mark.parametrize("name", reference_names())
def test_dot_has_every_edge(name):
    genotype = load_reference(name)
    text = to_dot(genotype)
    for cell_name, cell in genotype.cells():
        for state, node in enumerate(cell.nodes, cell.inputs):
            for i, edge in enumerate(node.edges):
                assert f"{cell_name}_{edge.source} -> {cell_name}_{state}_{i} -> {cell_name}_{state};" in text
                assert f'{cell_name}_{state}_{i} [label="{edge.operation}' in text
        assert len(re.findall(rf"{cell_name}_\d+ -> {cell_name}_output;", text)) == len(cell.outputs)


def test_dot_is_escaped():
    """Outside its quoted strings, the text has only what DOT's grammar allows."""
    text = to_dot(wild(1, 4))
    bare = re.sub(r'"(?:[^"\\\n]|\\.)*"', "Q", text)
    assert bare.startswith("digraph Q {\n")
    for line in bare.splitlines()[1:-1]:
        assert re.fullmatch(
            r"\s*(subgraph \w+ \{|\}|rankdir=BT;|node \[[\w=, ]+\];|label=Q;|\w+ \[label=Q(, \w+=\w+)*\];|\w+( -> \w+)+;)", line
        ), line
    assert bare.count("{") == bare.count("}")
    assert '\\"name\\" \\\\ $x_1^2$ <b>& {; }"' in text


@pytest.mark.parametrize("title", ["a\nb\r\x1b[31mc", "\udcff\udcfe.yaml", "[bold]<b>&"])
def test_a_title_may_hold_whatever_a_name_may(title: str, tmp_path: Path) -> None:
    draw_genotype(load_reference("darts-v1"), tmp_path / "cell.svg", title)
    assert len(ElementTree.parse(tmp_path / "cell.svg").getroot()) > 0
