"""The columns of every table medray writes. The schemas are the contract between verbs.

`files` (the inventory) is the one table that holds raw identifiers and paths; it lies beside
the dataset, not in it. Everything else carries pseudonyms only.
"""

import pyarrow as pa

# One row per file (or ZIP member) seen. status: ok | ignored | rejected.
FILES = pa.schema(
    [
        pa.field("file_id", pa.string(), nullable=False),  # sha256(path)[:32]: joins tables
        pa.field("path", pa.string(), nullable=False),  # ZIP members: archive.zip!member
        pa.field("size", pa.int64(), nullable=False),
        pa.field("mtime_ns", pa.int64(), nullable=False),
        pa.field("kind", pa.string()),  # dicom | png | jpeg | other
        pa.field("sha256", pa.string()),
        pa.field("sop_instance_uid", pa.string()),
        pa.field("series_instance_uid", pa.string()),
        pa.field("study_instance_uid", pa.string()),
        pa.field("accession_number", pa.string()),
        pa.field("patient_id", pa.string()),
        pa.field("issuer_of_patient_id", pa.string()),
        pa.field("sop_class_uid", pa.string()),
        pa.field("transfer_syntax_uid", pa.string()),
        pa.field("modality", pa.string()),
        pa.field("photometric_interpretation", pa.string()),
        pa.field("rows", pa.int32()),
        pa.field("columns", pa.int32()),
        pa.field("frames", pa.int32()),
        pa.field("class_folder", pa.string()),  # name of the folder a PNG/JPEG lies in
        pa.field("status", pa.string(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("detail", pa.string()),
        pa.field("items", pa.int32(), nullable=False),  # rows of `images` made from it
        pa.field("run", pa.string(), nullable=False),
    ]
)

# One row per item to learn from or score. Columns asked for by the spec follow as strings.
IMAGES = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),  # pseudonym of SOP instance, "#frame"
        pa.field("subject_id", pa.string(), nullable=False),  # pseudonym of the patient
        pa.field("study_id", pa.string(), nullable=False),  # pseudonym of the study
        pa.field("file_id", pa.string(), nullable=False),
        pa.field("frame", pa.int32(), nullable=False),
        pa.field("pixels", pa.binary(), nullable=False),  # C order
        pa.field("shape", pa.list_(pa.int32()), nullable=False),
        pa.field("dtype", pa.string(), nullable=False),  # numpy name, little endian
        pa.field("pixels_sha256", pa.string(), nullable=False),  # of the bytes before resizing
        pa.field("spacing_mm", pa.list_(pa.float64())),  # row, column distance as stored
    ]
)

# One row per event: MEDS 0.4, names and types of its DataSchema. Sorted by subject and time within
# a file; a subject stands in one file. time is null for facts without time.
EVENTS = pa.schema(
    [
        pa.field("subject_id", pa.int64(), nullable=False),  # pseudonym of the patient
        pa.field("time", pa.timestamp("us")),
        pa.field("code", pa.string(), nullable=False),
        pa.field("numeric_value", pa.float32()),
        pa.field("text_value", pa.large_string()),
    ]
)

# One row per row of a source that became no event, or no molecule of its own: which one, and why.
# No value, no identifier.
REFUSED_ROWS = pa.schema(
    [
        pa.field("source", pa.int32(), nullable=False),  # index in `sources` of the spec
        pa.field("file", pa.int32(), nullable=False),  # index in the sorted list of its files
        pa.field("row", pa.int64(), nullable=False),  # from 0, the header not counted
        pa.field("code", pa.string()),  # of the event; null for molecules
        pa.field("reason", pa.string(), nullable=False),  # errors.Code
    ]
)

# One row per molecule: a structure in standard form, once. Properties follow as float64 or text.
MOLECULES = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),  # sha256(smiles)[:24]
        pa.field("subject_id", pa.string(), nullable=False),  # the same: a molecule is its own
        pa.field("study_id", pa.string(), nullable=False),  # sha256(scaffold)[:24]
        pa.field("smiles", pa.string(), nullable=False),  # canonical, of the standard form
        pa.field("scaffold", pa.string(), nullable=False),  # Bemis and Murcko; "" without rings
        pa.field("source", pa.string(), nullable=False),  # the first that puts it into its split
        pa.field("heavy_atoms", pa.int32(), nullable=False),
        pa.field("split", pa.string()),  # what `split` of the spec gave; null: in none
        pa.field("split_random", pa.string()),  # the same fractions by molecule
        pa.field("split_scaffold", pa.string()),  # and by scaffold
    ]
)

# One row per generated molecule, each once. What packages of predictors say follows as float64
# columns `package/target` (or `package/target/class`), null where one does not take the molecule.
GENERATED = pa.schema(
    [
        pa.field("rank", pa.int32(), nullable=False),  # from 1, in the order that was asked for
        pa.field("item_id", pa.string(), nullable=False),  # sha256(smiles)[:24], as in MOLECULES
        pa.field("smiles", pa.string(), nullable=False),  # canonical, of the standard form
        pa.field("scaffold", pa.string(), nullable=False),  # Bemis and Murcko; "" without rings
        pa.field("QED", pa.float64(), nullable=False),  # drug-likeness, 0 to 1
        pa.field("SA", pa.float64(), nullable=False),  # synthetic accessibility, 1 (easy) to 10
        pa.field("logP", pa.float64(), nullable=False),
        pa.field("weight", pa.float64(), nullable=False),  # g/mol
        pa.field("alert", pa.string()),  # medicinal chemistry filter that it fails; null: none
        pa.field("novel", pa.bool_()),  # not in `train`; null: `train` is not known
        pa.field("neighbour", pa.string()),  # SMILES of the most similar molecule of `train`
        pa.field("similarity", pa.float64()),  # to it: Tanimoto, Morgan radius 2, 1,024 bits
        pa.field("chunk", pa.int32(), nullable=False),  # of draws, each of a seed of its own
        pa.field("place", pa.int32(), nullable=False),  # in the chunk
    ]
)

# One row per item and target (multi-class: per class, named in text_value). Long form. A file
# that gave no item is one row without frame and target. status: ok | rejected | ignored.
# Of timelines: an item is patient@microseconds, and what a file is to images is the patient's whole
# record: file_id is the patient, size its events, mtime_ns 63 bits of its SHA-256.
PREDICTIONS = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("subject_id", pa.string()),
        pa.field("study_id", pa.string()),
        pa.field("file_id", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),  # with mtime_ns: which version of the file
        pa.field("mtime_ns", pa.int64(), nullable=False),
        pa.field("frame", pa.int32()),
        # timelines: up to when events count; images: when the score was made
        pa.field("prediction_time", pa.timestamp("us", tz="UTC")),
        pa.field("target", pa.string()),  # null where there is no score
        pa.field("score", pa.float64()),  # calibrated probability; of a forecast, a value
        pa.field("decision", pa.bool_()),
        pa.field("text_value", pa.string()),
        pa.field("status", pa.string(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("package", pa.string(), nullable=False),  # name@version#sha256
        pa.field("run", pa.string(), nullable=False),
    ]
)
