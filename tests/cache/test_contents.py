"""Which samples are one content: an id means nothing outside its data set."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tinycaches import snapshot

from ima.cache.cache_set import open_cache_set
from ima.cache.provenance import parse_cache_layout
from ima.cache.reader import read_cache_attributes
from ima.cache.store import build_store_metadata, locate_store
from ima.cache.transfer import pull_cache, push_cache
from ima.cache.verification import verify_cache
from ima.capture.repair import repair_cache
from ima.capture.writer import create_cache
from ima.data.folders import read_data_folder, write_data_folder
from ima.data.importers.rows import make_samples_from_rows
from ima.data.sample_records import SAMPLES_FILE
from ima.data.samples import open_samples
from ima.errors import CacheError
from ima.measures.token_pairs import compute_token_pair_terms
from ima.stats.resampling import draw_dataset_weights, list_sample_contents

MODEL = "llama-mini/vit/image-caption"


def write_folder(folder: Path, contents: list[str | None]) -> Path:
    """Write a folder of pictures that are numbered from 0."""
    chosen = open_samples("mini-image-caption", n=len(contents))
    write_data_folder(chosen, folder)
    lines = [json.loads(line) for line in (folder / SAMPLES_FILE).read_text().splitlines()]
    for number, (line, content) in enumerate(zip(lines, contents, strict=True)):
        line |= {"id": str(number), "truth": {}}
        line.pop("content")
        if content is not None:
            line["content"] = content
    (folder / SAMPLES_FILE).write_text("\n".join(map(json.dumps, lines)))
    return folder


def cache(dataset: str, path: Path, n: int = 4) -> Path:
    settings = {"samples": n, "hook_points": ["resid_post"], "progress": False, "predict": False}
    return Path(create_cache(MODEL, dataset=dataset, path=path, **settings))


@pytest.fixture
def open_means(tiny_zoo, tmp_path):
    def open_them(**datasets):
        paths = [cache(each, tmp_path / f"{name}.zarr") for name, each in datasets.items()]
        return open_cache_set(paths).means

    return open_them


def count_contents(means) -> tuple[int, int]:
    """Return the numbers of contents and of groups of data sets that share some."""
    listed = list_sample_contents(means)
    *_, n = draw_dataset_weights(means, resamples=2, seed=0)
    assert n == listed["content"].nunique()
    return n, listed["stratum"].nunique()


def test_unrelated_folders_never_merge(open_means, tmp_path):
    first = write_folder(tmp_path / "first", [None] * 4)
    second = write_folder(tmp_path / "second", [None] * 4)
    assert count_contents(open_means(a=str(first), b=str(second))) == (8, 2)


def test_contents_that_a_manifest_names_are_shared(open_means, tmp_path):
    first = write_folder(tmp_path / "first", ["cat", "cat", "dog", None])
    second = write_folder(tmp_path / "second", ["dog", None, None, "cat"])
    # Cat, dog, and what is not named: one in the first, two in the second.
    assert count_contents(open_means(a=str(first), b=str(second))) == (5, 1)


def test_samples_of_a_world_share_their_ids_also_in_folders(open_means, tmp_path):
    named = open_means(a="mini-image-caption", b="mini-image-qa")
    assert count_contents(named) == (4, 1)
    for task in ("caption", "qa"):
        write_data_folder(open_samples(f"mini-image-{task}", n=4), tmp_path / task)
    assert count_contents(open_means(c=str(tmp_path / "caption"), d=str(tmp_path / "qa"))) == (4, 1)


def test_a_cache_of_a_folder_is_whole(tiny_zoo, tmp_path):
    path = cache(
        str(write_folder(tmp_path / "data", ["cat", "cat", "dog", None])), tmp_path / "a.zarr"
    )
    assert verify_cache(path).ok
    push_cache(path, target=tmp_path / "b.zarr")
    pull_cache(tmp_path / "b.zarr", path=tmp_path / "c.zarr")
    assert {key: (tmp_path / "c.zarr" / key).read_bytes() for key in snapshot(path)} == snapshot(
        path
    )
    (path / "samples/content/c/0").write_bytes(b"")
    (path / "means/resid_post/mean/c/0/0/0/0").unlink()
    damaged = verify_cache(path)
    assert not damaged.ok
    repair_cache(path)
    assert snapshot(path) == snapshot(tmp_path / "c.zarr")


def test_a_cache_that_does_not_say_that_it_holds_contents_is_whole(tiny_zoo, tmp_path):
    path = cache(str(write_folder(tmp_path / "data", ["cat", "dog"])), tmp_path / "a.zarr", n=2)
    root = json.loads((path / "zarr.json").read_text())
    attributes = {**root["attributes"], "layout": dict(root["attributes"]["layout"])}
    assert attributes["layout"].pop("contents") is True
    attributes.pop("sha256", None)
    layout = parse_cache_layout(read_cache_attributes(locate_store(path)))
    for key, content in build_store_metadata(layout.arrays(), attributes).items():
        if key.endswith("zarr.json"):
            (path / key).write_bytes(content)
    assert "contents" not in json.loads((path / "zarr.json").read_text())["attributes"]["layout"]
    assert verify_cache(path).ok
    # It is finished: the same command has nothing to do.
    assert cache(str(tmp_path / "data"), path, n=2) == path
    (path / "zarr.json").write_bytes(b"")
    repair_cache(path)
    assert verify_cache(path).ok


def test_the_content_is_in_the_fingerprint_only_if_it_is_named(tmp_path):
    plain = read_data_folder(write_folder(tmp_path / "first", [None] * 2))
    named = read_data_folder(write_folder(tmp_path / "second", ["cat", "dog"]))
    assert "content" not in plain[0].record()
    assert named[0].record()["content"] == "cat"
    assert plain.fingerprint != named.fingerprint
    assert (
        plain[0].content_key
        != read_data_folder(write_folder(tmp_path / "third", [None] * 2))[0].content_key
    )


def test_rows_may_share_a_column():
    rows = [{"q": "red ?", "a": "yes", "image_id": 7}, {"q": "big ?", "a": "no", "image_id": 7}]
    given = {"modality": "text", "task": "qa", "prompt": "{q}", "references": "a"}
    shared = make_samples_from_rows(rows, content="image_id", **given)
    assert [sample.content_key for sample in shared] == ["7", "7"]
    apart = make_samples_from_rows(rows, **given)
    assert len({sample.content_key for sample in apart}) == 2


def test_pairs_of_tokens_need_tokens():
    with pytest.raises(CacheError, match="--keep-tokens"):
        compute_token_pair_terms({})
