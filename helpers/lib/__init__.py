"""What all others stand on: files, folders, processes, signals, words, exit codes.

Runs everywhere, in jobs and images too. Needs nothing but Python (command_line: click; tables: rich), and no other package here."""
