"""Images and bundles: what a model or a service needs, packed so that it runs elsewhere."""
