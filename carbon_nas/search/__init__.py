"""Search spaces, the controllers that search them, and what they are paid for."""
