"""What a model can do, and how fast: likelihood, skills, speed."""
