"""The frames and the shared memory between a child and its parent. Imports the standard library and `errors`."""
