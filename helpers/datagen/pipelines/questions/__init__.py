"""Tasks that are questions with an answer each, of a jsonl, CSV or parquet file."""
