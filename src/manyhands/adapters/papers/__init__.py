"""Sources of papers: the Hugging Face Hub, a folder, a tool server."""
