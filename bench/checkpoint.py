"""HunYuanVL without its weights, on disk as the hub would give it: `python -m bench.checkpoint FOLDER [--published]`.

Tiny, with random weights: what it writes is noise, but its own noise, since the weights are spread so that greedy
output depends on the image and does not lock on one token. Published: the sizes of HunyuanOCR and no weights at all,
for engines that make their own (`load_format=dummy`).
"""

# The libraries of models have no types.
# ruff: noqa: ANN401, S106
# pyright: basic, reportMissingImports=false

import argparse
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from transformers.models.hunyuan_vl.configuration_hunyuan_vl import HunYuanVLConfig
from transformers.models.hunyuan_vl.image_processing_hunyuan_vl import HunYuanVLImageProcessor
from transformers.models.hunyuan_vl.modeling_hunyuan_vl import HunYuanVLForConditionalGeneration
from transformers.models.hunyuan_vl.processing_hunyuan_vl import HunYuanVLProcessor

SPECIAL = (
    "<pad>", "<bos>", "<eos>", "<eod>", "<sep>", "<img_start>", "<img_end>", "<image>", "<img_nl>", "<user>", "<assistant>",
)  # fmt: skip
TEMPLATE = (
    "{%- for m in messages -%}"
    "{%- if m['role'] == 'system' -%}<bos>{{ m['content'] }}<sep>"
    "{%- elif m['role'] == 'user' -%}"
    "{%- if m['content'] is string -%}{{ m['content'] }}"
    "{%- else -%}{%- for c in m['content'] -%}"
    "{%- if c['type'] in ['image', 'image_url'] -%}<img_start><image><img_end>"
    "{%- elif c['type'] == 'text' -%}{{ c['text'] }}{%- endif -%}"
    "{%- endfor -%}{%- endif -%}<user>"
    "{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}<assistant>{%- endif -%}"
)
MIN_PIXELS, MAX_PIXELS = 64 * 64, 256 * 256
MODEL_LENGTH = 4096
ENDING_BYTES = (3, 11, 19, 27)


PUBLISHED_VOCABULARY = 120_818
PUBLISHED_PIXELS = (512 * 512, 4096 * 4096)
PUBLISHED_TEXT = {
    "hidden_size": 1024,
    "intermediate_size": 3584,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 131_072,
    "tie_word_embeddings": True,
}
PUBLISHED_VISION = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_attention_heads": 16,
    "num_hidden_layers": 27,
    "out_hidden_size": 1024,
    "max_image_size": 4096,
    "min_image_size": 512,
    "text_hidden_size": 1024,
}


def write_published(folder: Path) -> Path:
    """Configuration, tokenizer and processor of the published sizes; the vocabulary is filled up with nonsense."""
    vocabulary = _vocabulary()
    vocabulary |= {f"t{number}": number for number in range(len(vocabulary), PUBLISHED_VOCABULARY)}
    config = _config(vocabulary)
    for part, sizes in ((config.text_config, PUBLISHED_TEXT), (config.vision_config, PUBLISHED_VISION)):
        for name, value in sizes.items():
            setattr(part, name, value)
    config.tie_word_embeddings = True
    config.text_config.rope_parameters["mrope_section"] = [16, 16, 16, 16]
    config.architectures = ["HunYuanVLForConditionalGeneration"]
    config.save_pretrained(folder)
    _processor(vocabulary, *PUBLISHED_PIXELS).save_pretrained(folder)
    return folder


def write(folder: Path) -> Path:
    """The tiny checkpoint in `folder`; the same bytes each time."""
    vocabulary = _vocabulary()
    model = _model(vocabulary)
    model.save_pretrained(folder)
    _processor(vocabulary, MIN_PIXELS, MAX_PIXELS).save_pretrained(folder)
    return folder


def _vocabulary() -> dict[str, int]:
    vocabulary = {token: number for number, token in enumerate(SPECIAL)}
    for letter in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocabulary[letter] = len(vocabulary)
    return vocabulary


def _processor(vocabulary: dict[str, int], min_pixels: int, max_pixels: int) -> HunYuanVLProcessor:
    return HunYuanVLProcessor(
        image_processor=HunYuanVLImageProcessor(min_pixels=min_pixels, max_pixels=max_pixels),
        tokenizer=_tokenizer(vocabulary),
        chat_template=TEMPLATE,
    )


def _tokenizer(vocabulary: dict[str, int]) -> PreTrainedTokenizerFast:
    """One token a byte."""
    tokenizer: Any = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        extra_special_tokens={
            "image_token": "<image>",
            "image_start_token": "<img_start>",
            "image_end_token": "<img_end>",
        },
        model_max_length=MODEL_LENGTH,
        chat_template=TEMPLATE,
    )


def _model(vocabulary: dict[str, int]) -> Any:
    torch.manual_seed(0)
    model: Any = HunYuanVLForConditionalGeneration(_config(vocabulary)).to(torch.float32)
    marks = ("image_newline", "image_begin", "image_end", "image_sep")
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1:
                weight.normal_(0, 0.3 if "embed" in name else weight.shape[-1] ** -0.5)
            elif any(mark in name for mark in marks):
                weight.normal_(0, 0.3)
    # Some control characters end a text too, or hardly any would end; JSON has none of them.
    ends = ("<eos>", *(chr(0x100 + byte) for byte in ENDING_BYTES))
    model.generation_config.eos_token_id = [vocabulary[token] for token in ends]
    model.generation_config.pad_token_id = vocabulary["<pad>"]
    return model


def _config(vocabulary: dict[str, int]) -> HunYuanVLConfig:
    text = {
        "vocab_size": len(vocabulary),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "max_position_embeddings": MODEL_LENGTH,
        "pad_token_id": vocabulary["<pad>"],
        "bos_token_id": vocabulary["<bos>"],
        "eos_token_id": vocabulary["<eos>"],
        "eod_token_id": vocabulary["<eod>"],
        "sep_token_id": vocabulary["<sep>"],
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "rope_parameters": {
            "rope_type": "dynamic",
            "alpha": 1000.0,
            "beta_fast": 32,
            "beta_slow": 1,
            "factor": 1.0,
            "mscale": 1.0,
            "mscale_all_dim": 1.0,
            "rope_theta": 10000.0,
            "mrope_section": [4, 4, 4, 4],
        },
    }
    vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_attention_heads": 2,
        "num_hidden_layers": 2,
        "out_hidden_size": 64,
        "patch_size": 16,
        "spatial_merge_size": 2,
        "max_image_size": 512,
        "min_image_size": 64,
        "text_hidden_size": 64,
    }
    return HunYuanVLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=vocabulary["<image>"],
        im_start_id=vocabulary["<img_start>"],
        im_end_id=vocabulary["<img_end>"],
        im_newline_id=vocabulary["<img_nl>"],
        tie_word_embeddings=False,
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--published", action="store_true")
    args = parser.parse_args()
    (write_published if args.published else write)(args.folder)


if __name__ == "__main__":
    main()
