"""Pictures of cells and whole networks as files (SVG, PNG, PDF) and as text. Matplotlib is loaded when a picture is drawn."""

from __future__ import annotations

from pathlib import Path

from nas.networks.drawing.cells import genotype_figure
from nas.networks.drawing.networks import skeleton_figure
from nas.tools.pictures import Theme, check_picture, save, svg_element
from search_spaces.genotype import Genotype
from search_spaces.skeletons import Skeleton


def draw_genotype(genotype: Genotype, path: str | Path, title: str = "", note: str = "", theme: Theme = "light") -> None:
    """Draw the cells of a genotype side by side into a file; see ``genotype_figure``.

    Args:
        genotype: any genotype.
        path: file to write; its ending (.svg, .png, .pdf) chooses the format.
        title: above the picture; the genotype's name if empty.
        note: below the title, such as the size of the network.
        theme: light, dark, or auto for an SVG that follows its reader's.

    Raises:
        DrawError: the ending is another, or the file cannot be written.
    """
    check_picture(path, theme)
    save(genotype_figure(genotype, title, note, theme), path, theme)


def genotype_svg(genotype: Genotype, title: str = "", note: str = "", theme: Theme = "light") -> str:
    """The picture of ``draw_genotype`` as an ``<svg>`` element to put into a page: every edge and node has its ``<title>``."""
    return svg_element(genotype_figure(genotype, title, note, theme), theme)


def draw_skeleton(
    genotype: Genotype,
    skeleton: Skeleton,
    path: str | Path,
    *,
    classes: int,
    channels: int = 3,
    image_size: int,
    title: str = "",
    theme: Theme = "light",
) -> None:
    """Draw a whole network into a file; see ``skeleton_figure``.

    Args:
        genotype: its cells.
        skeleton: the macro network.
        path: file to write; its ending (.svg, .png, .pdf) chooses the format.
        classes: number of classes.
        channels: of an image.
        image_size: side in pixels.
        title: above the picture; the network's name if empty.
        theme: light, dark, or auto for an SVG that follows its reader's.

    Raises:
        DrawError: the ending is another, or the file cannot be written.
        UserError: the genotype does not fit the skeleton.
    """
    check_picture(path, theme)
    figure = skeleton_figure(genotype, skeleton, classes=classes, channels=channels, image_size=image_size, title=title, theme=theme)
    save(figure, path, theme)


def skeleton_svg(
    genotype: Genotype, skeleton: Skeleton, *, classes: int, channels: int = 3, image_size: int, title: str = "", theme: Theme = "light"
) -> str:
    """The picture of ``draw_skeleton`` as an ``<svg>`` element to put into a page."""
    figure = skeleton_figure(genotype, skeleton, classes=classes, channels=channels, image_size=image_size, title=title, theme=theme)
    return svg_element(figure, theme)
