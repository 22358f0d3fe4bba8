"""The small estate that Groundlift is tried on. No product package imports it."""
