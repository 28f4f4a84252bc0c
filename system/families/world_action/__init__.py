"""JOWA: frame tokens, one causal transformer with world heads and a distributional Q head, beam search."""
