"""Unlabeled: training that learns from images without labels, alone or beside a few that have them.

In: a Keras classifier, images, perhaps a few labels. Out: the same classifier, trained. Everything runs through
:func:`medlab.train.fit`, so that it shows its progress, stops and resumes like any other training.
"""
