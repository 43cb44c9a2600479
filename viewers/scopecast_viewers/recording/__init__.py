"""The flight recorder: writes what is live to files, keeps the last seconds, and recovers what a killed one left."""
