"""What can be found out about a model or about data."""
