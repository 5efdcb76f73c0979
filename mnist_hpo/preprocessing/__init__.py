"""From a picture of handwriting to images such as MNIST's.

`decode` reads a file's content as grey values. `find` finds the digits in them. In between, `resample` averages areas,
`paper` tells the paper from the ink, `ink` measures the ink of each pixel, `strokes` finds what belongs together,
`line` groups it to digits, and `digit` scales and centres one.

`assets/preprocessing.js` computes the same in a browser. All numbers are integers, from a grey value's 256th parts to
the sums of areas, so both compute the same to the last bit; change them together.
"""
