"""Old physical servers in, domains of the new cloud out: one module per stage."""
