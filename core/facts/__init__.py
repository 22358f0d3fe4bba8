"""Asking: each fact is one read-only command and one parser. Judging is core.rules' business."""
