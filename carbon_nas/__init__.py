"""A daemon that searches for neural architectures when the electricity is clean."""
