"""What runs here and in the model server alike: these files travel beside a deployed function.

They import the standard library, numpy and pandas, and each other; nothing of themisto.
"""
