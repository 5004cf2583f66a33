"""Image-text data: declared, prepared, deduplicated, split, stored, frozen."""
