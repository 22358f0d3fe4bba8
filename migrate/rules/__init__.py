"""What the assessment asks about a source host: one module per subject."""
