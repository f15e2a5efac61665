"""Two projects as users have them, and the lines that make them lazy."""
