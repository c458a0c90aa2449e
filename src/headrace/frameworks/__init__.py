"""What the public modules of frameworks, such as `headrace.sklearn`, have in common."""
