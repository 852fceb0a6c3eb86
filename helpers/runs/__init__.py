"""The folder of a run and what stands in it: records, costs, and the table of results that is made of them.

Runs where a person types. Needs nothing but Python: results can be exported where nothing is installed."""
