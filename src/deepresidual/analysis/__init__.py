"""Looking at networks: figures of what they are made of."""
