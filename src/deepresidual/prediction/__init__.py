"""Predictions and features of many files: as rows, in files, and in folders of shards that can be resumed."""
