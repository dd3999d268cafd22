"""A zoo of tiny models with random weights, on disk as the real one, made within seconds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    ASTConfig,
    ASTModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    TimesformerConfig,
    TimesformerModel,
    ViTConfig,
    ViTModel,
)

from ima.files import hash_file, read_json, write_json
from ima.miniature.examination import EXAMINATION_VERSION
from ima.miniature.multitask import ALTERNATE_BLOCKS_PLAN, make_projector_config
from ima.models import llava, zoo
from ima.models.connector import Connector, ConnectorConfig
from ima.training.loop import save_weights

LANGUAGE = "llama-mini"
ENCODERS = {"vit": "image", "timesformer": "video", "ast": "audio"}
# Which encoders each language model is connected to.
CONNECTED = {LANGUAGE: list(ENCODERS), "opt-mini": ["vit"]}
NAMES = list(CONNECTED) + [
    f"{language}/{encoder}/{ENCODERS[encoder]}-{task}"
    for language, encoders in CONNECTED.items()
    for encoder in encoders
    for task in ("caption", "qa")
]
SENTENCES = [
    "caption : a small red circle left of a large blue square .",
    "question : what colour is the circle ? answer : red",
    "question : how many objects are there ? answer : three",
    "question : what is heard first ? answer : a loud high flute",
    "a green triangle moves right while a yellow star blinks .",
    "abcdefghijklmnopqrstuvwxyz 0 1 2 3 4 5 6 7 8 9",
]
WIDTH = 16


def make_zoo(root: Path, *, seed: int = 0) -> Path:
    """Write the zoo and return its folder."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        first = _language(root / "language" / LANGUAGE, seed=seed)
        eyes = {
            encoder: _encoder(root / "encoders" / encoder, encoder, modality, seed=seed)
            for encoder, modality in ENCODERS.items()
        }
        for language, encoders in CONNECTED.items():
            own = root / "language" / language
            sha = first if language == LANGUAGE else _language(own, seed=seed)
            for encoder in encoders:
                for task in ("caption", "qa"):
                    name = f"{language}/{encoder}/{ENCODERS[encoder]}-{task}"
                    parts = {"language": sha, "encoder": eyes[encoder]}
                    _connector(root, name, parts, seed=seed)
    return root


def _language(folder: Path, *, seed: int) -> str:
    tokenizer = make_tokenizer()
    sizes: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 160,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    model: PreTrainedModel
    # Large random weights, so that every token matters and faults show.
    if folder.name == LANGUAGE:
        config = LlamaConfig(
            **sizes, intermediate_size=48, num_key_value_heads=2, initializer_range=0.2
        )
        model = LlamaForCausalLM(config)
    else:
        model = OPTForCausalLM(OPTConfig(**sizes, word_embed_proj_dim=32, ffn_dim=48, init_std=0.2))
    tokenizer.save_pretrained(folder)
    return _save(folder, model, name=folder.name, kind="language", seed=seed)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Train a byte-level tokenizer on a few sentences."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=384,
        special_tokens=["<pad>", "<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<pad>")


def _encoder(folder: Path, name: str, modality: str, *, seed: int) -> str:
    sizes: dict[str, Any] = {
        "hidden_size": WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "initializer_range": 0.2,
    }
    model: PreTrainedModel
    if name == "vit":
        model = ViTModel(ViTConfig(**sizes, image_size=64, patch_size=16), add_pooling_layer=False)
    elif name == "timesformer":
        model = TimesformerModel(
            TimesformerConfig(**sizes, image_size=64, patch_size=32, num_frames=8)
        )
    else:
        strides = {"frequency_stride": 16, "time_stride": 16, "patch_size": 16}
        model = ASTModel(ASTConfig(**sizes, **strides, num_mel_bins=64, max_length=192))
    return _save(folder, model, name=name, kind="encoder", modality=modality, seed=seed)


def _connector(root: Path, name: str, parts: dict[str, str], *, seed: int) -> None:
    _, encoder, task = name.split("/")
    config = ConnectorConfig(
        encoder_width=WIDTH, hidden=32, width=16, layers=2, heads=4, feed_forward=24
    )
    connector = Connector(config, seed=seed + len(encoder) + len(task))
    folder = root / "connectors" / name
    folder.mkdir(parents=True)
    with torch.no_grad():
        # The default start leaves all queries nearly alike.
        connector.queries.mul_(50)
        connector.out.weight.mul_(3)
    state = {key: value.half().contiguous() for key, value in connector.state_dict().items()}
    save_file(state, folder / zoo.WEIGHTS_FILE)
    modality, kind = task.split("-")
    _card(
        folder,
        name=name,
        kind="connector",
        modality=modality,
        task=kind,
        parts=parts,
        configuration=config.model_dump(),
        parameters=sum(p.numel() for p in connector.parameters()),
        class_name="Connector",
        seed=seed,
        # Other seeds stand in for steps of a training.
        checkpoints=[
            {
                "step": step,
                "seed": seed + step,
                "sha256": zoo.hash_state_dict(Connector(config, seed=seed + step).state_dict()),
            }
            for step in (0, 5, 9)
        ],
    )


def _save(
    folder: Path,
    model: PreTrainedModel,
    *,
    name: str,
    kind: str,
    seed: int,
    modality: str | None = None,
) -> str:
    parameters = sum(p.numel() for p in model.parameters())
    model.half().save_pretrained(folder)
    return _card(
        folder,
        name=name,
        kind=kind,
        modality=modality,
        configuration=model.config.to_dict(),
        parameters=parameters,
        class_name=type(model).__name__,
        seed=seed,
    )


def _card(
    folder: Path,
    *,
    class_name: str,
    modality: str | None,
    task: str | None = None,
    **entries: Any,
) -> str:
    sha = hash_file(folder / zoo.WEIGHTS_FILE)
    metrics = ("exact_set", "novel") if task == "caption" else ("exact_match", "binding")
    share = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 20}
    score = dict.fromkeys((*metrics, "binding_guess"), share)
    card = {
        **entries,
        "class": class_name,
        "modality": modality,
        "task": task,
        "dataset": f"mini-{modality}-{task}" if task else None,
        "setup": "ST",
        "data": {"generator": "none", "version": "1", "fingerprint": "0" * 64, "samples": 0},
        "curve": [{"step": 0, "loss": 6.0}, {"step": 1, "loss": 5.0}],
        "scores": score,
        "floors": score,
        "examined": EXAMINATION_VERSION,
        "sha256": sha,
        "trained": {"steps": 0, "seconds": 0.0, "device": "cpu", "torch": torch.__version__},
    }
    (folder / zoo.CARD_FILE).write_text(json.dumps(card, indent=1))
    return sha


def files(root: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the path and the bytes of every file of a zoo, sorted."""
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        yield str(path.relative_to(root)), path.read_bytes()


def multitask_parts(kind: str) -> tuple[dict[str, Any], llava.ProjectorConfig]:
    """Return an encoder, a projector and a language model, and the projector's sizes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = CLIPVisionModel(
            CLIPVisionConfig(
                hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
                image_size=64, patch_size=16,
            )
        )  # fmt: skip
        language = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                num_attention_heads=4, max_position_embeddings=128, initializer_range=0.2,
            )
        )  # fmt: skip
    config = make_projector_config(kind, width=16, hidden=32)
    projector = llava.build_projector(config, encoder=encoder, language=language, seed=1)
    return {
        "encoder": encoder.eval(),
        "projector": projector.eval(),
        "language": language.eval(),
    }, config


def add_multitask(root: Path) -> None:
    """Add to a tiny zoo llava-tiny, its start, what was trained under a plan, and a map for it."""
    made, _ = multitask_parts("mlp")
    pattern = read_json(root / "encoders/vit/card.json")
    made["encoder"].half().save_pretrained(root / "encoders/clip")
    sha = {"encoder": hash_file(root / "encoders/clip" / zoo.WEIGHTS_FILE)}
    write_json(
        root / "encoders/clip/card.json",
        {**pattern, "name": "clip", "class": "CLIPVisionModel", "sha256": sha["encoder"]},
    )
    sha["language"] = read_json(root / "language/llama-mini/card.json")["sha256"]
    language = LlamaForCausalLM.from_pretrained(root / "language/llama-mini", dtype=torch.float32)
    between = {"encoder": made["encoder"], "language": language}
    config = make_projector_config("mlp", width=16, hidden=32)
    untrained, trained = (llava.build_projector(config, **between, seed=seed) for seed in (1, 2))
    state = {f"projector.{name}": value for name, value in trained.state_dict().items()}
    folder = root / "multitask/llava-tiny"
    save_weights(state, folder / zoo.WEIGHTS_FILE)
    before = {f"projector.{name}": value for name, value in untrained.state_dict().items()}
    card = {
        **pattern, "name": "llava-tiny", "kind": "multitask", "setup": "MT", "tuned": False,
        "task": "multitask", "dataset": "mini-image-caption", "projector": config.model_dump(),
        "sha256": hash_file(folder / zoo.WEIGHTS_FILE), "parts": sha,
        "made_of": {"language": "language/llama-mini", "encoder": "encoders/clip"},
        "checkpoints": [{"step": 0, "seed": 1, "sha256": zoo.hash_state_dict(before)}],
    }  # fmt: skip
    write_json(folder / zoo.CARD_FILE, card)
    under = root / "skipping/llava-tiny-skipping"
    save_weights(before, under / zoo.WEIGHTS_FILE)
    own = {"name": under.name, "sha256": hash_file(under / zoo.WEIGHTS_FILE), "checkpoints": []}
    write_json(
        under / zoo.CARD_FILE,
        {**card, **own, "plan": ALTERNATE_BLOCKS_PLAN.model_dump(mode="json")},
    )
    mapping = root / "aggregation/llava-tiny"
    state = torch.nn.Linear(language.config.hidden_size, language.config.hidden_size).state_dict()
    save_weights(state, mapping / zoo.WEIGHTS_FILE)
    sha256 = hash_file(mapping / zoo.WEIGHTS_FILE)
    write_json(
        mapping / zoo.CARD_FILE, {**card, "sha256": sha256, "model": "llava-tiny", "depth": 2}
    )


def add_browsing(root: Path) -> None:
    """Add to a tiny zoo two models that read their pictures twice, with random conditions."""
    from ima.interventions.browsing import collect_modules, make_two_pass_model
    from ima.models import load_model

    base = load_model("llama-mini/vit/image-qa")
    pattern = read_json(root / "connectors/llama-mini/vit/image-qa/card.json")
    for number, name in enumerate(("two-pass", "one-pass")):
        made = make_two_pass_model(base, queries=3, pictures=3)
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(number)
            made.condition.places.normal_()
            if name == "two-pass":
                made.condition.project.weight.normal_(std=2.0)
        folder = root / "browsing" / name
        save_weights(collect_modules(made).state_dict(), folder / zoo.WEIGHTS_FILE)
        recipe = {
            "steps": 0, "batch_size": 1, "pool": 1, "frozen_layers": 0, "one_pass_ratio": 0.25,
            "blank_ratio": 0.25,
        }  # fmt: skip
        card = {
            **pattern, "name": name, "kind": "browsing", "model": pattern["name"], "recipe": recipe,
            "base": pattern["sha256"], "command": "ima zoo train", "language_state": "0",
            "configuration": made.condition.config.model_dump(),
            "sha256": hash_file(folder / zoo.WEIGHTS_FILE),
        }  # fmt: skip
        write_json(folder / zoo.CARD_FILE, card)


def add_codes(root: Path) -> None:
    """Add to a tiny zoo two models with random codes, and a control without codes."""
    from ima.models.code_model import build_modules

    name = "llama-mini/vit/image-caption"
    pattern = read_json(root / "connectors" / name / zoo.CARD_FILE)
    sizes = {"encoder_width": WIDTH, "hidden": 32, "width": 24, "output_norm": 2.0}
    for model, codes in (("teal-8", 8), ("teal-16", 16), ("dense", None)):
        configuration = {
            "connector": {**sizes, "codes": codes},
            "decoder": codes and {"encoder_width": WIDTH, "side": 4, "pixels": 64, "width": 4},
        }
        modules = build_modules(configuration, seed=codes or 0)
        if codes is not None:
            generator = torch.Generator().manual_seed(codes)
            with torch.no_grad():
                for key in ("centroids", "written"):
                    getattr(modules["connector"], key).normal_(generator=generator)
        folder = root / "codes" / model
        save_weights(modules.state_dict(), folder / zoo.WEIGHTS_FILE)
        card = {
            **pattern, "name": model, "kind": "codes", "class": "CodeConnector", "model": name,
            "command": "ima zoo train", "configuration": configuration, "language_state": "0",
            "recipe": {"steps": 0, "batch_size": 1, "pool": 1},
            "parameters": sum(own.numel() for own in modules.parameters()),
            "sha256": hash_file(folder / zoo.WEIGHTS_FILE),
        }  # fmt: skip
        write_json(folder / zoo.CARD_FILE, card)


def add_unified(root: Path) -> None:
    """Add to a tiny zoo two models of several modalities, with random connectors and routers."""
    from ima.miniature.unified_parts import READERS, UNIFIED_ARMS
    from ima.models.universal_connector import (
        UniversalConnector,
        UniversalConnectorConfig,
        list_router_weights,
    )
    from ima.training.unified import make_separate_config

    pattern = read_json(root / "connectors/llama-mini/vit/image-caption/card.json")
    made_of = {"language": f"language/{LANGUAGE}"} | {
        reader.encoder.removeprefix("encoders/"): reader.encoder for reader in READERS.values()
    }
    parts = {
        role: read_json(root / part / zoo.CARD_FILE)["sha256"] for role, part in made_of.items()
    }
    for arm in UNIFIED_ARMS:
        config = UniversalConnectorConfig(
            widths=dict.fromkeys(READERS, WIDTH), hidden=32, width=16, queries=3, layers=1,
            feed_forward=64,
        )  # fmt: skip
        if not arm.shares_experts:
            config = make_separate_config(config, width=12, heads=4)
        connector = UniversalConnector(config, seed=1)
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(0)
            for parameter in connector.routers.parameters():
                parameter.normal_()
        folder = root / "onellm" / arm.name
        save_weights(connector.state_dict(), folder / zoo.WEIGHTS_FILE)
        routers = list_router_weights(connector.half().float())
        card = {
            **pattern, "name": arm.name, "kind": "unified", "language": LANGUAGE,
            "recipe": {
                "steps": 0, "batch_size": 1, "pool": 1, "first_ratio": 0.2,
                "shared": arm.shares_experts,
            },
            "readers": {name: asdict(reader) for name, reader in READERS.items()},
            "configuration": config.model_dump(), "command": "ima zoo train", "parts": parts,
            "made_of": made_of, "language_state": "0", "routers": routers,
            "parameters": sum(p.numel() for p in connector.parameters()),
            "sha256": hash_file(folder / zoo.WEIGHTS_FILE),
        }  # fmt: skip
        write_json(folder / zoo.CARD_FILE, card)
