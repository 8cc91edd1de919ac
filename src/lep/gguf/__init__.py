"""Export a model folder to GGUF for llama.cpp and Ollama."""
