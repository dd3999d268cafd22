"""Media as their authors meant them, by whatever way they come in."""

from __future__ import annotations

import io
import re
import struct
import threading
import time
import warnings
import zlib
from contextlib import suppress
from fractions import Fraction

import av
import numpy as np
import pytest
import soundfile
from PIL import Image, ImageCms
from scipy.io import wavfile

from ima.data.clips import MAX_CONTAINER_FRAMES, Clip, ClipTiming, list_frames, read_clip
from ima.data.importers.rows import make_samples_from_rows
from ima.data.media import PREVIEW_FRAMES, read_media, write_preview
from ima.data.pictures import convert_picture, decode_picture, read_picture
from ima.data.sounds import convert_sound, read_sound
from ima.errors import SampleError

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)


def read_in_every_way(path):
    """Return a picture read from its file, from its bytes, and as rows of a library hold it."""
    rows = [{"image": Image.open(path)}, {"image": {"bytes": path.read_bytes(), "path": None}}]
    samples = make_samples_from_rows(
        rows, modality="image", task="caption", references=lambda _: "x", media="image"
    )
    return [
        read_picture(path),
        decode_picture(path.read_bytes(), name="bytes"),
        *(sample.load() for sample in samples),
    ]


def write_png(path, rows, *, depth, colour, chunks=()):
    """Write a png of any depth; the rows are bytes."""

    def chunk(kind, content):
        length, check = len(content), zlib.crc32(kind + content)
        return struct.pack(">I", length) + kind + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", 8, len(rows), depth, colour, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = [chunk(b"IHDR", header), *(chunk(*one) for one in chunks)]
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


def save_turned(path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PIXELS).save(path, exif=exif)
    return np.rot90(PIXELS, k=-1)


def save_deep(path):
    ramp = np.linspace(0, 65535, 8).astype(">u2")
    write_png(path, [ramp.tobytes()] * 4, depth=16, colour=0)
    return np.broadcast_to(np.linspace(0, 255, 8)[None, :, None], (4, 8, 3))


def save_palette(path):
    Image.fromarray(PIXELS).quantize(64).save(path)
    return np.asarray(Image.open(path).convert("RGB"))


def save_clear(path):
    hidden = np.dstack([PIXELS, np.zeros((6, 8), np.uint8)])
    hidden[2:4, 2:4, 3] = 255
    Image.fromarray(hidden).save(path)
    shown = np.full_like(PIXELS, 255)
    shown[2:4, 2:4] = PIXELS[2:4, 2:4]
    return shown


def save_clear_palette(path):
    image = Image.fromarray(PIXELS).quantize(8)
    image.save(path, transparency=0)
    indices = np.asarray(image)
    return np.where((indices == 0)[..., None], 255, np.asarray(image.convert("RGB")))


def save_clear_colour(path):
    """One colour counts as transparent."""
    image = np.full((6, 8), 40, np.uint8)
    image[0, 0] = 7
    rows = [row.tobytes() for row in image]
    write_png(path, rows, depth=8, colour=0, chunks=[(b"tRNS", struct.pack(">H", 7))])
    expected = np.repeat(image[..., None], 3, axis=-1)
    expected[0, 0] = 255
    return expected


@pytest.mark.parametrize(
    "save",
    [save_turned, save_deep, save_palette, save_clear, save_clear_palette, save_clear_colour],
)
def test_a_picture_is_what_viewers_show(tmp_path, save):
    expected = save(tmp_path / "p.png")
    for got in read_in_every_way(tmp_path / "p.png"):
        assert got.dtype == np.uint8
        assert got.flags.c_contiguous
        np.testing.assert_allclose(got, expected, atol=1)


def test_half_transparent_pixels_are_mixed_with_white(tmp_path):
    grey = np.full((2, 2, 4), (100, 100, 100, 51), np.uint8)
    Image.fromarray(grey).save(tmp_path / "p.webp", lossless=True)
    got = read_picture(tmp_path / "p.webp")
    np.testing.assert_allclose(got, 0.2 * 100 + 0.8 * 255, atol=1)


def test_colours_of_a_profile_become_srgb(tmp_path):
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(PIXELS).save(tmp_path / "s.png", icc_profile=srgb)
    np.testing.assert_array_equal(read_picture(tmp_path / "s.png"), PIXELS)
    # Neither a profile of something else nor a damaged one takes the picture away.
    for number, profile in enumerate([lab, b"no profile"]):
        Image.fromarray(PIXELS).save(tmp_path / f"{number}.png", icc_profile=profile)
        assert read_picture(tmp_path / f"{number}.png").shape == PIXELS.shape


def test_a_linear_profile_is_applied():
    """Grey 128 of a profile without gamma is much lighter in sRGB."""
    linear = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack(">I", linear[128:132])[0]
    for entry in range(count):
        at = 132 + 12 * entry
        name, offset, _ = struct.unpack(">4sII", linear[at : at + 12])
        if name in (b"rTRC", b"gTRC", b"bTRC"):
            # A curve of one number is a gamma: here 1.
            linear[offset : offset + 14] = b"curv" + bytes(4) + struct.pack(">IH", 1, 256)
        if name == b"desc":
            text = "linear".encode("utf-16-be")
            record = struct.pack(">4sIII4sII", b"mluc", 0, 1, 12, b"enUS", len(text), 28)
            linear[offset : offset + len(record) + len(text)] = record + text
    image = Image.new("RGB", (2, 2), (128, 128, 128))
    image.info["icc_profile"] = bytes(linear)
    np.testing.assert_allclose(convert_picture(image, name="grey"), 188, atol=2)


def test_pictures_that_cannot_be_meant_are_refused(tmp_path):
    frames = [Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)]
    frames[0].save(tmp_path / "two.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(SampleError, match=r"two\.gif holds 2 pictures and not one.*the modality"):
        read_media(tmp_path / "two.gif", "image")
    clip = read_media(tmp_path / "two.gif", "video")
    assert clip.shape[0] == 2
    assert clip.timing.frames == 2
    with pytest.raises(SampleError, match="holds floats, whose range is not known"):
        convert_picture(Image.fromarray(np.ones((2, 2), np.float32)), name="depth")
    with pytest.raises(SampleError, match="holds greys from 0 to 70000"):
        convert_picture(Image.fromarray(np.array([[0, 70_000]], np.int32)), name="depth")


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "bmp", "gif", "tif"])
@pytest.mark.parametrize("share", [0, 0.3, 0.6])
def test_half_a_picture_is_no_picture(tmp_path, ending, share):
    path = tmp_path / f"p.{ending}"
    Image.fromarray(np.tile(PIXELS, (20, 20, 1))).save(path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(SampleError, match=rf"p\.{ending}"):
        read_media(path, "image")


def test_frames_are_in_the_order_of_their_numbers(tmp_path):
    names = ["a1.png", "a2.png", "a10.png", "b1.png", "b01x.png"]
    for name in names:
        Image.fromarray(PIXELS).save(tmp_path / name)
    assert [path.name for path in list_frames(tmp_path)] == names


def write_video(path, times, *, rate=10, codec="mpeg4", size=(32, 16)):
    """Write frames whose grey is their number, each shown from its time in tenths of seconds."""
    width, height = size
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, rate)
        for number, time in enumerate(times):
            pixels = np.full((height, width, 3), 20 * number + 10, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def read_numbers(clip):
    return np.round((clip.mean(axis=(1, 2, 3)) - 10) / 20).astype(int).tolist()


def test_frames_of_uneven_length_are_taken_by_time(tmp_path):
    """The second frame stands still for most of the video."""
    write_video(tmp_path / "v.mkv", [0, 1, 9, 10])
    clip = read_clip(tmp_path / "v.mkv")
    assert read_numbers(clip) == [1, 1, 1, 2]
    assert clip.timing.times == pytest.approx((0.1, 0.1, 0.1, 0.9), abs=1e-3)
    assert clip.timing.frames == 4
    assert clip.timing.duration == pytest.approx(1.1, abs=1e-3)


def test_a_clip_knows_when_its_frames_are_shown(tmp_path):
    write_video(tmp_path / "v.mp4", range(12))
    clip = read_clip(tmp_path / "v.mp4")
    assert isinstance(clip, Clip)
    assert read_numbers(clip) == list(range(12))
    assert clip.timing.rate == pytest.approx(10)
    assert clip.timing.indices == list(range(12))
    assert clip[:2].timing is None
    assert MAX_CONTAINER_FRAMES == 32
    assert ClipTiming((0.5,), duration=1, frames=1).indices == [0]


@pytest.mark.parametrize("quarters", [1, 2, 3])
@pytest.mark.parametrize("mirrored", [False, True])
def test_frames_are_turned_as_the_track_says(tmp_path, quarters, mirrored):
    """The display matrix of an mp4 is set in its bytes; ffmpeg's own filter gives the truth."""
    write_video(tmp_path / "v.mp4", range(3))
    content = (tmp_path / "v.mp4").read_bytes()
    plain = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    at = content.index(plain, content.index(b"tkhd"))
    cos, sin = [(0, 1), (-1, 0), (0, -1)][quarters - 1]
    flip = -1 if mirrored else 1
    matrix = [flip * cos, flip * sin, 0, -sin, cos, 0, 0, 0, 1 << 14]
    turned = struct.pack(">9i", *(value << 16 for value in matrix))
    (tmp_path / "t.mp4").write_bytes(content[:at] + turned + content[at + 36 :])
    frames = np.zeros((3, 16, 32, 3), np.uint8)
    frames[:, :8, :16] = 255
    expected = np.rot90(frames[:, :, ::-1] if mirrored else frames, k=-quarters, axes=(1, 2))
    clip = read_clip(tmp_path / "t.mp4")
    assert clip.shape == expected.shape
    # Where a corner of the coded frame goes.
    from ima.data import clips

    class Frame:
        side_data = ()

        def to_ndarray(self, format):
            return frames[0]

    with av.open(str(tmp_path / "t.mp4")) as container:
        decoded = next(container.decode(video=0))
        Frame.side_data = decoded.side_data
        np.testing.assert_array_equal(clips._turn(Frame(), "t.mp4"), expected[0])


@pytest.mark.parametrize("ending", ["mp4", "mkv", "avi", "webm"])
def test_half_a_video_is_no_video(tmp_path, ending):
    path = tmp_path / f"v.{ending}"
    noise = RNG.integers(0, 256, (60, 64, 64, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx" if ending == "webm" else "mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for pixels in noise:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    assert read_media(path, "video").shape == (32, 64, 64, 3)
    content = path.read_bytes()
    for share in (0, 0.2, 0.5, 0.8):
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(SampleError, match=rf"v\.{ending}"):
            read_media(path, "video")


CLIP = np.zeros((3, 6, 8, 3), np.uint8)


@pytest.mark.parametrize(
    "array",
    [
        CLIP.astype(np.float32),
        CLIP.transpose(0, 3, 1, 2),
        CLIP[0],
        CLIP[..., 0],
        CLIP[:0],
        np.concatenate([CLIP, CLIP[..., :1]], axis=-1),
        np.array([None]),
    ],
    ids=["floats", "channels first", "one picture", "grey", "none", "alpha", "objects"],
)
@pytest.mark.parametrize("save", [np.save, np.savez], ids=["npy", "npz"])
def test_arrays_that_are_no_clip_are_refused(tmp_path, array, save):
    path = tmp_path / ("c.npy" if save is np.save else "c.npz")
    save(path, array)
    with pytest.raises(SampleError, match=path.name):
        read_media(path, "video")
    if array.dtype != object:
        with pytest.raises(SampleError, match="row 0"):
            make_samples_from_rows(
                [{"v": array}], modality="video", task="qa", references=lambda _: "x", media="v"
            )


def test_arrays_by_columns_and_lists_of_pictures_are_clips(tmp_path):
    frames = RNG.integers(0, 256, (3, 6, 8, 3), dtype=np.uint8)
    np.save(tmp_path / "c.npy", np.asfortranarray(frames))
    np.testing.assert_array_equal(read_media(tmp_path / "c.npy", "video"), frames)
    (sample,) = make_samples_from_rows(
        [{"v": [Image.fromarray(frame) for frame in frames]}],
        modality="video", task="qa", references=lambda _: "x", media="v",
    )  # fmt: skip
    np.testing.assert_array_equal(sample.load(), frames)


def test_an_array_whose_header_promises_more_is_not_whole(tmp_path):
    np.save(tmp_path / "c.npy", CLIP)
    content = (tmp_path / "c.npy").read_bytes()
    (tmp_path / "c.npy").write_bytes(content[:-1])
    with pytest.raises(SampleError, match="is not whole: its header promises 432 bytes"):
        read_media(tmp_path / "c.npy", "video")
    (tmp_path / "c.npy").write_bytes(content.replace(b"(3, 6, ", b"(3, 6000000000000, ", 1))
    with pytest.raises(SampleError, match=r"unpacks to|Cannot read"):
        read_media(tmp_path / "c.npy", "video")


TONE = 0.5 * np.sin(np.arange(16_000) / 5)


def write_sound(path, wave, *, rate=16_000, **kind):
    soundfile.write(path, wave, rate, **kind)
    return path


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg"])
@pytest.mark.parametrize("share", [0, 0.001, 0.5])
def test_half_a_sound_is_no_sound(tmp_path, ending, share):
    path = write_sound(tmp_path / f"s.{ending}", RNG.normal(0, 0.1, 48_000))
    assert len(read_sound(path)) == 48_000
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(SampleError, match=rf"s\.{ending}"):
        read_media(path, "audio")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda wave: wave[:0], "holds no sound"),
        (lambda wave: np.where(np.arange(len(wave)) == 9, np.nan, wave), "holds 1 values"),
        (lambda wave: np.where(np.arange(len(wave)) < 2, np.inf, wave), "holds 2 values"),
        (lambda wave: 32768 * wave, r"reaches 16384, and a sound of floats lies in \[-1, 1\]"),
        (lambda wave: np.stack([wave, -wave], axis=1), "cancel each other"),
    ],
    ids=["empty", "nan", "infinite", "another unit", "opposite channels"],
)
def test_sounds_that_cannot_be_meant_are_refused(tmp_path, change, message):
    path = write_sound(tmp_path / "s.wav", change(TONE), subtype="FLOAT")
    with pytest.raises(SampleError, match=message):
        read_media(path, "audio")
    with pytest.raises(SampleError, match=message):
        make_samples_from_rows(
            [{"a": {"array": change(TONE).T, "sampling_rate": 16_000}}],
            modality="audio", task="qa", references=lambda _: "x", media="a",
        )  # fmt: skip


def test_channels_are_mixed_and_silence_is_a_sound(tmp_path):
    apart = np.stack([TONE, 0 * TONE], axis=1)
    path = write_sound(tmp_path / "s.wav", apart, subtype="FLOAT")
    np.testing.assert_allclose(read_sound(path), TONE / 2, atol=1e-6)
    assert not convert_sound(np.zeros((100, 2)), rate=16_000).any()
    assert convert_sound(1.5 * np.ones(10), rate=16_000).max() == 1


def test_a_wav_of_unknown_length_is_read_to_its_end(tmp_path):
    """ffmpeg writes such a header into a pipe."""
    wavfile.write(tmp_path / "s.wav", 16_000, (TONE * 32767).astype(np.int16))
    content = (tmp_path / "s.wav").read_bytes()
    at = content.index(b"data") + 4
    for size in (0, 10 * len(content)):
        known = struct.pack("<I", size)
        (tmp_path / "s.wav").write_bytes(content[:at] + known + content[at + 4 :])
        with pytest.raises(SampleError, match=r"holds no sound|is not whole"):
            read_sound(tmp_path / "s.wav")
    piped = content[:at] + b"\xff" * 4 + content[at + 4 :]
    (tmp_path / "s.wav").write_bytes(piped)
    np.testing.assert_allclose(read_sound(tmp_path / "s.wav"), TONE, atol=1e-4)


def test_pictures_of_bytes_that_are_none_are_named():
    with pytest.raises(SampleError, match="Cannot read row 3 as image"):
        decode_picture(b"GIF89a", name="row 3")
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "PNG")
    np.testing.assert_array_equal(decode_picture(buffer.getvalue(), name="row 3"), PIXELS)


def test_what_fuzzing_found_is_named(tmp_path):
    """Pillow raises a TypeError for a tif without a size; a stream of no known codec has none."""
    Image.fromarray(np.tile(PIXELS, (2, 2, 1))).save(tmp_path / "p.tif")
    whole = (tmp_path / "p.tif").read_bytes()
    write_video(tmp_path / "v.mp4", range(4))
    video = (tmp_path / "v.mp4").read_bytes()
    damaged = [("p.tif", "image", whole, at) for at in range(0, 200, 3)]
    damaged += [("v.mp4", "video", video, at) for at in range(0, len(video), 7)]
    refused = 0
    for name, modality, content, at in damaged:
        (tmp_path / name).write_bytes(content[:at] + b"\0" + content[at + 1 :])
        with suppress(SampleError):
            read_media(tmp_path / name, modality)
            continue
        refused += 1
    assert refused > 20


def test_reading_in_threads_leaves_the_filters_of_warnings_alone(tmp_path, monkeypatch):
    """What each thread found when it began would else be put back by the last one to leave."""
    paths = [tmp_path / f"{number}.wav" for number in range(2)]
    for path in paths:
        wavfile.write(path, 16_000, np.arange(100, dtype=np.int16))
    read, entered, left = wavfile.read, threading.Event(), threading.Event()

    def read_slowly(path):
        if path == paths[0]:
            # Long enough for the other thread to enter, if it may.
            entered.wait(0.5)
        else:
            entered.set()
            left.wait(0.5)
        return read(path)

    def read_sound_and_leave(path):
        read_media(path, "audio")
        left.set()

    monkeypatch.setattr(wavfile, "read", read_slowly)
    before = list(warnings.filters)
    first = threading.Thread(target=read_sound_and_leave, args=(paths[0],))
    second = threading.Thread(target=read_sound_and_leave, args=(paths[1],))
    first.start()
    time.sleep(0.1)
    second.start()
    first.join()
    second.join()
    assert list(warnings.filters) == before


@pytest.mark.parametrize(
    ("name", "modality", "content"),
    [
        # Bits per sample and block of zero, and a header that ends within a word.
        (
            "a.wav",
            "audio",
            b"RIFFD\x03\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x80>[\x01"
            + bytes(8)
            + b"data"
            + bytes(30),
        ),
        ("c.npy", "video", b"\x93NUMPY\x01\0v\0{'descr': '|u1', 'fortran_order': Fa" + bytes(80)),
    ],
)
def test_damaged_headers_that_readers_trip_over_are_named(tmp_path, name, modality, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SampleError, match=re.escape(name)):
        read_media(path, modality)


def test_previews_are_files_that_browsers_show(tmp_path):
    picture = RNG.integers(0, 256, (300, 400, 3), dtype=np.uint8)
    path = write_preview(picture, tmp_path / "picture", "image")
    assert (path.suffix, read_picture(path).shape) == (".png", (120, 160, 3))
    clip = np.repeat(np.arange(9, dtype=np.uint8)[:, None, None, None], 3, axis=3)
    clip = np.broadcast_to(clip, (9, 20, 30, 3))
    strip = read_picture(write_preview(clip, tmp_path / "clip", "video"))
    assert strip.shape == (20, 30 * PREVIEW_FRAMES, 3)
    assert strip[0, ::30, 0].tolist() == [0, 3, 5, 8]  # frames from the first to the last
    sound = np.array([-2.0, -1.0, 0.0, 0.5, 1.0], np.float32)
    rate, pulses = wavfile.read(write_preview(sound, tmp_path / "sound", "audio"))
    assert (rate, pulses.dtype) == (16_000, np.int16)
    assert pulses.tolist() == [-32767, -32767, 0, 16384, 32767]
