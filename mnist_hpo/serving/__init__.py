"""The HTTP service of a model.

`server` runs the app of `app`. `protocol` limits connections and heads, `guard` everything that all requests share, and
`predict` answers: `pixel_lists` and `uploads` read the images, and `batching` computes the answers of many requests at
once on the thread of `device`. `alias` swaps the model.
"""
