"""Videos reach processors with all their frames, and with the times at which they are shown."""

from __future__ import annotations

import re

import numpy as np
import pytest
import transformers as hf
from tinyhub import TILES, chat, tokenizer

from ima.data.clips import Clip, ClipTiming
from ima.models.processors import prepare_videos

FRAMES = np.repeat(np.arange(32, dtype=np.uint8)[:, None, None, None] * 8, 56, axis=1)
FRAMES = np.broadcast_to(FRAMES, (32, 56, 56, 3)).copy()
#: Thirty-two frames of a video of 64 seconds.
TIMING = ClipTiming(tuple(np.arange(32) * 2.0), duration=64.0, frames=1600)
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def test_metadata_are_the_clips_own():
    arguments = prepare_videos([Clip(FRAMES, TIMING), FRAMES])
    own, unknown = arguments["video_metadata"]
    assert arguments["do_sample_frames"] is False
    assert type(arguments["videos"][0]) is np.ndarray
    assert (own.total_num_frames, own.fps, own.duration) == (1600, 25.0, 64.0)
    np.testing.assert_allclose(own.timestamps, TIMING.times)
    np.testing.assert_allclose(unknown.timestamps, range(32))


def test_qwen3_vl_is_told_when_frames_are_shown():
    pytest.importorskip("torchvision")
    marks = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
    tok = tokenizer(*marks)
    size = {"shortest_edge": 28 * 28, "longest_edge": 56 * 56 * 16}
    processor = hf.Qwen3VLProcessor(
        image_processor=hf.Qwen2VLImageProcessorPil(patch_size=14, merge_size=2),
        tokenizer=tok,
        video_processor=hf.Qwen3VLVideoProcessor(size=size, patch_size=14, merge_size=2),
        chat_template=chat(image=marks[0], video=f"{marks[2]}{marks[1]}{marks[3]}"),
    )
    text = f"{marks[2]}{marks[1]}{marks[3]} what ?"
    inputs = processor(text=[text], return_tensors="pt", **prepare_videos([Clip(FRAMES, TIMING)]))
    # Two frames make one step of time.
    assert inputs["video_grid_thw"][0, 0] == 16
    written = processor.decode(inputs["input_ids"][0])
    told = [float(time) for time in re.findall(r"<([\d.]+) seconds>", written)]
    np.testing.assert_allclose(told, np.arange(16) * 4 + 1)
    pixels = inputs["pixel_values_videos"].reshape(16, -1).mean(dim=1)
    assert (pixels.diff() > 0).all()


def test_smolvlm_is_told_how_long_the_video_lasts():
    pytest.importorskip("torchvision")
    tok = tokenizer(
        *TILES,
        fake_image_token="<fake_token_around_image>",
        image_token="<image>",
        end_of_utterance_token="<end_of_utterance>",
        global_image_token="<global-img>",
        video_token="<video>",
    )
    sizes = {"size": {"longest_edge": 56}, "max_image_size": {"longest_edge": 28}}
    processor = hf.SmolVLMProcessor(
        image_processor=hf.SmolVLMImageProcessorPil(**sizes),
        tokenizer=tok,
        video_processor=hf.SmolVLMVideoProcessor(**sizes),
        image_seq_len=1,
        chat_template=chat(image="<image>", video="<video>"),
    )
    inputs = processor(
        text=["<video> what ?"], return_tensors="pt", **prepare_videos([Clip(FRAMES, TIMING)])
    )
    assert inputs["pixel_values"].shape[1] == 32
    written = processor.decode(inputs["input_ids"][0])
    assert "from a 0:01:04 [H:MM:SS] video" in written
    told = re.findall(r"Frame from (\d+):(\d+)", written)
    assert [60 * int(minutes) + int(seconds) for minutes, seconds in told] == list(range(0, 64, 2))
