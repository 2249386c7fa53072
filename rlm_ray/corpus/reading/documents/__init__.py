"""Readers of whole objects: text documents, and PDF and DOCX through a parser in the sandbox."""
