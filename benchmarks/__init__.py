"""Measurements, as ratios: not tests. `python -m benchmarks` runs the parts and writes `reports/benchmarks.json`."""
