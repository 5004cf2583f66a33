"""Model names become folders, processors and loaded models."""
