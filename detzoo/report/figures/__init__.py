"""Charts as SVG and PNG, and their fonts and colours."""
