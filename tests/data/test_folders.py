from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from PIL import Image
from scipy.io import wavfile

from ima.data import media
from ima.data.folder_check import check_data_folder, filter_data_folder
from ima.data.folders import read_data_folder, write_data_folder, write_sample_records
from ima.data.sample_records import make_sample_record, make_sample_schema
from ima.data.samples import Sample, SampleSet, open_samples
from ima.errors import ParameterError, SampleError

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (6, 5, 3), dtype=np.uint8)
CLIP = RNG.integers(0, 256, (3, 6, 5, 3), dtype=np.uint8)
SOUND = RNG.uniform(-1, 1, 400).astype(np.float32)


def line(**changes):
    return {
        "id": "a",
        "modality": "text",
        "task": "qa",
        "prompt": "why ?",
        "references": ["so"],
        "truth": {},
        **changes,
    }


def folder(tmp_path, *lines, raw=None):
    text = raw if raw is not None else "".join(json.dumps(entry) + "\n" for entry in lines)
    (tmp_path / "samples.jsonl").write_text(text)
    return tmp_path


def media_of(tmp_path, name, modality):
    return read_data_folder(folder(tmp_path, line(modality=modality, media=name)))[0].load()


def test_a_set_survives_the_disk_unchanged(tmp_path):
    samples = SampleSet(
        name="x",
        split="test",
        samples=(
            Sample(
                "a/1", "image", "caption", "caption :", ("ein Käfer",), {"n": [1]}, lambda: IMAGE
            ),
            Sample("b", "video", "qa", "what ?", ("red", "crimson"), {}, lambda: CLIP),
            Sample("c", "audio", "qa", "what ?", ("loud",), {}, lambda: SOUND),
            Sample("d", "text", "qa", "two plus two ?", ("four",)),
        ),
    )
    path = write_data_folder(samples, tmp_path / "set")
    again = read_data_folder(path)
    assert again.name == "set"
    for sample, found in zip(samples, again, strict=True):
        record = found.record()
        record.pop("digest", None)
        assert record == sample.record()
        if sample.media is not None:
            assert found.load().dtype == sample.load().dtype
            np.testing.assert_array_equal(found.load(), sample.load())
    assert again[3].media is None
    assert read_data_folder(path, n=2).samples == again.samples[:2]
    assert [file.name for file in tmp_path.iterdir()] == ["set"]


def test_the_fingerprint_follows_the_media(tmp_path):
    Image.fromarray(IMAGE).save(tmp_path / "p.png")
    folder(tmp_path, line(modality="image", media="p.png"))
    before = read_data_folder(tmp_path).fingerprint
    assert read_data_folder(tmp_path).fingerprint == before
    Image.fromarray(255 - IMAGE).save(tmp_path / "p.png")
    assert read_data_folder(tmp_path).fingerprint != before


def test_a_failed_write_leaves_nothing(tmp_path):
    broken = SampleSet("x", "test", (Sample("a", "image", "qa", "what ?", ("red",)),))
    with pytest.raises(SampleError, match="no media"):
        write_data_folder(broken, tmp_path / "set")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ParameterError, match="exists"):
        write_data_folder(broken, tmp_path)


@pytest.mark.parametrize("ending", ["png", "webp", "jpg"])
def test_pictures_become_rgb(tmp_path, ending):
    grey = np.full((8, 8), 100, dtype=np.uint8)
    Image.fromarray(grey).save(tmp_path / f"p.{ending}")
    image = media_of(tmp_path, f"p.{ending}", "image")
    assert image.dtype == np.uint8
    assert image.shape == (8, 8, 3)
    assert np.abs(image.astype(int) - 100).max() <= 2


def test_clips_from_arrays_and_from_frames_in_the_order_of_their_names(tmp_path):
    np.save(tmp_path / "c.npy", CLIP)
    np.savez(tmp_path / "c.npz", frames=CLIP)
    (tmp_path / "frames").mkdir()
    for index in (2, 0, 1):
        Image.fromarray(CLIP[index]).save(tmp_path / "frames" / f"{index}.png")
    for name in ("c.npy", "c.npz", "frames"):
        np.testing.assert_array_equal(media_of(tmp_path, name, "video"), CLIP)


@pytest.mark.parametrize("rate", [8_000, 44_100])
@pytest.mark.parametrize("dtype", ["int16", "int32", "uint8", "float32"])
def test_sounds_are_resampled_to_16_khz(tmp_path, rate, dtype):
    def tone(at):
        return 0.5 * np.sin(2 * np.pi * 440 * np.arange(at) / at)

    stored = tone(rate)
    if dtype == "uint8":
        stored = np.round(stored * 128 + 128)
    elif dtype != "float32":
        stored = np.round(stored * -float(np.iinfo(dtype).min))
    stereo = np.stack([stored, stored], axis=1).astype(dtype)
    wavfile.write(tmp_path / "s.wav", rate, stereo)
    sound = media_of(tmp_path, "s.wav", "audio")
    assert sound.dtype == np.float32
    assert sound.shape == (16_000,)
    # The ends ring; the middle is the tone itself.
    assert np.abs(sound - tone(16_000))[500:-500].max() < 0.01


def test_a_sound_at_16_khz_is_taken_as_it_is(tmp_path):
    wavfile.write(tmp_path / "s.wav", 16_000, SOUND)
    np.testing.assert_array_equal(media_of(tmp_path, "s.wav", "audio"), SOUND)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([line(), line(id="b", modality="smell")], "line 2: modality: .*'image'.*found 'smell'"),
        ([line(), line()], "line 2: id 'a' stands in line 1 too"),
        ([line(prompt=" ", references=[""])], "line 1: empty text"),
        ([line(modality="image")], "line 1: 'a' has modality 'image' and no media"),
        ([line(media="p.png")], "line 1: 'a' has modality 'text' and media 'p.png'"),
        ([line(modality="image", media="p.png")], "line 1: media 'p.png' of 'a' is not in"),
        ([line(id=3)], "line 1: id: .*string.*found 3"),
        ([line(colour="red")], "line 1: colour: "),
        ([{"modality": "text", "task": "qa"}], "line 1: id: Field required"),
        ([], "holds no samples"),
    ],
)
def test_unusable_lines_are_named(tmp_path, lines, message):
    with pytest.raises(SampleError, match=message):
        read_data_folder(folder(tmp_path, *lines))


def test_malformed_json_is_named_by_its_line(tmp_path):
    raw = json.dumps(line()) + "\n\n{broken\n"
    with pytest.raises(SampleError, match="line 3: Invalid JSON"):
        read_data_folder(folder(tmp_path, raw=raw))


def test_a_folder_without_samples_says_what_it_needs(tmp_path):
    with pytest.raises(
        SampleError, match=r"holds no samples\.jsonl.*\"modality\": \"image\", \"task\""
    ):
        read_data_folder(tmp_path)


def test_more_samples_than_there_are(tmp_path):
    folder(tmp_path, line())
    with pytest.raises(ParameterError, match=r"between 1 and 1.*got 2"):
        read_data_folder(tmp_path, n=2)


@pytest.mark.parametrize(
    ("name", "modality", "content", "message"),
    [
        ("p.png", "image", b"not a picture", "Cannot read .*p.png as image"),
        ("p.svg", "image", b"<svg/>", "expected .png, .jpg, .*.tiff; found '.svg'"),
        ("s.wav", "audio", b"RIFF", "Cannot read .*s.wav as audio"),
        ("c.npy", "video", b"", "Cannot read .*c.npy as video"),
        ("c.npz", "video", b"PK\x03\x04", "Cannot read .*c.npz as video"),
    ],
)
def test_unreadable_media_are_named(tmp_path, name, modality, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SampleError, match=message):
        media_of(tmp_path, name, modality)


def test_clips_that_are_no_clips(tmp_path):
    np.savez(tmp_path / "two.npz", a=CLIP, b=CLIP)
    with pytest.raises(SampleError, match="must hold one array; found a, b"):
        media_of(tmp_path, "two.npz", "video")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SampleError, match=re.escape("holds no frames")):
        media_of(tmp_path, "empty", "video")


def test_a_container_is_read_at_the_middles_of_equal_spans(tmp_path):
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv420p"
        for number in range(64):
            frame = np.full((16, 32, 3), 3 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    clip = media_of(tmp_path, "a.mp4", "video")
    assert clip.shape == (32, 16, 32, 3)
    np.testing.assert_allclose(clip.mean(axis=(1, 2, 3)), 3 * (2 * np.arange(32) + 1), atol=6)


def test_flac_is_read(tmp_path):
    soundfile.write(tmp_path / "a.flac", SOUND, 16_000)
    np.testing.assert_allclose(media_of(tmp_path, "a.flac", "audio"), SOUND, atol=1e-4)


@pytest.mark.parametrize(("name", "modality"), [("a.mp4", "video"), ("a.flac", "audio")])
def test_a_damaged_container_is_named(tmp_path, name, modality):
    (tmp_path / name).write_bytes(b"no such thing")
    with pytest.raises(SampleError, match=f"{name} as {modality}"):
        media_of(tmp_path, name, modality)


@pytest.mark.parametrize("name", ["../out.png", "/etc/passwd", "link.png"])
def test_media_outside_the_folder_are_refused(tmp_path, name):
    inside = tmp_path / "set"
    inside.mkdir()
    Image.fromarray(IMAGE).save(tmp_path / "out.png")
    (inside / "link.png").symlink_to(tmp_path / "out.png")
    with pytest.raises(SampleError, match="lies outside"):
        read_data_folder(folder(inside, line(modality="image", media=name)))


def test_media_that_unpack_to_too_much_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("IMA_MAX_MEDIA_BYTES", "80")
    Image.fromarray(IMAGE).save(tmp_path / "p.png")
    np.savez_compressed(tmp_path / "c.npz", frames=CLIP)
    np.save(tmp_path / "c.npy", CLIP)
    (tmp_path / "frames").mkdir()
    Image.fromarray(IMAGE).save(tmp_path / "frames/0.png")
    soundfile.write(tmp_path / "s.flac", SOUND, 16_000)
    wavfile.write(tmp_path / "s.wav", 16_000, SOUND)
    # Few values, and many at 16 kHz.
    wavfile.write(tmp_path / "slow.wav", 1, SOUND[:4])
    for name, modality in [
        ("p.png", "image"),
        ("c.npz", "video"),
        ("c.npy", "video"),
        ("frames", "video"),
        ("s.flac", "audio"),
        ("s.wav", "audio"),
        ("slow.wav", "audio"),
    ]:
        with pytest.raises(SampleError, match=rf"{name} unpacks to \d+ bytes, more than 80"):
            media_of(tmp_path, name, modality)


def test_a_folder_is_checked_and_what_is_good_can_be_kept(tmp_path):
    Image.fromarray(IMAGE).save(tmp_path / "p.png")
    (tmp_path / "q.png").write_bytes(b"broken")
    folder(
        tmp_path,
        line(modality="image", media="p.png"),
        line(id="b", modality="image", media="q.png"),
        line(id="c", modality="image", media="r.png"),
        line(id="d"),
    )
    usable, problems = check_data_folder(tmp_path)
    assert [line.id for line in usable] == ["a", "d"]
    assert [problem.id for problem in problems] == ["b", "c"]
    kept = filter_data_folder(tmp_path, tmp_path / "kept", keep=usable)
    assert [sample.id for sample in read_data_folder(kept)] == ["a", "d"]
    with pytest.raises(ParameterError, match="nothing was written"):
        filter_data_folder(tmp_path, tmp_path / "none", keep=[])


def test_the_schema_says_what_the_reader_takes(tmp_path):
    import jsonschema

    validator = jsonschema.Draft202012Validator(make_sample_schema())
    assert validator.is_valid(line())
    assert not validator.is_valid(line(modality="smell"))
    assert not validator.is_valid({**line(), "extra": 1})


@pytest.mark.parametrize("split", ["train", "calibration", "validation", "test"])
def test_a_split_survives_the_disk(tmp_path, split):
    samples = open_samples(f"mini-image-qa:{split}", n=2)
    written = write_data_folder(samples, tmp_path / "folder")
    again = open_samples(f"{written}:{split}")
    assert (again.split, [own.id for own in again]) == (split, [own.id for own in samples])


def test_names_of_media_never_meet(tmp_path):
    # The third medium's second name is the name of the first.
    names = ["s3/000002-x.png", "s1/x.png", "s2/x.png", "s4/X.PNG"]
    sources = [tmp_path / name for name in names]
    for number, path in enumerate(sources):
        path.parent.mkdir()
        Image.new("RGB", (4, 4), (number, 0, 0)).save(path)
    before = [path.read_bytes() for path in sources]
    records = [make_sample_record(line(id=str(at), modality="image")) for at in range(4)]
    folder = write_sample_records(records, tmp_path / "folder", media=sources)
    assert [path.read_bytes() for path in sources] == before
    assert [int(own.load()[0, 0, 0]) for own in read_data_folder(folder)] == [0, 1, 2, 3]
    assert len({path.name.casefold() for path in (folder / "media").iterdir()}) == 4


def test_a_picture_of_several_questions_is_read_once(tmp_path, monkeypatch):
    sample = Sample("0", "image", "qa", "red ?", ("yes",), media=lambda: IMAGE)
    samples = (sample, replace(sample, id="1", prompt="blue ?"))
    path = write_data_folder(SampleSet("set", "test", samples), tmp_path / "set")
    lines = [json.loads(line) for line in (path / "samples.jsonl").read_text().splitlines()]
    lines[1]["media"] = lines[0]["media"]
    (path / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    hashed, whole = [], media.hash_media
    monkeypatch.setattr(media, "hash_media", lambda file: hashed.append(file) or whole(file))
    first, second = read_data_folder(path)
    assert len(hashed) == 1
    assert first.digest == second.digest == whole(hashed[0])
