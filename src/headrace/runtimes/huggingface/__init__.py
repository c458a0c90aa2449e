"""Hugging Face models as Transformers pipelines."""
