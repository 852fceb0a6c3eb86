"""What the container images are made of, and the weights of models.

Runs where a person types; weights.py in the job of a model server too, and it needs nothing but Python."""
