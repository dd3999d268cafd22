"""The paper's pairs of a language model and an encoder, with the hub's ids."""

from __future__ import annotations

from collections.abc import Mapping

_LANGUAGE_MODELS = {"opt-6.7b": "facebook/opt-6.7b", "vicuna-7b": "lmsys/vicuna-7b-v1.5"}
#: AudioMAE is published outside transformers, and CLAP was not in the paper's released runs.
_ENCODERS = {
    "vit": "google/vit-large-patch16-224",
    "clip": "openai/clip-vit-large-patch14",
    "mae": "facebook/vit-mae-large",
    "timesformer": "facebook/timesformer-base-finetuned-k400",
    "xclip": "microsoft/xclip-large-patch14",
    "videomae": "MCG-NJU/videomae-large",
    "ast": "MIT/ast-finetuned-audioset-10-10-0.4593",
    "clap": "laion/clap-htsat-unfused",
}
#: By name, ``language/encoder``: what ``ima train --pair`` fills in.
MODEL_PAIRS: Mapping[str, dict[str, str]] = {
    f"{language}/{encoder}": {"language": _LANGUAGE_MODELS[language], "encoder": _ENCODERS[encoder]}
    for language in _LANGUAGE_MODELS
    for encoder in _ENCODERS
}
