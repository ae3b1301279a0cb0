"""Predictions and features of many files."""
