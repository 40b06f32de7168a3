"""The search config: one YAML file, checked against a schema, with every default filled in."""
