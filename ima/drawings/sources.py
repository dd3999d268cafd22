"""The parts that the worlds of drawings and sounds are made of, as packages carry them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ima.packages import PackageArchive, PackageMember, Part

#: Who drew the pictures, by the name of a part's member; the last one's style is an outlier.
ARTISTS: tuple[str, ...] = ("noto", "twemoji", "fluent", "openmoji")

_ICONS = "package/icons.json"
_DRAWINGS = (
    (
        "noto",
        PackageArchive(
            "npm",
            "@iconify-json/noto",
            "1.2.9",
            "iconify-json-noto-1.2.9.tgz",
            3_102_958,
            "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad",
        ),
        25_233_364,
        "9eac6ef4e7ec122b6f0e7ac281d61008afdbc720d0ce861e398b939daaa347c6",
    ),
    (
        "twemoji",
        PackageArchive(
            "npm",
            "@iconify-json/twemoji",
            "1.2.5",
            "iconify-json-twemoji-1.2.5.tgz",
            1_555_888,
            "19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7",
        ),
        10_187_099,
        "5d5d820790565b764f2728675d487c9ee4c1fc83916d8567d5aca8ba7527c242",
    ),
    (
        "fluent",
        PackageArchive(
            "npm",
            "@iconify-json/fluent-emoji-flat",
            "1.2.6",
            "iconify-json-fluent-emoji-flat-1.2.6.tgz",
            1_172_438,
            "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175",
        ),
        8_958_092,
        "f5f4cf457c0db2ad5a2e42e033e02e0c87d10e43d0164cfffb3bb84914970a63",
    ),
    (
        "openmoji",
        PackageArchive(
            "npm",
            "@iconify-json/openmoji",
            "1.2.29",
            "iconify-json-openmoji-1.2.29.tgz",
            1_264_633,
            "03181e2c156cab35cf4a62f1f7886bd971d59212e75ac3f189d5a4cae3930fc5",
        ),
        9_079_991,
        "7075331faab544067dbff4236471dd378bb5410aa05799a8a343c9ebf5c5984c",
    ),
)
_NAMES = PackageArchive(
    "npm",
    "unicode-emoji-json",
    "0.9.0",
    "unicode-emoji-json-0.9.0.tgz",
    71_855,
    "ae7efacb55533385bf8767d613dbd36c71226669759d95919a6e9059f5e4c401",
)

DRAWINGS_PART = Part(
    name="drawings",
    kind="data",
    description="drawings of 128 nouns by four artists, and their names and groups",
    made_by="Google (Noto), Twitter (Twemoji), Microsoft (Fluent), the OpenMoji project; packed by "
    "Iconify; names from Unicode, packed by Mu-An Chiou",
    licence="Apache-2.0 (Noto), CC BY 4.0 (Twemoji), MIT (Fluent), CC BY-SA 4.0 (OpenMoji), MIT "
    "(names)",
    archives=(*(archive for _, archive, _, _ in _DRAWINGS), _NAMES),
    members=(
        *(
            PackageMember(_ICONS, size, sha256, package=archive.package, name=artist)
            for artist, archive, size, sha256 in _DRAWINGS
        ),
        PackageMember(
            "package/data-by-emoji.json",
            387_444,
            "2ebd44d5c66459b48aadbb34ad21161850da6c9b74036dce9097b2bfad9b2c23",
            package=_NAMES.package,
            name="names",
        ),
    ),
    convert="ima.drawings.rendering:render_drawings",
    fetched_size=2_440_000,
)

#: Every part of the worlds, by name.
DATA_PARTS: Mapping[str, Part] = MappingProxyType({part.name: part for part in (DRAWINGS_PART,)})
