"""The same recipe again: on other data, as it was, or with other settings."""
