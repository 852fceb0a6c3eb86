"""What the replay model answers: a class for each kind of agent, which says which requests are its own. Runs in the replay server."""
