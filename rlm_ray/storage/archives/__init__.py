"""Members of archives as objects: `archive.zip!/path`. Their version says where in the archive their bytes are."""
