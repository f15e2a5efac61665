"""LoRA of a small BERT with transformers and peft."""
