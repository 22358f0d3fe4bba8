"""Two discs in, one verified repository and install tree out, served straight from the discs."""
