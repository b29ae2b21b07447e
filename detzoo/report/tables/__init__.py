"""Rows: the leaderboard, the latencies, and both as text, CSV, Markdown and LaTeX."""
