"""The map: embeddings drawn as points on an interactive page."""
