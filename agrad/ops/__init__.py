"""The operations, a file per family: forward, backward and average stand together on one page.

They work on arrays and know nothing of Tensors or graphs.
"""
