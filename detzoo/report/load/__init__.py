"""What a report is made from: run directories, other programs' results, and their protocols."""
