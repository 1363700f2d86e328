"""A trained model as a file of another language that needs nothing of this package.

What all kinds share is in `portable.py`. Not here: files that this package reads again (`models/writing.py`).
"""
