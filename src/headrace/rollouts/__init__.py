"""Rollouts of followed models: which version has which part of the requests, and until when.

`desired` says it as a function of the registry, the configuration, the record and the clock;
`record` is what people and rules have decided. `split` divides requests, `evidence` is what is
counted for the rules, and `traffic` is what the request path sees of one model.
"""
