"""The walls as the child builds them: Landlock, seccomp, resource limits, and the count of denied attempts."""
