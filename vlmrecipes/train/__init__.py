"""Samples become batches, batches become an adapter."""
