"""The configuration of a site, of models and of agents: layers of YAML, merged, expanded, checked.

Runs where a person types. What a key means stands in site-config/default.yaml, models.yaml and agents.yaml."""
