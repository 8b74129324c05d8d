"""Hugging Face Trainer."""

from trackkit.integrations.huggingface.hooks import HuggingFaceHooks

__all__ = ["HuggingFaceHooks"]
