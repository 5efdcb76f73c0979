import numpy as np
from mnist_hpo.preprocessing.digit import *
from mnist_hpo.preprocessing.ink import *
from mnist_hpo.preprocessing.paper import *
from mnist_hpo.preprocessing.resample import *
from mnist_hpo.preprocessing.strokes import *

def find_one(grey):
    side = reduction(*grey.shape)
    ink = ink_of(find_paper(block_averages(grey, side)))
    strokes, labels = find_strokes(ink)
    return normalise(np.where(labels > 0, ink, 0))
