"""Predictions made and scored."""
