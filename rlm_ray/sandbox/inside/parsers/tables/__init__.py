"""Tables of foreign formats as Arrow record batches: Avro, ORC, sheets."""
