"""HTML pages that are one file each: no network, no script, every value escaped."""
