"""A part of the tests in Pyodide, which Node runs."""
