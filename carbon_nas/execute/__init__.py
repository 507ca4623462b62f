"""Where jobs run: executors start, suspend, find and end runners; nothing here knows of carbon."""
