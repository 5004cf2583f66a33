"""Runs compared sample by sample: two of them in depth, several as a leaderboard."""
