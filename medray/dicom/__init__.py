"""DICOM: bytes in; header facts and exact pixels out; a typed refusal otherwise.

    files      bytes → dataset, every fault a `RejectError`
    instance   dataset → the attributes that tables need, and "can this become a picture?"
    frames     pixel data → the bytes of each frame
    codecs     one frame's bytes → stored values, one literal table of transfer syntaxes
    contained  the same, in a child process that may crash or hang without harm
    luts       modality and VOI transforms of a header, as values (PS3.3 C.11)
    colour     palette and colour samples → RGB (PS3.3 C.7.6.3.1)
    pixels     dataset → pictures, by all of the above
    resize     area resizing and channels
    raster     PNG and JPEG → the same pictures
    write      arrays → valid minimal instances, for demos and tests

Knows neither Ray nor torch. No detail of a refusal carries a patient's value or a path.
"""
