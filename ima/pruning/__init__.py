"""Masks of weights, their calibration, and the subnetwork that all tasks share."""
