"""What a run made, in forms that others load: written aside, held against the run, then given its name."""
