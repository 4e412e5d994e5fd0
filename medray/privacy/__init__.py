"""What may leave ingest: keyed pseudonyms instead of identifiers."""
