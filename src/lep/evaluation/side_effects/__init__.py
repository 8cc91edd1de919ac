"""What an adaptation does to other languages and abilities."""
