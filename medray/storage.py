"""Where bytes lie: local folders, s3:// and gs://, and the Delta tables in them.

Owns atomic writes and atomic publication. Knows nothing of what the bytes mean. A URI without
a scheme is a local path; S3 takes its settings from AWS_* (AWS_ENDPOINT_URL for other servers).
"""

import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Schema, Transaction, write_deltalake
from deltalake.transaction import AddAction, RemoveAction, create_table_with_add_actions

from medray.errors import UsageError

_SCHEMES = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs"}
_ROW_GROUP_BYTES = 8 << 20  # fast sequential reads, and one group is a small unit to shuffle


def is_local(uri: str) -> bool:
    """Whether a URI names a path of this machine (or of a file system mounted on it)."""
    return "://" not in uri or uri.startswith("file://")


def absolute(uri: str) -> str:
    """Name the same place, independent of the current folder; no trailing slash."""
    if is_local(uri):
        return os.path.abspath(os.path.expanduser(uri.removeprefix("file://")))
    scheme, _, path = uri.partition("://")
    if scheme not in _SCHEMES:
        raise UsageError(
            f"no storage is known for {scheme}://", remedy="use a local path, s3:// or gs://"
        )
    return f"{_SCHEMES[scheme]}://{path.strip('/')}"


def filesystem(uri: str) -> tuple[pafs.FileSystem, str]:
    """Give the file system a URI lies on, and its path there (absolute, or bucket/key).

    Raises UsageError for a scheme that is neither local, s3 nor gs.
    """
    place = absolute(uri)
    if is_local(place):
        return pafs.LocalFileSystem(), place
    scheme, _, path = place.partition("://")
    return (_s3(*_s3_settings()) if scheme == "s3" else _gcs()), path


def _s3_settings() -> tuple[str | None, str | None]:
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    # Behind an own endpoint there is no instance metadata to ask; the SDK would wait for it.
    return endpoint, region or ("us-east-1" if endpoint else None)


@lru_cache(maxsize=8)
def _s3(endpoint: str | None, region: str | None) -> pafs.FileSystem:
    scheme = endpoint.partition("://")[0] if endpoint and "://" in endpoint else None
    return pafs.S3FileSystem(endpoint_override=endpoint, region=region, scheme=scheme)


@lru_cache(maxsize=1)
def _gcs() -> pafs.FileSystem:
    return pafs.GcsFileSystem()


def storage_options(uri: str) -> dict[str, str]:
    """Give deltalake its settings; keys and roles come from the environment as usual."""
    if not absolute(uri).startswith("s3://"):
        return {}
    endpoint, region = _s3_settings()
    options = {"AWS_CONDITIONAL_PUT": "etag"}  # put-if-absent makes a commit atomic
    if region:
        options["AWS_REGION"] = region
    if endpoint:
        options["AWS_ENDPOINT_URL"] = endpoint
        options["AWS_ALLOW_HTTP"] = str(endpoint.startswith("http://")).lower()
    return options


def join(uri: str, *parts: str) -> str:
    """`uri` with path segments appended."""
    return "/".join([uri.rstrip("/") or "/", *(part.strip("/") for part in parts if part)])


def exists(uri: str) -> bool:
    """Whether a file or folder lies there."""
    fs, path = filesystem(uri)
    return fs.get_file_info(path).type != pafs.FileType.NotFound


def read_bytes(uri: str) -> bytes:
    """Read the whole file. Raises FileNotFoundError."""
    fs, path = filesystem(uri)
    with fs.open_input_stream(path, compression=None) as stream:
        return cast(bytes, stream.read())


def write_atomic(uri: str, data: bytes | memoryview) -> None:
    """Write a file so that readers see the old bytes or the new, never a part."""
    fs, path = filesystem(uri)
    if not is_local(uri):  # an object store shows an object only when it is complete
        with fs.open_output_stream(path, compression=None) as stream:
            stream.write(data)
        return
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(target)
    try:
        temporary.write_bytes(data)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _temporary(target: Path) -> Path:
    return target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")


def write_parquet(uri: str, table: pa.Table, *, no_dictionary: Sequence[str] = ()) -> None:
    """Write one Parquet file atomically: zstd level 1, row groups of about 8 MiB.

    Columns in `no_dictionary` (pixels) are stored plain: a dictionary makes them slow to read.
    """
    sink = pa.BufferOutputStream()
    rows = max(1, int(_ROW_GROUP_BYTES * table.num_rows / max(table.nbytes, 1)))
    options = parquet_options(table.schema, no_dictionary)
    pq.write_table(table, sink, row_group_size=rows, **options)
    write_atomic(uri, memoryview(sink.getvalue()))


def parquet_options(schema: pa.Schema, no_dictionary: Sequence[str] = ()) -> dict[str, Any]:
    """Give the writer's options: zstd level 1; no dictionary or statistics for some columns."""
    dictionary = [name for name in schema.names if name not in no_dictionary]
    return {
        "compression": "zstd",
        "compression_level": 1,
        "use_dictionary": dictionary or False,
        "write_statistics": dictionary or False,
    }


def read_parquet(
    uris: Sequence[str],
    schema: pa.Schema,
    columns: list[str] | None = None,
    where: pads.Expression | None = None,
) -> pa.Table:
    """Read the rows of Parquet files in the given order; files lacking a column give nulls.

    where  only rows for which it holds.
    """
    if not uris:
        return schema.empty_table().select(columns or schema.names)
    fs, _ = filesystem(uris[0])
    paths = [filesystem(uri)[1] for uri in uris]
    dataset = pads.dataset(paths, schema=schema, format="parquet", filesystem=fs)
    return dataset.to_table(columns=columns, filter=where)


def list_files(uri: str) -> list[str]:
    """URIs of all files below a folder, sorted; [] when there is no such folder."""
    fs, path = filesystem(uri)
    found = fs.get_file_info(pafs.FileSelector(path, recursive=True, allow_not_found=True))
    prefix = "" if is_local(uri) else absolute(uri).partition("://")[0] + "://"
    return sorted(prefix + info.path for info in found if info.type == pafs.FileType.File)


def remove_tree(uri: str) -> None:
    """Remove a folder or file with all it holds; nothing there is fine."""
    fs, path = filesystem(uri)
    if is_local(uri):
        if os.path.isdir(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            Path(path).unlink(missing_ok=True)
        return
    kind = fs.get_file_info(path).type
    if kind == pafs.FileType.Directory:
        fs.delete_dir(path)
    elif kind == pafs.FileType.File:
        fs.delete_file(path)


def move(source: str, target: str) -> None:
    """Move one file within a storage; nothing happens when only the target is there."""
    fs, old = filesystem(source)
    _, new = filesystem(target)
    if fs.get_file_info(old).type == pafs.FileType.NotFound and exists(target):
        return
    if is_local(target):
        Path(new).parent.mkdir(parents=True, exist_ok=True)
    fs.move(old, new)


def _delta_uri(uri: str) -> str:
    """Name a table for deltalake, whose kernel decodes percent signs of a path once too often."""
    place = absolute(uri)
    if re.search(r"%[0-9A-Fa-f]{2}", place):
        raise UsageError(
            "a Delta table cannot lie below a folder whose name holds a percent code",
            remedy="name another `output`",
        )
    return place


def table_exists(table_uri: str) -> bool:
    """Whether a Delta table has been published there."""
    return DeltaTable.is_deltatable(_delta_uri(table_uri), storage_options(table_uri))


def open_table(table_uri: str) -> DeltaTable:
    """Open the newest version of a Delta table."""
    return DeltaTable(_delta_uri(table_uri), storage_options=storage_options(table_uri))


def table_files(table_uri: str) -> list[str]:
    """URIs of the Parquet files that the newest version consists of, sorted."""
    return sorted(join(table_uri, path) for path in _active_paths(open_table(table_uri)))


def _active_paths(table: DeltaTable) -> list[str]:
    paths = pa.table(table.get_add_actions(flatten=True))["path"].to_pylist()
    return [unquote(path) for path in paths]


def table_schema(table_uri: str) -> pa.Schema:
    """List the columns of the newest version."""
    return pa.schema(open_table(table_uri).schema().to_arrow())


def read_table(table_uri: str, columns: list[str] | None = None) -> pa.Table:
    """All rows of the newest version of a Delta table."""
    return read_parquet(table_files(table_uri), table_schema(table_uri), columns)


def publish(
    table_uri: str,
    schema: pa.Schema,
    parts: Sequence[str],
    app_id: str,
    version: int,
    mode: Literal["append", "overwrite"] = "append",
    *,
    removes: Sequence[str] = (),
) -> bool:
    """Make Parquet files below `table_uri` part of the table, in one transaction.

    `removes`: files of the table that leave it in the same transaction (append only). A file
    that is already part of the table is left as it is. Returns False, doing nothing, when
    (app_id, version) has been published before.
    """
    properties = CommitProperties(app_transactions=[Transaction(app_id, version)])
    if not table_exists(table_uri):
        create_table_with_add_actions(
            _delta_uri(table_uri),
            Schema.from_arrow(schema),
            [_add_action(table_uri, part) for part in parts],
            mode="error",
            storage_options=storage_options(table_uri),
            commit_properties=properties,
        )
        return True
    table = open_table(table_uri)
    if _published(table, app_id, version):
        return False
    active = set(_active_paths(table)) if mode == "append" else set[str]()
    wanted = [part for part in parts if _relative(table_uri, part) not in active]
    now = int(time.time() * 1000)
    gone = [RemoveAction(_relative(table_uri, uri), True, now) for uri in removes]
    adds = [_add_action(table_uri, part) for part in wanted]
    table.create_write_transaction([*adds, *gone], mode, schema, commit_properties=properties)
    return True


def replace_table(table_uri: str, table: pa.Table, app_id: str, version: int) -> bool:
    """Replace all rows, and the columns, of a Delta table in one transaction.

    Returns False, doing nothing, when (app_id, version) has been published before.
    """
    if table_exists(table_uri) and _published(open_table(table_uri), app_id, version):
        return False
    write_deltalake(
        _delta_uri(table_uri),
        table,
        mode="overwrite",
        schema_mode="overwrite",
        storage_options=storage_options(table_uri),
        commit_properties=CommitProperties(app_transactions=[Transaction(app_id, version)]),
    )
    return True


def append_table(table_uri: str, table: pa.Table) -> None:
    """Add rows to a Delta table, made where it is not there yet. Every call adds them."""
    write_deltalake(
        _delta_uri(table_uri), table, mode="append", storage_options=storage_options(table_uri)
    )


def _published(table: DeltaTable, app_id: str, version: int) -> bool:
    last = table.transaction_version(app_id)
    return last is not None and last >= version


def _relative(table_uri: str, part: str) -> str:
    root = absolute(table_uri) + "/"
    place = absolute(part)
    if not place.startswith(root):
        raise ValueError("a table's files must lie in its folder")
    return place.removeprefix(root)


def _add_action(table_uri: str, part: str) -> AddAction:
    fs, path = filesystem(part)
    info = fs.get_file_info(path)
    rows = pq.read_metadata(path, filesystem=fs).num_rows
    return AddAction(
        path=_relative(table_uri, part),
        size=info.size,
        partition_values={},
        modification_time=int((info.mtime_ns or 0) / 1e6),
        data_change=True,
        stats=json.dumps({"numRecords": rows}),
    )
