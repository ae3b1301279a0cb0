"""Training: options, a plan, and the loop that fills a run folder. Nothing is imported before it is used."""
