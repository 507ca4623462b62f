"""Finding out how good an architecture is: proxies, training, and the runner process they live in."""
