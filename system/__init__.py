"""Offline-to-online reinforcement learning that plans with pretrained sequence models."""
