"""The reference model that ships: checkpoint, tokenizer and training recipe."""
