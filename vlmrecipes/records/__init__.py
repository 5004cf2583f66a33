"""What a run did, kept as files, read back as lists and reports."""
