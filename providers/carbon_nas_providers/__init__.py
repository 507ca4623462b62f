"""The built-in sources of carbon intensity, one file each."""
