"""One site file in, an installed cloud out."""
