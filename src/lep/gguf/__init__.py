"""Export of model folders to GGUF files for llama.cpp and Ollama."""
