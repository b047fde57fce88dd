"""The figures of a frontier: what is drawn is on the picture."""

import pytest

from curvpub.frontier import pictures
from curvpub.release.figures import new_figure


@pytest.mark.parametrize("entries", [3, 19, 27, 60])
def test_legend_lies_within_the_figure(entries):
    figure, panels = new_figure(11.4, 4.4, 1, 2)
    for number in range(entries):
        panels[0].plot([0, 1], [0, number], label=f"some_publisher_{number}")
    pictures._legend(figure, panels[0])
    figure.canvas.draw()
    box, (width, height) = figure.legends[0].get_window_extent(), figure.bbox.size
    assert len(figure.legends[0].get_texts()) == entries
    assert 0 <= box.x0 < box.x1 <= width
    assert 0 <= box.y0 < box.y1 <= height
    # The panels keep their room.
    assert panels[1].get_window_extent().x1 <= box.x0
    assert panels[0].get_window_extent().width > 0.25 * 11.4 * figure.dpi
