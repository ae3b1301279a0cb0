"""``shards:PATTERN``: tar files in the layout of WebDataset.

PATTERN is a folder of ``.tar`` files, one such file, a pattern (``data/train-*.tar``) or a range
(``data/train-{000000..000009}.tar``). A sample is a run of consecutive members whose names agree up to the
first dot of the file name: one image (under any suffix of :mod:`deepresidual.data.formats`) and its label, as
``.cls`` (a whole number as text) or in the field ``label`` of ``.json`` (a number or the name of a class).
The split is a word of a tar's name (``train-000000.tar``, ``pets-val-000000.tar``) or of a folder above it;
where no name says, a fixed fifth of each class is held out by the hash of the image's name. Class names come
from ``classes.json``, a list beside the tars, else from the labels.

Shards are usually read as a stream, and shuffled in a buffer. Here they are read at random: when the data
set is opened, the headers of every tar are gone through once, and the place of every image is kept in numpy
arrays, which worker processes share without copying. So shards are a split like any other. The order is the
same function of seed and epoch, workers and ranks divide it without knowing about tars, every sample comes
once an epoch, and a run resumes exactly; a stream has none of this. The price is paid twice: opening takes
about 50 µs a member, divided among the cores, and reading jumps, which a local disk and the page cache bear
and a network does not.

A tar is never unpacked. Members that would be dangerous to unpack (links, devices, names that lead out) are
refused all the same, because a tar that has them was not made for this.
"""
