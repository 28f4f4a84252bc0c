"""Gradient MPC with a differentiable world model."""
