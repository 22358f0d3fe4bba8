"""What the customer gets to read and sign."""
