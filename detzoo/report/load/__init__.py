"""The inputs of a report: run directories, other programs' results, and their protocols."""
