"""The command line: a file for each command, named after it, and what they share. Only this package prints."""
