"""The engine behind the public runnables: pure decisions, and the thread and task drivers that carry them out."""
