"""Line drawings that are computed from the pixels of pictures."""

from __future__ import annotations

import numpy as np
import pytest

from ima.data.samples import open_samples
from ima.drawings.line_drawings import draw_lines, trace_lines


def test_lines_stand_where_brightness_changes():
    pixels = np.full((20, 20, 3), 40, np.uint8)
    pixels[5:15, 5:15] = (200, 120, 30)
    lines = trace_lines(pixels)
    assert (lines == lines[..., :1]).all()
    assert lines.max() == 255
    assert lines[8:12, 8:12].max() == 0 == lines[:4].max()
    assert lines[5:15, 4:6].min() > 100
    assert trace_lines(np.full((4, 4, 3), 9, np.uint8)).max() == 0


@pytest.mark.usefixtures("planted")
def test_a_line_drawing_has_the_captions_and_the_truth_of_its_picture():
    picture = open_samples("drawings-image-caption:test", n=1)[0]
    lines = draw_lines(picture)
    assert lines.id != picture.id
    assert lines.content_key == picture.content_key
    assert (lines.references, lines.truth) == (picture.references, picture.truth)
    np.testing.assert_array_equal(lines.load(), trace_lines(picture.load()))
