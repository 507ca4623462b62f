"""Presets of `[train]`: what `recipe` stands for. Every key can still be set beside it, and then wins."""

from collections.abc import Mapping

RECIPES: Mapping[str, Mapping[str, object]] = {
    "nasbench201": {
        "epochs": 200,
        "batch_size": 256,
        "learning_rate": 0.1,
        "warmup": 0.0,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "label_smoothing": 0.0,
        "ema_decay": 0.0,
        "precision": "float32",
        "augment": True,
        "alternating_flip": False,
    },
    "fast": {
        "epochs": 24,
        "batch_size": 256,
        "learning_rate": 0.2,
        "warmup": 0.2,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "label_smoothing": 0.1,
        "ema_decay": 0.99,
        "precision": "auto",
        "augment": True,
        "alternating_flip": True,
    },
}
"""`nasbench201` is the benchmark's own (table 1 of arXiv 2001.00326; with `epochs = 12` its short one). Ours leaves out
the last, smaller batch of an epoch, and trains on four fifths of the training images.

`fast` lets the learning rate rise and fall once (one cycle, arXiv 1708.07120, without its cycle of momentum), smooths
labels, judges a moving average of the weights, and flips each image every other epoch (arXiv 2404.00498).
"""
