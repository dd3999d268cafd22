"""A reader's models: tiny ones of several families, data for them, and the file that names them.

``python tests/ownmodels.py FOLDER`` writes them; CI then builds the book with OWN=FOLDER/own.yaml.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parent
#: By name of the family in the book: the family of transformers, and what it reads.
MODELS = {
    "tiny-llava": ("llava", "image"),
    "tiny-qwen2-5-vl": ("qwen2_5_vl", "image"),
    "tiny-qwen2-audio": ("qwen2_audio", "audio"),
    "tiny-llama": ("text", "text"),
}
SAMPLES, CALIBRATION = 24, 12
EXAMPLE = ROOT.parent / "examples" / "own-model" / "models.yaml"


def make(folder: Path) -> Path:
    """Write models, data and ``own.yaml``; return the path of the latter."""
    from tinyhub import save

    from ima.data.folders import write_data_folder
    from ima.data.sample_records import SAMPLES_FILE
    from ima.data.samples import open_samples

    data, families = {}, {}
    for modality in ("image", "audio"):
        for task in ("caption", "qa"):
            test = open_samples(f"mini-{modality}-{task}", n=SAMPLES)
            more = open_samples(f"mini-{modality}-{task}:calibration", n=CALIBRATION)
            path = folder / "data" / f"own-{modality}-{task}"
            write_data_folder(type(test)(path.name, "test", (*test, *more)), path)
            lines = [json.loads(line) for line in (path / SAMPLES_FILE).read_text().splitlines()]
            for line in lines[SAMPLES:]:
                line["split"] = "calibration"
            (path / SAMPLES_FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))
            data[path.name] = str(path)
    text = folder / "data" / "own-text"
    text.mkdir(parents=True)
    questions = open_samples("mini-image-qa", n=SAMPLES)
    lines = [
        {"id": s.id, "modality": "text", "task": "qa", "prompt": s.prompt,
         "references": list(s.references)}
        for s in questions
    ]  # fmt: skip
    (text / SAMPLES_FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))
    data["own-text"] = str(text)
    for name, (family, modality) in MODELS.items():
        path = folder / "models" / name
        if family == "text":
            _language(path)
            families[name] = {"caches": {"own-text": str(path)}}
            continue
        save(family, path)
        names = [f"own-{modality}-{task}" for task in ("caption", "qa")]
        families[name] = {"caches": dict.fromkeys(names, str(path))}
    # The folder that a reader starts from is built with the others.
    example = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    data |= {name: str(ROOT.parent / path) for name, path in example["data"].items()}
    families |= example["families"]
    own = folder / "own.yaml"
    own.write_text(yaml.safe_dump({"data": data, "families": families}), encoding="utf-8")
    return own


def _language(folder: Path) -> None:
    """Write a causal language model with random weights."""
    import torch
    from tinyhub import TEXT, tokenizer
    from transformers import LlamaConfig, LlamaForCausalLM

    words = tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(LlamaConfig(**TEXT, vocab_size=len(words)))
    model.save_pretrained(folder)
    words.save_pretrained(folder)


if __name__ == "__main__":
    sys.path += [str(ROOT)]
    print(make(Path(sys.argv[1])))  # noqa: T201
