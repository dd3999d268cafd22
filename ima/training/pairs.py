"""The paper's pairs of a language model and an encoder, with the hub's ids."""

from __future__ import annotations

from collections.abc import Mapping

LANGUAGES = {"opt-6.7b": "facebook/opt-6.7b", "vicuna-7b": "lmsys/vicuna-7b-v1.5"}
#: AudioMAE is published outside transformers, and CLAP was not in the paper's released runs.
ENCODERS = {
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
PAIRS: Mapping[str, dict[str, str]] = {
    f"{language}/{encoder}": {"language": LANGUAGES[language], "encoder": ENCODERS[encoder]}
    for language in LANGUAGES
    for encoder in ENCODERS
}
