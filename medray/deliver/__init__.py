"""Predictions as DICOM objects, filed beside the images that they are of. Bytes in, bytes out.

uids     names of objects that are the same whenever the same is said again
source   what an object takes over of the image it is made from
sr       scores → Enhanced SR (TID 1500)
capture  a heat map → Secondary Capture

Sends nothing and stores nothing; knows neither HTTP nor tables. Nothing that is made here is for
a diagnosis, and every object says so.
"""
