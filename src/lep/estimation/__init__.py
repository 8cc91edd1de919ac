"""What a recipe will take: time, memory and disk."""
