"""Write a random Qwen3 of 0.1 M parameters, with tokenizer and chat template, for the test of real vLLM: tiny_model.py FOLDER.

Runs in the vllm image. A head has 32 numbers: with 16, vLLM for the CPU starts and dies at its first request.
"""

import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

END = "<|im_end|>"
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tokenizer() -> PreTrainedTokenizerFast:
    """Byte pairs of this file's own text; every byte is a token, so any text can be encoded."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=384, special_tokens=["<|im_start|>", END], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    raw.train_from_iterator([Path(__file__).read_text()], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token=END, pad_token=END)
    fast.chat_template = CHAT
    return fast


def main(folder: str) -> None:
    text = tokenizer()
    end = text.convert_tokens_to_ids(END)
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(text),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=16384,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=end,
    )
    Qwen3ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    text.save_pretrained(folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
