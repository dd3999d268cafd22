"""Tiny multimodal models of transformers with random weights, and their own processors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from tinyzoo import make_tokenizer

from ima.models.processors import NoVideoProcessor, _find_processor_class, drop_video_processor

TEXT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    # Large random weights, so that every token matters and faults show.
    "initializer_range": 0.2,
}
CLIP: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,  # as many as the decoder has
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
    "projection_dim": 32,
    "initializer_range": 0.2,
}
SIGLIP = {
    name: value
    for name, value in CLIP.items()
    if name not in ("projection_dim", "initializer_range")
}
TILES = [f"<row_{i}_col_{j}>" for i in range(1, 7) for j in range(1, 7)]
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{% for c in m.content %}"
    "{% if c.type == 'text' %}{{ c.text }}{% else %}{{ MEDIA[c.type] }}{% endif %}{% endfor %}"
    "<|end|>\n{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def chat(**media: str) -> str:
    """Return a chat template that writes these placeholders."""
    return TEMPLATE.replace("MEDIA", json.dumps(media))


def tokenizer(*special: str, **named: str) -> Any:
    """Return a tokenizer with special tokens, some of which it knows by name."""
    plain = make_tokenizer()
    plain.add_special_tokens(
        {"additional_special_tokens": ["<|user|>", "<|assistant|>", "<|end|>", *special]}
    )
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=plain._tokenizer,
        eos_token="<eos>",
        pad_token="<pad>",
        extra_special_tokens=named,
    )


def square(side: int) -> dict[str, int]:
    """Return a size as processors write it."""
    return {"height": side, "width": side}


def save_parts(
    folder: Path, *, encoder_layers: int = 1, patch_size: int = 14, template: str | None = None
) -> None:
    """Save a tiny language model and a tiny encoder of pictures: ``language`` and ``vit``."""
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": encoder_layers}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        words = tokenizer()
        if template is not None:
            words.chat_template = template
        words.save_pretrained(folder / "language")
        config = hf.LlamaConfig(**TEXT, vocab_size=len(words))
        hf.LlamaForCausalLM(config).save_pretrained(folder / "language")
        vit = hf.ViTConfig(**sizes, num_attention_heads=2, image_size=28, patch_size=patch_size)
        hf.ViTModel(vit).save_pretrained(folder / "vit")
        hf.ViTImageProcessorPil(size=square(28), do_resize=True).save_pretrained(folder / "vit")


def processor(name: str, **parts: Any) -> Any:
    """Build a processor, without video where that needs torchvision."""
    cls = getattr(hf, f"{name}Processor")
    if "video_processor" in (own := _class_of_name(name)).get_attributes():
        return drop_video_processor(own)(video_processor=NoVideoProcessor(), **parts)
    return cls(**parts)


def _class_of_name(name: str) -> Any:
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

    kind = next(k for k, v in PROCESSOR_MAPPING_NAMES.items() if v == f"{name}Processor")
    return _find_processor_class(kind)


def llava() -> tuple[Any, Any]:
    tok = tokenizer("<image>")
    made = processor(
        "Llava",
        image_processor=hf.CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size=square(28)),
        tokenizer=tok,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=chat(image="<image>"),
    )
    config = hf.LlavaConfig(
        vision_config=hf.CLIPVisionConfig(**CLIP),
        text_config=hf.LlamaConfig(**TEXT, vocab_size=len(tok)),
        image_token_index=tok.convert_tokens_to_ids("<image>"),
        image_seq_length=4,
    )
    return hf.LlavaForConditionalGeneration(config), made


def llava_next() -> tuple[Any, Any]:
    tok = tokenizer("<image>")
    grid = [[28, 56], [56, 28]]
    made = processor(
        "LlavaNext",
        image_processor=hf.LlavaNextImageProcessorPil(
            size={"shortest_edge": 28}, crop_size=square(28), image_grid_pinpoints=grid
        ),
        tokenizer=tok,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=chat(image="<image>"),
    )
    config = hf.LlavaNextConfig(
        vision_config=hf.CLIPVisionConfig(**CLIP),
        text_config=hf.LlamaConfig(**TEXT, vocab_size=len(tok)),
        image_token_index=tok.convert_tokens_to_ids("<image>"),
        image_seq_length=4,
        image_grid_pinpoints=grid,
    )
    return hf.LlavaNextForConditionalGeneration(config), made


def llava_onevision() -> tuple[Any, Any]:
    tok = tokenizer("<image>", "<video>")
    grid = [[28, 56], [56, 28]]
    made = processor(
        "LlavaOnevision",
        image_processor=hf.LlavaOnevisionImageProcessorPil(
            size=square(28), image_grid_pinpoints=grid
        ),
        tokenizer=tok,
        num_image_tokens=4,
        vision_feature_select_strategy="full",
        chat_template=chat(image="<image>", video="<video>"),
    )
    config = hf.LlavaOnevisionConfig(
        vision_config=hf.SiglipVisionConfig(**SIGLIP),
        text_config=hf.Qwen2Config(**TEXT, vocab_size=len(tok)),
        image_token_index=tok.convert_tokens_to_ids("<image>"),
        video_token_index=tok.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=grid,
        vision_feature_layer=-1,
    )
    return hf.LlavaOnevisionForConditionalGeneration(config), made


def _qwen(name: str, *, text: dict[str, Any], **vision: Any) -> tuple[Any, Any]:
    marks = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
    tok = tokenizer(*marks)
    start, stop = marks[2:]
    made = processor(
        name,
        image_processor=hf.Qwen2VLImageProcessorPil(
            min_pixels=28 * 28, max_pixels=56 * 56, patch_size=14, merge_size=2
        ),
        tokenizer=tok,
        chat_template=chat(
            image=f"{start}<|image_pad|>{stop}", video=f"{start}<|video_pad|>{stop}"
        ),
    )
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    config = getattr(hf, f"{name}Config")(
        text_config={**TEXT, "vocab_size": len(tok), "rope_parameters": rope, **text},
        vision_config={"depth": 2, "num_heads": 2, "patch_size": 14, "hidden_size": 32, **vision},
        **dict(zip(names, tok.convert_tokens_to_ids(list(marks)), strict=True)),
    )
    return getattr(hf, f"{name}ForConditionalGeneration")(config), made


def qwen2_vl() -> tuple[Any, Any]:
    return _qwen("Qwen2VL", text={}, embed_dim=32, mlp_ratio=2)


def qwen2_5_vl() -> tuple[Any, Any]:
    vision = {"fullatt_block_indexes": [1], "window_size": 28}
    return _qwen("Qwen2_5_VL", text={}, intermediate_size=48, out_hidden_size=32, **vision)


def qwen3_vl() -> tuple[Any, Any]:
    vision = {"num_position_embeddings": 16, "deepstack_visual_indexes": [0, 1]}
    text = {"head_dim": 8}
    return _qwen("Qwen3VL", text=text, intermediate_size=48, out_hidden_size=32, **vision)


def idefics3() -> tuple[Any, Any]:
    marks = ("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
    tok = tokenizer(*marks, *TILES)
    made = processor(
        "Idefics3",
        image_processor=hf.Idefics3ImageProcessorPil(
            size={"longest_edge": 56}, max_image_size={"longest_edge": 28}
        ),
        tokenizer=tok,
        image_seq_len=1,
        chat_template=chat(image="<image>"),
    )
    config = hf.Idefics3Config(
        vision_config=SIGLIP,
        text_config=hf.LlamaConfig(**TEXT, vocab_size=len(tok)),
        scale_factor=2,
        image_token_id=tok.convert_tokens_to_ids("<image>"),
    )
    return hf.Idefics3ForConditionalGeneration(config), made


def smolvlm() -> tuple[Any, Any]:
    tok = tokenizer(
        *TILES,
        fake_image_token="<fake_token_around_image>",
        image_token="<image>",
        end_of_utterance_token="<end_of_utterance>",
        global_image_token="<global-img>",
        video_token="<video>",
    )
    made = processor(
        "SmolVLM",
        image_processor=hf.SmolVLMImageProcessorPil(
            size={"longest_edge": 56}, max_image_size={"longest_edge": 28}
        ),
        tokenizer=tok,
        image_seq_len=1,
        chat_template=chat(image="<image>"),
    )
    config = hf.SmolVLMConfig(
        vision_config=SIGLIP,
        text_config=hf.LlamaConfig(**TEXT, vocab_size=len(tok)),
        scale_factor=2,
        image_token_id=tok.image_token_id,
    )
    return hf.SmolVLMForConditionalGeneration(config), made


def internvl() -> tuple[Any, Any]:
    tok = tokenizer(
        start_image_token="<img>",
        end_image_token="</img>",
        context_image_token="<IMG_CONTEXT>",
        video_token="<video>",
    )
    made = processor(
        "InternVL",
        image_processor=hf.GotOcr2ImageProcessorPil(size=square(28), crop_to_patches=False),
        tokenizer=tok,
        image_seq_length=1,
        chat_template=chat(image="<IMG_CONTEXT>", video="<video>"),
    )
    vision = {**SIGLIP, "image_size": [28, 28], "patch_size": [14, 14]}
    config = hf.InternVLConfig(
        vision_config=hf.InternVLVisionConfig(**vision),
        text_config=hf.Qwen2Config(**TEXT, vocab_size=len(tok)),
        image_token_id=tok.context_image_token_id,
        image_seq_length=1,
        downsample_ratio=0.5,
    )
    return hf.InternVLForConditionalGeneration(config), made


def paligemma() -> tuple[Any, Any]:
    tok = tokenizer("<bos>")
    tok.bos_token = "<bos>"
    images = hf.SiglipImageProcessorPil(size=square(28))
    images.image_seq_length = 4
    made = processor("PaliGemma", image_processor=images, tokenizer=tok)
    config = hf.PaliGemmaConfig(
        vision_config=hf.SiglipVisionConfig(**SIGLIP, projection_dim=32),
        text_config=hf.GemmaConfig(**TEXT, head_dim=8, vocab_size=len(made.tokenizer)),
        image_token_index=made.image_token_id,
        projection_dim=32,
    )
    return hf.PaliGemmaForConditionalGeneration(config), made


def gemma3() -> tuple[Any, Any]:
    tok = tokenizer(
        boi_token="<start_of_image>", eoi_token="<end_of_image>", image_token="<image_soft_token>"
    )
    made = processor(
        "Gemma3",
        image_processor=hf.Gemma3ImageProcessorPil(size=square(28)),
        tokenizer=tok,
        image_seq_length=4,
        chat_template=chat(image="<start_of_image>"),
    )
    config = hf.Gemma3Config(
        vision_config=hf.SiglipVisionConfig(**{**SIGLIP, "patch_size": 7}, vision_use_head=False),
        text_config=hf.Gemma3TextConfig(**TEXT, head_dim=8, vocab_size=len(tok), sliding_window=16),
        mm_tokens_per_image=4,
        image_token_index=tok.image_token_id,
        boi_token_index=tok.boi_token_id,
        eoi_token_index=tok.eoi_token_id,
    )
    return hf.Gemma3ForConditionalGeneration(config), made


def video_llava() -> tuple[Any, Any]:
    tok = tokenizer("<image>", "<video>")
    made = processor(
        "VideoLlava",
        image_processor=hf.VideoLlavaImageProcessor(
            size={"shortest_edge": 28}, crop_size=square(28)
        ),
        tokenizer=tok,
        patch_size=14,
        chat_template=chat(image="<image>", video="<video>"),
    )
    config = hf.VideoLlavaConfig(
        vision_config=hf.CLIPVisionConfig(**CLIP),
        text_config=hf.LlamaConfig(**TEXT, vocab_size=len(tok)),
        image_token_index=tok.convert_tokens_to_ids("<image>"),
        video_token_index=tok.convert_tokens_to_ids("<video>"),
    )
    return hf.VideoLlavaForConditionalGeneration(config), made


def mllama() -> tuple[Any, Any]:
    tok = tokenizer("<|image|>", "<|python_tag|>", "<bos>")
    tok.bos_token = "<bos>"
    made = processor(
        "Mllama",
        image_processor=hf.MllamaImageProcessorPil(size=square(28), max_image_tiles=2),
        tokenizer=tok,
        chat_template=chat(image="<|image|>"),
    )
    vision = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_global_layers": 1,
        "attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
        "max_num_tiles": 2,
        "vision_output_dim": 64,
        "intermediate_layers_indices": [1],
        "supported_aspect_ratios": [[1, 1], [1, 2], [2, 1]],
    }
    text = {**TEXT, "cross_attention_layers": [1], "vocab_size": len(tok), "pad_token_id": 0}
    config = hf.MllamaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tok.convert_tokens_to_ids("<|image|>"),
    )
    return hf.MllamaForConditionalGeneration(config), made


def qwen2_audio() -> tuple[Any, Any]:
    tok = tokenizer("<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>")
    made = processor(
        "Qwen2Audio",
        feature_extractor=hf.WhisperFeatureExtractor(feature_size=16, chunk_length=2),
        tokenizer=tok,
        chat_template=chat(audio="<|audio_bos|><|AUDIO|><|audio_eos|>"),
    )
    config = hf.Qwen2AudioConfig(
        audio_config={
            "d_model": 32,
            "encoder_layers": 2,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 48,
            "num_mel_bins": 16,
            "max_source_positions": 100,
        },
        text_config=hf.Qwen2Config(**TEXT, vocab_size=len(tok)),
        audio_token_index=tok.convert_tokens_to_ids("<|AUDIO|>"),
    )
    return hf.Qwen2AudioForConditionalGeneration(config), made


def emu3() -> tuple[Any, Any]:
    """Return a model whose processor gives all pictures of a batch the size of the largest."""
    visual = [f"<|visual token {number:06d}|>" for number in range(64)]
    marks = {
        "image_token": "<image>",
        "boi_token": "<|image start|>",
        "eoi_token": "<|image end|>",
        "image_wrapper_token": "<|image token|>",
        "eof_token": "<|extra_200|>",
    }
    tok = tokenizer(*marks.values(), *visual, **marks)
    made = hf.Emu3Processor(
        image_processor=hf.Emu3ImageProcessor(
            min_pixels=32 * 32, max_pixels=64 * 64, spatial_factor=8
        ),
        tokenizer=tok,
        chat_template=chat(image="<image>"),
    )
    names = [*visual, "<image>", "<|extra_200|>"]
    config = hf.Emu3Config(
        text_config=hf.Emu3TextConfig(
            **TEXT, vocab_size=len(tok), pad_token_id=0, bos_token_id=1, eos_token_id=1
        ).to_dict(),
        vq_config={
            "codebook_size": 64,
            "embed_dim": 4,
            "latent_channels": 4,
            "base_channels": 32,
            "channel_multiplier": [1, 1, 1, 1],
            "num_res_blocks": 1,
            "attn_resolutions": [3],
            "hidden_size": 32,
            "num_attention_heads": 1,
            "temporal_downsample_factor": 1,
        },
        vocabulary_map={name: tok.convert_tokens_to_ids(name) for name in names},
    )
    return hf.Emu3ForConditionalGeneration(config), made


FAMILIES: dict[str, Callable[[], tuple[Any, Any]]] = {
    build.__name__: build
    for build in (
        llava,
        llava_next,
        llava_onevision,
        qwen2_vl,
        qwen2_5_vl,
        qwen3_vl,
        idefics3,
        smolvlm,
        internvl,
        paligemma,
        gemma3,
        video_llava,
        mllama,
        qwen2_audio,
    )
}


def idefics2() -> tuple[Any, Any]:
    """Return a model whose processor writes a space between picture and text."""
    tok = tokenizer("<image>", "<fake_token_around_image>", "<end_of_utterance>")
    made = hf.Idefics2Processor(
        image_processor=hf.Idefics2ImageProcessor(
            size={"shortest_edge": 28, "longest_edge": 56}, do_image_splitting=False
        ),
        tokenizer=tok,
        image_seq_len=4,
        chat_template=chat(image="<image>"),
    )
    config = hf.Idefics2Config(
        vision_config={**SIGLIP, "image_size": 56},
        perceiver_config={
            "resampler_n_latents": 4,
            "resampler_depth": 1,
            "resampler_n_heads": 2,
            "resampler_head_dim": 16,
            "num_key_value_heads": 1,
            "hidden_size": 32,
        },
        text_config=hf.MistralConfig(**TEXT, vocab_size=len(tok), pad_token_id=0).to_dict(),
        image_token_id=tok.convert_tokens_to_ids("<image>"),
    )
    return hf.Idefics2ForConditionalGeneration(config), made


def blip2() -> tuple[Any, Any]:
    """Return a model that does not run without a picture and whose processor writes its tokens."""
    tok = tokenizer("<image>")
    made = hf.Blip2Processor(
        image_processor=hf.BlipImageProcessor(size=square(28)), tokenizer=tok, num_query_tokens=4
    )
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2}
    config = hf.Blip2Config(
        vision_config={**sizes, "num_hidden_layers": 2, "image_size": 28, "patch_size": 14},
        qformer_config={
            **sizes, "num_hidden_layers": 2, "vocab_size": 50, "encoder_hidden_size": 32
        },
        text_config=hf.OPTConfig(
            vocab_size=len(tok), hidden_size=32, ffn_dim=48, num_hidden_layers=3,
            num_attention_heads=4, word_embed_proj_dim=32, max_position_embeddings=256,
            pad_token_id=0, eos_token_id=1, bos_token_id=2, init_std=0.2,
        ).to_dict(),
        num_query_tokens=4,
        image_token_index=tok.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    return hf.Blip2ForConditionalGeneration(config), made


#: Families that not every test of the others fits.
OTHERS = {"emu3": emu3, "idefics2": idefics2, "blip2": blip2}


def save(name: str, folder: Path, *, seed: int = 0) -> Path:
    """Write a model of a family and its processor, as they lie in a folder of a hub."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, made = (FAMILIES | OTHERS)[name]()
    model.save_pretrained(folder)
    made.tokenizer.save_pretrained(folder)
    for part in ("image_processor", "feature_extractor"):
        if getattr(made, part, None) is not None:
            getattr(made, part).save_pretrained(folder)
    settings = {
        key: value
        for key, value in vars(made).items()
        if isinstance(value, (str, int, float, list)) and key != "chat_template"
    }
    settings["processor_class"] = type(made).__name__
    (folder / "processor_config.json").write_text(json.dumps(settings))
    if made.chat_template:
        (folder / "chat_template.jinja").write_text(made.chat_template)
    return folder


def _pixtral() -> tuple[Any, dict[str, torch.Tensor]]:
    vision = hf.PixtralVisionConfig(**{**SIGLIP, "image_size": 56})
    config = hf.LlavaConfig(
        vision_config=vision,
        text_config=hf.MistralConfig(**TEXT, vocab_size=64),
        image_token_index=7,
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
    )
    return hf.LlavaForConditionalGeneration(config), _pictures(patches=4)


def _mistral3() -> tuple[Any, dict[str, torch.Tensor]]:
    vision = hf.PixtralVisionConfig(**{**SIGLIP, "image_size": 56})
    config = hf.Mistral3Config(
        vision_config=vision,
        text_config=hf.MistralConfig(**TEXT, vocab_size=64),
        image_token_index=7,
        spatial_merge_size=2,
    )
    return hf.Mistral3ForConditionalGeneration(config), _pictures(patches=1)


def _pictures(*, patches: int) -> dict[str, torch.Tensor]:
    """Return two pictures of 28 × 28 with text around the places of their patches."""
    ids = torch.tensor([[3, *[7] * patches, 9, 11, 13], [4, *[7] * patches, 10, 12, 14]])
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": torch.randn(2, 3, 28, 28),
        "image_sizes": torch.tensor([[28, 28], [28, 28]]),
    }


def _voxtral() -> tuple[Any, dict[str, torch.Tensor]]:
    config = hf.VoxtralConfig(
        audio_config={
            "hidden_size": 32,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_mel_bins": 16,
            "max_source_positions": 40,
        },
        text_config={**TEXT, "vocab_size": 64, "model_type": "llama"},
        audio_token_id=7,
    )
    ids = torch.tensor([[3, *[7] * 10, 9, 11]])
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "input_features": torch.randn(1, 16, 80),
    }
    return hf.VoxtralForConditionalGeneration(config), inputs


def _phi4() -> tuple[Any, dict[str, torch.Tensor]]:
    vision = {**SIGLIP, "patch_size": 7, "crop_size": 28, "image_token_id": 7}
    audio = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_blocks": 2,
        "num_attention_heads": 2,
        "ext_pw_out_channel": 32,
        "depthwise_separable_out_channel": 32,
        "nemo_conv_channels": 32,
        "audio_token_id": 8,
        "input_size": 16,
    }
    config = hf.Phi4MultimodalConfig(
        **{**TEXT, "num_key_value_heads": 4},
        vocab_size=64,
        vision_config=vision,
        audio_config=audio,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    # One crop of 2 × 2 features with line ends, a separator, and the whole picture as many.
    ids = torch.tensor([[3, *[7] * 13, 9, 11]])
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "image_pixel_values": torch.randn(1, 2, 3, 28, 28),
        "image_sizes": torch.tensor([[28, 28]]),
        "image_attention_mask": torch.ones(1, 2, 4, 4),
    }
    return hf.Phi4MultimodalForCausalLM(config), inputs


#: Models whose processors need packages that are not here, and inputs made by hand.
BARE: dict[str, Callable[[], tuple[Any, dict[str, torch.Tensor]]]] = {
    "pixtral": _pixtral,
    "mistral3": _mistral3,
    "voxtral": _voxtral,
    "phi4_multimodal": _phi4,
}


def bare(name: str) -> tuple[Any, dict[str, torch.Tensor]]:
    """Return a model with random weights, and inputs of it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, inputs = BARE[name]()
    return model.eval().requires_grad_(requires_grad=False), inputs
