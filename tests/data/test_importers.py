"""Importers: small files in the forms in which the data sets' owners publish them."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from PIL import Image
from scipy.io import wavfile

from ima.data.importers.entries import import_data
from ima.data.importers.registry import load_importers
from ima.data.importers.rows import make_samples_from_rows
from ima.data.sample_records import make_sample_record
from ima.data.samples import open_samples
from ima.errors import ParameterError, SampleError, UnknownNameError
from ima.metrics.sample_scores import SampleScorer

RNG = np.random.default_rng(0)


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, (6, 5, 3), dtype=np.uint8)).save(path)


def sound(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    wavfile.write(path, 16_000, RNG.uniform(-1, 1, 400).astype(np.float32))


def clip(path):
    for number in range(3):
        picture(path / f"{number}.png")


def dump(path, value):
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def coco(folder):
    picture(folder / "media" / "000000000009.jpg")
    picture(folder / "media" / "000000000025.jpg")
    images = [
        {"id": 25, "file_name": "000000000025.jpg"},
        {"id": 9, "file_name": "000000000009.jpg"},
    ]
    captions = [
        {"image_id": 9, "id": 1, "caption": "A dog.\n"},
        {"image_id": 25, "id": 2, "caption": "Two  giraffes."},
        {"image_id": 9, "id": 3, "caption": "A brown dog."},
    ]
    instances = [{"image_id": 9, "category_id": 18}, {"image_id": 9, "category_id": 1}]
    return [
        dump(folder / "instances.json", {"images": images, "annotations": instances, "categories": [
            {"id": 18, "name": "dog"}, {"id": 1, "name": "person"}]}),
        dump(folder / "captions.json", {"images": images, "annotations": captions}),
    ]  # fmt: skip


def vqa(folder):
    picture(folder / "media" / "COCO_val2014_000000000042.jpg")
    answers = [
        {"answer": a, "answer_id": i} for i, a in enumerate(["no", "yes", "yes", "no", "yes"])
    ]
    return [
        dump(folder / "annotations.json", {"annotations": [
            {"question_id": 420, "image_id": 42, "answers": answers, "answer_type": "yes/no"}]}),
        dump(folder / "questions.json", {"data_subtype": "val2014", "questions": [
            {"question_id": 420, "image_id": 42, "question": "Is it red? "}]}),
    ]  # fmt: skip


def gqa(folder):
    picture(folder / "media" / "n1.jpg")
    entry = {"question": "What is it?", "imageId": "n1", "answer": "pipe", "fullAnswer": "A pipe."}
    return [dump(folder / "questions.json", {"201": entry})]


def textvqa(folder):
    picture(folder / "media" / "a1.jpg")
    entry = {
        "question_id": 7,
        "image_id": "a1",
        "question": "Brand?",
        "answers": ["x", "nous", "nous"],
    }
    return [dump(folder / "val.json", {"dataset_type": "val", "data": [entry]})]


def pope(folder):
    picture(folder / "media" / "COCO_val2014_000000000042.jpg")
    line = {
        "question_id": 1,
        "image": "COCO_val2014_000000000042.jpg",
        "text": "Is there a dog in the image?",
        "label": "yes",
    }
    path = folder / "coco_pope_random.json"
    path.write_text(json.dumps(line) + "\n" + json.dumps({**line, "question_id": 2, "label": "no"}))
    return [path]


def msrvtt(folder):
    clip(folder / "media" / "video0")
    document = {
        "videos": [{"video_id": "video0", "split": "test"}],
        "sentences": [{"video_id": "video0", "caption": c} for c in ("a man", "a man runs")],
    }
    return [dump(folder / "videodatainfo.json", document)]


def msvd(folder):
    clip(folder / "media" / "v_1_10")
    path = folder / "AllVideoDescriptions.txt"
    path.write_text("# Microsoft\nv_1_10 a bird in a sink\nv_1_10 a bird bathes\n")
    return [path]


def audiocaps(folder):
    sound(folder / "media" / "Yabc.wav")
    path = folder / "test.csv"
    path.write_text(
        'audiocap_id,youtube_id,start_time,caption\n1,abc,30,"Rain, hard"\n2,abc,30,It rains\n'
    )
    return [path]


def clotho(folder):
    sound(folder / "media" / "Bell 1.wav")
    path = folder / "clotho.csv"
    path.write_text(
        "file_name,caption_1,caption_2,caption_3,caption_4,caption_5\nBell 1.wav,a,b,c,d,e\n"
    )
    return [path]


def clothoaqa(folder):
    sound(folder / "media" / "Bell 1.wav")
    path = folder / "clotho_aqa.csv"
    rows = ["no", "yes", "yes"]
    path.write_text(
        "file_name,QuestionText,answer,confidence\n"
        + "".join(f"Bell 1.wav,Is it loud?,{answer},yes\n" for answer in rows)
    )
    return [path]


def table(folder):
    picture(folder / "media" / "a.png")
    sound(folder / "media" / "b.wav")
    rows = ["file,caption,caption_2,who", "a.png,A red ball.,A ball,me", 'b.wav,"Rain, hard",,you']
    path = folder / "captions.csv"
    path.write_text("\n".join([*rows, "a,Again,,me"]) + "\n")
    return [path]


def sidecars(folder):
    picture(folder / "media" / "a.png")
    path = folder / "texts"
    path.mkdir()
    (path / "a.txt").write_text("A red ball.\n\nA ball\n")
    return [path]


# Of each: what makes its files, then modality, task, references and prompt of its first sample.
CASES = {
    "coco": (coco, "image", "caption", ("Two giraffes.",), "Describe the image in one sentence."),
    "vqav2": (vqa, "image", "qa", ("yes", "yes", "yes", "no", "no"), "Is it red?"),
    "okvqa": (vqa, "image", "qa", ("yes", "yes", "yes", "no", "no"), "Is it red?"),
    "gqa": (gqa, "image", "qa", ("pipe",), "What is it?"),
    "textvqa": (textvqa, "image", "qa", ("nous", "nous", "x"), "Brand?"),
    "pope": (pope, "image", "qa", ("yes",), "Is there a dog in the image?"),
    "msrvtt": (msrvtt, "video", "caption", ("a man", "a man runs"), "Describe the video"),
    "msvd": (msvd, "video", "caption", ("a bird in a sink", "a bird bathes"), "Describe the video"),
    "audiocaps": (audiocaps, "audio", "caption", ("Rain, hard", "It rains"), "Describe the sound"),
    "clotho": (clotho, "audio", "caption", ("a", "b", "c", "d", "e"), "Describe the sound"),
    "table": (table, "image", "caption", ("A red ball.", "A ball"), "Describe the image"),
    "sidecars": (sidecars, "image", "caption", ("A red ball.", "A ball"), "Describe the image"),
    "clothoaqa": (clothoaqa, "audio", "qa", ("yes", "yes", "no"), "Is it loud?"),
}


def imported(kind, folder, **given):
    files = CASES[kind][0](folder)
    return import_data(kind, annotations=files, media=folder / "media", out=folder / "out", **given)


def test_every_importer_is_tried():
    assert set(CASES) == set(load_importers())


@pytest.mark.parametrize("kind", list(CASES))
def test_published_files_become_samples(kind, tmp_path):
    _, modality, task, references, prompt = CASES[kind]
    samples = open_samples(str(imported(kind, tmp_path)))
    first = samples[0]
    assert (first.modality, first.task) == (modality, task)
    assert sorted(first.references) == sorted(references)
    assert first.references[0] == references[0]
    assert first.prompt.startswith(prompt)
    for sample in samples:
        assert sample.load().size
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_answers_are_scored_by_the_rules_of_their_owners(tmp_path):
    polls = open_samples(str(imported("pope", tmp_path / "a")))
    scorer = SampleScorer(polls)
    assert scorer.metrics[0] == "pope"
    said = ["Yes, there is a dog in the image.", "No, there is none."]
    assert scorer(polls, said)[:, 0].tolist() == [1, 1]
    assert scorer(polls, said[::-1])[:, 0].tolist() == [0, 0]
    heard = open_samples(str(imported("clothoaqa", tmp_path / "b")))
    assert heard[0].truth == {"majority": "yes"}
    scores = dict(
        zip(SampleScorer(heard).metrics, SampleScorer(heard)(heard, ["no"])[0], strict=True)
    )
    assert scores["majority_match"] == 0
    assert scores["vqa_accuracy"] == pytest.approx(1 / 3)


def test_coco_keeps_what_is_there_and_pope_its_label(tmp_path):
    samples = open_samples(str(imported("coco", tmp_path / "a")))
    assert [sample.id for sample in samples] == ["25", "9"]
    assert samples[1].truth == {"objects": ["dog", "person"]}
    assert samples[1].references == ("A dog.", "A brown dog.")
    labels = [s.truth["label"] for s in open_samples(str(imported("pope", tmp_path / "b")))]
    assert labels == ["yes", "no"]


def test_media_are_linked_once(tmp_path):
    out = imported("pope", tmp_path)
    (linked,) = (out / "media").iterdir()
    assert linked.samefile(tmp_path / "media" / linked.name)


def test_the_prompt_and_the_number_can_be_chosen(tmp_path):
    out = imported("pope", tmp_path, prompt="Q: {question} A:", samples=1)
    (sample,) = open_samples(str(out))
    assert sample.prompt == "Q: Is there a dog in the image? A:"


def test_missing_media_are_named_and_left_out_only_when_asked(tmp_path):
    files = coco(tmp_path)
    (tmp_path / "media" / "000000000009.jpg").unlink()
    given = {"annotations": files, "media": tmp_path / "media", "out": tmp_path / "out"}
    with pytest.raises(SampleError, match=r"missing: '9' \(.*000000000009.jpg\).*--skip-missing"):
        import_data("coco", **given)
    assert not (tmp_path / "out").exists()
    assert len(open_samples(str(import_data("coco", **given, skip_missing=True)))) == 1


def test_files_of_another_kind_are_refused(tmp_path):
    files = gqa(tmp_path)
    given = {"annotations": files, "media": tmp_path / "media", "out": tmp_path / "out"}
    with pytest.raises(SampleError, match="No annotation file holds 'images' and 'annotations'"):
        import_data("coco", **given)
    with pytest.raises(SampleError, match=r"lacks the columns caption_1, .*found"):
        import_data("clotho", **given)
    with pytest.raises(UnknownNameError, match="Did you mean 'coco'"):
        import_data("cocoo", **given)
    with pytest.raises(ParameterError, match=r"does not exist\. Give captions_val2017"):
        import_data("coco", annotations=[tmp_path / "no.json"], media=None, out=tmp_path / "out")
    bad = tmp_path / "bad.json"
    bad.write_text("{")
    with pytest.raises(SampleError, match=r"bad\.json is not JSON"):
        import_data("gqa", annotations=[bad], media=None, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_rows_become_samples():
    pixels = RNG.integers(0, 256, (6, 5, 3), dtype=np.uint8)
    rows = [{"image": Image.fromarray(pixels), "q": "what ?", "a": ["red", "crimson"], "n": 4}]
    given = {"modality": "image", "task": "qa", "media": "image", "references": "a"}
    (sample,) = make_samples_from_rows(rows, prompt="{q} Answer:", id="n", **given)
    assert (sample.id, sample.prompt, sample.references) == (
        "4",
        "what ? Answer:",
        ("red", "crimson"),
    )
    np.testing.assert_array_equal(sample.load(), pixels)
    with pytest.raises(SampleError, match=r"row 0: no column 'b'\. Columns: image, q, a, n"):
        make_samples_from_rows(rows, **{**given, "references": "b"})
    wave = {"array": np.zeros(800), "sampling_rate": 8000}
    (heard,) = make_samples_from_rows(
        [{"audio": wave, "text": "silence"}],
        modality="audio", task="caption", media="audio", references="text",
    )  # fmt: skip
    assert heard.load().shape == (1600,)
    with pytest.raises(SampleError, match=r"row 0: expected a picture; found str"):
        make_samples_from_rows([{"image": "a.png", "a": "x"}], **given)


class Library(dict):
    """Stand in for Hugging Face's library, which is optional."""

    def load_dataset(self, name, configuration, *, split):
        return self[name, configuration, split]

    def load_from_disk(self, path):
        return self[path]


def command(*words):
    """Run the command line and return its exit code."""
    from ima.cli import main

    with pytest.raises(SystemExit) as stopped:
        main([*map(str, words)])
    return stopped.value.code


def test_a_data_set_of_the_library_becomes_a_folder(tmp_path, monkeypatch, capsys):
    pixels = RNG.integers(0, 256, (6, 5, 3), dtype=np.uint8)
    rows = [{"image": Image.fromarray(pixels), "q": f"{n} ?", "a": "red"} for n in range(3)]
    saved = tmp_path / "saved"
    saved.mkdir()
    library = Library({("org/set", "small", "test"): rows, str(saved): {"test": rows[:1]}})
    monkeypatch.setitem(sys.modules, "datasets", library)
    given = ["--modality", "image", "--media", "image", "--references", "a", "--prompt", "{q}"]
    out = tmp_path / "out"
    assert command("data", "rows", "org/set:small", "--out", out, "--samples", 2, *given) == 0
    samples = open_samples(str(out))
    assert [sample.prompt for sample in samples] == ["0 ?", "1 ?"]
    np.testing.assert_array_equal(samples[0].load(), pixels)
    assert command("data", "rows", saved, "--out", tmp_path / "again", *given) == 0
    assert len(open_samples(str(tmp_path / "again"))) == 1
    assert command("data", "rows", "org/none", "--out", tmp_path / "none", *given) == 1
    assert "Cannot open 'org/none'" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert command("data", "rows", "org/set", "--out", tmp_path / "none", *given) == 1
    assert "pip install datasets" in capsys.readouterr().err


def test_the_commands_import_check_and_describe(tmp_path, capsys):
    files = [word for path in coco(tmp_path) for word in ("--annotations", path)]
    given = [*files, "--media", tmp_path / "media"]
    assert command("data", "import") == 0
    assert "captions_val2017.json" in " ".join(capsys.readouterr().out.split())
    assert command("data", "import", "coco", *given, "--out", tmp_path / "out") == 0
    assert command("data", "check", tmp_path / "out") == 0
    assert f"Every sample of {tmp_path / 'out'} can be used: 2." in capsys.readouterr().out
    (tmp_path / "out" / "media" / "000000000009.jpg").unlink()
    assert command("data", "check", tmp_path / "out") == 1
    assert "1 of 2 samples cannot be used" in capsys.readouterr().out
    kept = ["--keep", tmp_path / "kept one"]
    assert command("data", "check", tmp_path / "out", *kept) == 0
    said = capsys.readouterr().out
    assert "holds 1 samples; left out: 1. Next: ima cache create --dataset '" in said
    assert command("data", "check", tmp_path / "out", *kept) == 1
    assert "kept one exists. Give --keep a folder" in capsys.readouterr().err
    (tmp_path / "kept one").rename(tmp_path / "kept")
    assert command("data", "check", tmp_path / "kept") == 0
    assert len(open_samples(str(tmp_path / "kept"))) == 1
    capsys.readouterr()
    assert command("data", "schema") == 0
    assert json.loads(capsys.readouterr().out)["title"] == "SampleRecord"
    assert command("data", "import", "coco", "--out", tmp_path / "x") == 1
    assert "--annotations" in capsys.readouterr().err


def test_a_check_sees_splits_and_refuses_a_folder_without_samples(tmp_path, capsys):
    lines = [
        {"id": str(at), "modality": "text", "task": "qa", "prompt": "a?", "references": ["b"]}
        for at in range(30)
    ]
    path = tmp_path / "my data"
    path.mkdir()
    file = path / "samples.jsonl"
    file.write_text("".join(json.dumps({**line, "split": "train"}) + "\n" for line in lines))
    assert command("data", "check", path) == 0
    assert ["train", "text", "qa", "30"] in [
        row.split() for row in capsys.readouterr().out.splitlines()
    ]
    assert command("data", "check", f"{path}:calibration") == 1
    assert "No sample of" in capsys.readouterr().out
    assert command("data", "check", f"{path}:dev") == 1
    assert "Unknown split of" in capsys.readouterr().err
    file.write_text("".join(json.dumps({**line, "references": []}) + "\n" for line in lines))
    assert command("data", "check", path) == 1
    said = capsys.readouterr().out
    assert "… and 10 more samples that cannot be used." in said
    file.write_text(json.dumps(lines, indent=1))
    assert command("data", "check", path) == 1
    assert "is one JSON array" in capsys.readouterr().err
    file.write_text("")
    assert command("data", "check", path) == 1
    for name, message in {
        "nowhere": "There is no folder nowhere",
        file: "is a file. Give the folder",
        "mini-image-caption": "mini-image-caption is generated",
    }.items():
        assert command("data", "check", name) == 1
        assert message in " ".join(capsys.readouterr().err.split())
    with pytest.raises(UnknownNameError, match=r"Unknown split of .*my data"):
        open_samples(f"{path}:bogus")


def test_train_says_what_it_lacks(capsys):
    assert command("train", "--pair", "list") == 0
    assert "opt-6.7b/vit" in capsys.readouterr().out
    assert command("train", "--pair", "opt-6.7b/vitt") == 1
    assert "Did you mean 'opt-6.7b/vit'" in capsys.readouterr().err
    assert command("train", "--pair", "opt-6.7b/vit") == 1
    assert "Give --data, --out" in capsys.readouterr().err


def test_a_split_that_the_publisher_states_is_kept(tmp_path):
    names = {"video0": "train", "video1": "validate", "video2": "test", "video3": ""}
    for name in names:
        clip(tmp_path / "media" / name)
    document = {
        "videos": [{"video_id": name, "split": split} for name, split in names.items()],
        "sentences": [{"video_id": name, "caption": "a man"} for name in names],
    }
    files = [dump(tmp_path / "videodatainfo.json", document)]
    given = {"annotations": files, "media": tmp_path / "media"}
    out = import_data("msrvtt", out=tmp_path / "out", split="calibration", **given)
    for name, split in zip(names, ("train", "validation", "test", "calibration"), strict=True):
        assert [sample.id for sample in open_samples(f"{out}:{split}")] == [name]
    with pytest.raises(UnknownNameError, match="Unknown split 'dev'"):
        import_data("msrvtt", out=tmp_path / "other", split="dev", **given)


def test_no_annotation_file_is_passed_over(tmp_path):
    instances, captions = coco(tmp_path)
    picture(tmp_path / "media" / "000000000077.jpg")
    more = {
        "images": [{"id": 77, "file_name": "000000000077.jpg"}],
        "annotations": [{"image_id": 77, "id": 9, "caption": "A bird."}],
    }
    files = [captions, dump(tmp_path / "captions_train.json", more), instances]
    given = {"media": tmp_path / "media"}
    out = import_data("coco", annotations=files, out=tmp_path / "out", **given)
    assert [sample.id for sample in open_samples(str(out))] == ["25", "9", "77"]
    # Where files of one kind cannot be joined, the import says so.
    files = vqa(tmp_path)
    again = tmp_path / "more_questions.json"
    again.write_bytes(files[1].read_bytes())
    with pytest.raises(SampleError, match=r"2 annotation files hold .*more_questions\.json"):
        import_data("vqav2", annotations=[*files, again], out=tmp_path / "other", **given)
    assert not (tmp_path / "other").exists()


def test_media_behind_symbolic_links_are_read(tmp_path):
    files = coco(tmp_path)
    (tmp_path / "media").rename(tmp_path / "blobs")
    (tmp_path / "media").mkdir()
    for path in (tmp_path / "blobs").iterdir():
        (tmp_path / "media" / path.name).symlink_to(f"../blobs/{path.name}")
    out = import_data("coco", annotations=files, media=tmp_path / "media", out=tmp_path / "out")
    assert all(sample.load().shape == (6, 5, 3) for sample in open_samples(str(out)))


def read_one(folder, name, text, **given):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    out = folder / f"out-{name}"
    return open_samples(str(import_data("table", annotations=[path], out=out, **given)))


def test_a_table_says_what_its_columns_are_called(tmp_path):
    picture(tmp_path / "a.png")
    rows = [
        {"image": "a", "question": "Red?", "answer": ["yes", "red"], "sure": True},
        {"image": "a", "question": "Red?", "answers": "yes"},
        {"image": "a.png", "question": "How many?", "answer": 3},
    ]
    asked = read_one(tmp_path, "q.json", json.dumps(rows), media=tmp_path)
    assert [sample.references for sample in asked] == [("yes", "red", "yes"), ("3",)]
    assert asked[0].truth == {"sure": True}
    assert asked[1].prompt.startswith("How many? ")
    assert asked[0].content_key == asked[1].content_key
    lines = "".join(
        json.dumps({"id": key, "question": "Cold?", "answer": "no", "split": "train"}) + "\n"
        for key in "ab"
    )
    (tmp_path / "t.jsonl").write_text(lines)
    out = import_data("table", annotations=[tmp_path / "t.jsonl"], media=None, out=tmp_path / "t")
    told = open_samples(f"{out}:train")
    assert [(sample.id, sample.modality) for sample in told] == [("a", "text"), ("b", "text")]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "file;caption\na.png;red\n", "a caption is needed.*found file;caption"),
        (
            "b.csv",
            "file,caption\na.png,red, round\n",
            "has 3 columns and the header 2.*need quotes",
        ),
        ("c.csv", "caption\nred\n", "a caption needs a medium"),
        ("d.csv", "file,question\na.png,Red?\n", "a question and an answer"),
        ("e.csv", "file,caption,split\na.png,red,dev\n", "split is 'dev'; give one of train"),
        ("f.csv", "id,question,answer\n1,a?,b\n1,c?,d\n", "the id '1' stands in another row"),
        ("g.xlsx", "", "is no table. Tables are .csv"),
        ("h.csv", "file,image,caption\na.png,b.png,red\n", "two columns say media"),
        ("i.json", '{"file": "a.png"}', "should hold a list of objects"),
        ("j.jsonl", '{"file": "a.png", "caption": {"en": "x"}}\n', "caption should be a text"),
        ("k.csv", "file,caption\nz.png,red\n", "Media are missing: '0'"),
    ],
)
def test_what_is_wrong_in_a_table_is_said_with_its_line(tmp_path, name, text, message):
    picture(tmp_path / "a.png")
    with pytest.raises(SampleError, match=message):
        read_one(tmp_path, name, text, media=tmp_path)
    assert not (tmp_path / f"out-{name}").exists()


def test_clips_of_one_video_are_told_apart(tmp_path):
    media = tmp_path / "media"
    for name in ("abc", "abc_30", "Yabc_40"):
        sound(media / f"{name}.wav")
    path = tmp_path / "test.csv"
    head = "audiocap_id,youtube_id,start_time,caption\n"
    path.write_text(head + "1,abc,30,Rain\n2,abc,40,Wind\n", encoding="utf-8")
    given = {"annotations": [path], "media": media}
    samples = open_samples(str(import_data("audiocaps", out=tmp_path / "out", **given)))
    assert [sample.content for sample in samples] == ["abc_30.wav", "Yabc_40.wav"]
    (media / "Yabc_40.wav").unlink()
    with pytest.raises(SampleError, match=r"abc\.wav may be any of 2 clips of abc.*abc_40\.wav"):
        import_data("audiocaps", out=tmp_path / "other", **given)


def test_a_published_file_names_no_medium_outside_its_folder(tmp_path):
    picture(tmp_path / "secret.png")
    picture(tmp_path / "media" / "a.png")
    for name in ("../secret.png", str(tmp_path / "secret.png")):
        rows = [{"file": name, "caption": "x"}]
        with pytest.raises(SampleError, match="lies outside the folder of media"):
            read_one(tmp_path, "rows.json", json.dumps(rows), media=tmp_path / "media")
    # Without a folder of media, a table of one's own says where they are.
    assert read_one(tmp_path, "rows.json", json.dumps(rows), media=None)[0].load().size


def test_a_picture_of_a_row_may_be_a_path(tmp_path):
    picture(tmp_path / "a.png")
    rows = [{"image": {"bytes": None, "path": str(tmp_path / "a.png")}, "answer": "a"}]
    given = {"modality": "image", "task": "qa", "media": "image", "references": "answer"}
    samples = make_samples_from_rows(rows, **given)
    assert samples[0].load().shape == (6, 5, 3)


def test_what_an_import_asks_for_is_said_before_it_reads(tmp_path, capsys):
    assert command("data", "import", "COCO") == 1
    assert "Unknown kind of data 'COCO'. Did you mean 'coco'?" in capsys.readouterr().err
    rows = tmp_path / "rows.json"
    rows.write_text('[{"file": "a.png", "caption": "x"}]', encoding="utf-8")
    given = ["--annotations", rows, "--out", tmp_path / "out"]
    for words, message in {
        (): "Say where they are: --media DIR",
        ("--prompt", "{title}"): "--prompt names title",
    }.items():
        assert command("data", "import", "table", *given, *words) == 1
        assert message in " ".join(capsys.readouterr().err.split())
    picture(tmp_path / "a.png")
    here = ["--media", tmp_path, "--prompt", "{question}"]
    assert command("data", "import", "table", *given, *here) == 1
    assert "asks for the question of '0', which has none" in capsys.readouterr().err
    with pytest.raises(SampleError, match="Did you mean 'caption'"):
        make_sample_record({"id": "1", "modality": "text", "task": "Captions", "prompt": "a"})
