"""The ToDo service's own code; `app.py` only declares routes and scopes."""
