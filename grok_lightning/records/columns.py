"""Columns of values from JSON files: in a native Parquet type where all values have one, else as JSON."""

import json
import os
from collections.abc import Sequence
from typing import Any

import pandas as pd
import pyarrow as pa

from grok_lightning.reading import parse_json

TEXT, JSON = (pa.dictionary(pa.int32(), kind) for kind in (pa.string(), pa.binary()))
NATIVE = {int: pa.int64(), float: pa.float64(), bool: pa.bool_(), str: TEXT.value_type}
NULLABLE = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}


def add_columns(table: pd.DataFrame, **columns: Any) -> pd.DataFrame:
    """The table with further columns at its end, or in place of those of their names.

    As ``DataFrame.assign``, but for tables of any width: a column of text is a block of memory of its own, and pandas
    warns of slow insertion from a hundred blocks on, which a table with all options has.
    """
    kept = table.drop(columns=[name for name in columns if name in table])
    return pd.concat([kept, pd.DataFrame(columns, index=table.index)], axis=1)


def encode(values: Sequence[Any]) -> pa.Array:
    """Encode values, as ``parse_json`` returns them, as a column.

    Values of one type and nulls are a column of that type, text is dictionary-encoded. Others (lists, several types,
    integers of more than 64 bits, text with surrogates) are dictionary-encoded JSON, marked by its binary type.
    """
    kinds = set(map(type, values)) - {type(None)}
    if not kinds:
        return pa.nulls(len(values))
    if len(kinds) == 1 and (kind := NATIVE.get(*kinds)):
        try:
            array = pa.array(values, kind)
            return array.dictionary_encode() if kind == TEXT.value_type else array
        except (OverflowError, ValueError):
            pass
    keys = list(map(repr, values))  # unlike the values, they can be hashed and tell 1, 1.0 and True apart
    distinct = dict(zip(keys, values, strict=True))
    texts = {key: None if value is None else json.dumps(value).encode() for key, value in distinct.items()}
    return pa.array(list(map(texts.__getitem__, keys)), JSON.value_type).dictionary_encode()


def decode(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    """Decode a column of ``encode``; equal lists become the same object."""
    values = column.to_pylist()
    if column.type not in (JSON, JSON.value_type):
        return values
    decoded = {text: None if text is None else parse_json(text) for text in set(values)}
    return list(map(decoded.__getitem__, values))


def is_encoded(table: pa.Table) -> bool:
    """Whether the columns of a table have types that ``encode`` gives, and all JSON in them can be read."""
    kinds = {pa.int64(), pa.float64(), pa.bool_(), TEXT, JSON, pa.null()}
    if not {*table.schema.types} <= kinds:
        return False
    try:
        for column in table.columns:
            for chunk in column.chunks if column.type == JSON else ():
                decode(chunk.dictionary)
    except ValueError:
        return False
    return True


def column_of(table: pa.Table, name: str) -> pa.ChunkedArray:
    """Column of a table; nulls if the table does not have it."""
    return table[name] if name in table.column_names else pa.chunked_array([pa.nulls(len(table))])


def join(tables: Sequence[pa.Table], path: str) -> pa.Table:
    """Concatenate the rows of at least one table, with the columns of all, sorted by a column of paths."""
    tables = [table for table in tables if len(table)] or tables[:1]
    names = dict.fromkeys(name for table in tables for name in table.column_names)
    whole = pa.table({name: _concatenate([column_of(table, name) for table in tables]) for name in names})
    parts = [text.split(os.sep) for text in decode(whole[path])]
    order = sorted(range(len(parts)), key=parts.__getitem__)
    return whole if order == list(range(len(parts))) else whole.take(pa.array(order, pa.int64()))


def _concatenate(parts: Sequence[pa.ChunkedArray]) -> pa.Array:
    kinds = {part.type for part in parts if part.null_count < len(part)}
    if len(kinds) > 1:
        return encode([value for part in parts for value in decode(part)])
    kind = kinds.pop() if kinds else pa.null()
    chunks = [chunk for part in parts for chunk in (part.chunks if part.type == kind else [pa.nulls(len(part), kind)])]
    column = pa.chunked_array(chunks, kind).combine_chunks()
    if kind not in (TEXT, JSON):
        return column
    used = column.indices.dictionary_encode()  # drops the texts of removed rows
    return pa.DictionaryArray.from_arrays(used.indices, column.dictionary.take(used.dictionary))


def to_series(column: pa.ChunkedArray) -> pd.Series:
    """Convert a column for users; its type depends on its values only, see ``read_records``."""
    if column.null_count == len(column):
        return pd.Series([None] * len(column), dtype=object)
    array = column.combine_chunks()
    if array.type == JSON:
        values = decode(array.dictionary)
        # integers among floats become floats if that is exact for all
        exact = all(type(value) is float or (type(value) is int and abs(value) <= 2**53) for value in values)
        distinct = encode(list(map(float, values)) if exact and float in map(type, values) else values)
        if distinct.type == JSON:
            places = array.indices.fill_null(len(values)).to_numpy()
            return pd.Series(pd.Series([*values, None], dtype=object).to_numpy()[places], dtype=object)
        array = distinct.take(array.indices)
    if array.type == TEXT:
        array = array.cast(pa.large_string())
    return array.to_pandas(types_mapper=NULLABLE.get if array.null_count else None)
