from __future__ import annotations

import numpy as np

from ima.capture.prefetch import MediaPrefetcher
from ima.data.clips import Clip, ClipTiming
from ima.data.samples import Sample


def test_media_are_read_once_and_ahead():
    reads = []

    def sample(index):
        def media():
            reads.append(index)
            return np.zeros(3, np.float32)

        return Sample(str(index), "audio", "qa", "what ?", ("x",), {}, media)

    samples = [sample(index) for index in range(6)]
    with MediaPrefetcher(samples) as ahead:
        taken = ahead.take(0, 2, until=5)
        again = ahead.take(0, 1, until=5)
        assert [one.id for one in taken + again] == ["0", "1", "0"]
        assert taken[0].load().shape == (3,)
        ahead.drop(2)
        ahead.take(2, 4, until=5)
    # What was begun ahead may have been called off.
    assert sorted(reads) in ([0, 1, 2, 3], [0, 1, 2, 3, 4])


def test_a_clip_keeps_the_times_of_its_frames():
    timing = ClipTiming(times=(0.25, 0.75), duration=1.0, frames=8)
    clip = Clip(np.zeros((2, 4, 4, 3), np.uint8), timing)
    samples = [Sample("0", "video", "caption", "", ("a",), media=lambda: clip)]
    with MediaPrefetcher(samples) as ahead:
        (taken,) = ahead.take(0, 1, until=1)
        assert taken.load().timing == timing
