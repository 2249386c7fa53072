"""Mail: messages out of mbox, EML and MSG, their parts, and the text of attachments."""
