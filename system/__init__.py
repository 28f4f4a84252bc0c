"""Offline-to-online reinforcement learning that plans with pretrained sequence models."""

from system import families as _families  # noqa: F401  registers the methods; imports no model
