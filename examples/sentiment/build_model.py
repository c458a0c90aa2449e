"""Train a tiny DistilBERT that distinguishes good moods from bad, without downloading anything.

It knows only the words of its own examples; it stands in for a real model of the same kind.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from transformers import (
    DistilBertConfig,
    DistilBertForSequenceClassification,
    DistilBertTokenizerFast,
)

FOLDER = Path(__file__).parent / "model"
LABELS = ("NEGATIVE", "POSITIVE")
SUBJECTS = ("the film", "this wine", "the food", "my day", "the music", "our trip")
MOODS = {
    "POSITIVE": ("is great", "was lovely", "is wonderful", "was good", "is excellent"),
    "NEGATIVE": ("is awful", "was boring", "is terrible", "was bad", "is dull"),
}
EXAMPLES = [
    (f"{subject} {mood}", LABELS.index(label))
    for label, moods in MOODS.items()
    for mood in moods
    for subject in SUBJECTS
]
STEPS = 60


def tokenizer(folder: Path) -> DistilBertTokenizerFast:
    """A tokenizer that knows the words of the examples; others become [UNK]."""
    words = sorted({word for text, _ in EXAMPLES for word in text.split()})
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = folder / "vocab.txt"
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary.write_text("\n".join([*special, *words]) + "\n", encoding="utf-8")
    return DistilBertTokenizerFast(vocab=str(vocabulary), vocab_file=str(vocabulary))


def build(folder: Path) -> None:
    """Train the model, always with the same result, and save it with its tokenizer."""
    torch.manual_seed(7)
    words = tokenizer(folder)
    config = DistilBertConfig(
        vocab_size=len(words),
        dim=32,
        hidden_dim=64,
        n_layers=2,
        n_heads=2,
        max_position_embeddings=64,
        dropout=0.0,
        attention_dropout=0.0,
        seq_classif_dropout=0.0,
        id2label=dict(enumerate(LABELS)),
        label2id={label: number for number, label in enumerate(LABELS)},
    )
    model = DistilBertForSequenceClassification(config)
    batch = words([text for text, _ in EXAMPLES], padding=True, return_tensors="pt")
    labels = torch.tensor([label for _, label in EXAMPLES])
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(STEPS):
        optimizer.zero_grad()
        model(**batch, labels=labels).loss.backward()
        optimizer.step()
    model.eval().save_pretrained(folder)
    words.save_pretrained(folder)


def main() -> None:
    """Build the model and print its folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where to save the model")
    folder = parser.parse_args().folder
    build(folder)
    print(folder)


if __name__ == "__main__":
    main()
