"""IPD: planning inside a world model that knows what it does not know, distilled into a transformer."""
