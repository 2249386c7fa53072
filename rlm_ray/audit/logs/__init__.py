"""Times, hosts and deciding words of log lines: pure modules that a program's cells import inside the sandbox."""
