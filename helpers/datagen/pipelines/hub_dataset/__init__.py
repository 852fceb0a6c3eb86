"""Tasks that are questions with an answer each, of a dataset on the Hugging Face Hub."""
