"""What is known of the model family: catalogue, RoPE, tokenizer, template and checkpoints, as data and arithmetic."""
