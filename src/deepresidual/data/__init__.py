"""From a data set on disk to batches of uint8 pixels."""
