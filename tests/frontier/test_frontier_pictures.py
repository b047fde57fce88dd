"""The figures of a frontier: what is drawn is on the picture."""

import pytest

from curvpub.frontier import pictures, results
from curvpub.release.figures import new_figure


@pytest.mark.parametrize("entries", [3, 19, 27, 60])
def test_legend_lies_within_the_figure(entries):
    figure, panels = new_figure(11.4, 4.4, 1, 2)
    for number in range(entries - 1):
        panels[0].plot([0, 1], [0, number], label=f"some_publisher_{number}")
    panels[0].plot([0, 1], [0, 1], label="a ring that\ntakes two lines")
    pictures._legend(figure, panels[0])
    figure.canvas.draw()
    box, (width, height) = figure.legends[0].get_window_extent(), figure.bbox.size
    assert len(figure.legends[0].get_texts()) == entries
    assert figure.legends[0].get_texts()[-1].get_text() == "a ring that\ntakes two lines"
    assert 0 <= box.x0 < box.x1 <= width
    assert 0 <= box.y0 < box.y1 <= height
    # The panels keep their room.
    assert panels[1].get_window_extent().x1 <= box.x0
    assert panels[0].get_window_extent().width > 0.25 * 11.4 * figure.dpi


POINT = {
    "data": "digits", "seed": 1, "shadows": 32, "members": 674, "pool": 1348,
    "machine": {"devices": "1 x cpu", "cores": 2, "jax": "0.10.2"},
    "seconds": {"train": 9.0, "release_and_attack": 60.0},
}  # fmt: skip


def test_pictures_say_what_they_are_of():
    other = POINT | {"seconds": {"train": None, "release_and_attack": 52.5}}
    # 32 shadows of 112.5 seconds are an hour; trainings are shared, and not counted.
    text = results.provenance([POINT, other])
    assert text == (
        "digits, seed 1; 32 shadows of 674 of 1,348 records; 1 x cpu, 2 cores, jax 0.10.2; "
        "1 hours of releases and attacks"
    )
    elsewhere = other | {"machine": POINT["machine"] | {"devices": "1 x gpu"}, "seed": 0}
    both = results.provenance([POINT, elsewhere])
    assert "seed 0, 1;" in both
    assert "1 x cpu, 2 cores, jax 0.10.2; 1 x gpu, 2 cores, jax 0.10.2" in both
    figure, panels = new_figure(6.0, 4.0)
    panels[0].plot([0, 1], [0, 1])
    assert pictures._captioned(figure, [POINT]).startswith(b"\x89PNG")
    assert " ".join(figure.get_suptitle().split()) == results.provenance([POINT])
    figure.canvas.draw()
    box, (width, height) = figure._suptitle.get_window_extent(), figure.bbox.size
    assert 0 <= box.x0 < box.x1 <= width
    assert panels[0].get_window_extent().y1 <= box.y0 < box.y1 <= height
    with pytest.raises(ValueError, match="nothing to tell"):
        results.provenance([])
