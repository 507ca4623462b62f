"""What the daemon shows: metrics and health over HTTP, its state to the service manager, the terminal view."""
