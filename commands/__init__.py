"""The command line, one module per group of verbs: parse, build adapters, call a stage, render."""
