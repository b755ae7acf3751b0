"""Box office: sells tickets when a popular show goes on sale."""
