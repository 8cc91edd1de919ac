"""What an adaptation does to other languages, to arithmetic and code, and to the script of answers."""
