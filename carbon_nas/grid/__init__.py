"""What is known of the grid: the feed, its timeline, and the HTTP helper that providers share."""
