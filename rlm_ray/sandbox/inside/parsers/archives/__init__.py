"""Members of archives: where each lies, from the archive's own directory. Data stays where it is."""
