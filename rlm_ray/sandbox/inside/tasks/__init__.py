"""Children with one task: root code's functions over batches, SQL over Arrow, and parsers of documents."""
