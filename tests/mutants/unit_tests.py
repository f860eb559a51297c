"""Which unit tests have to notice a change in a module. None of them needs a server."""

from __future__ import annotations

from pathlib import PurePosixPath

# Module → the names of its tests in the same folder below tests/, if they are not only in the file of its name.
_NAMES = {
    **{
        f"tasks/columns/{module}.py": tests
        for module, tests in {
            "batch": ("batch", "batch_parts"),
            "compose": ("compose", "decode_flat"),
            "decode": ("decode_flat", "decode_groups", "decode_rows_of_files", "batch", "decode_json"),
            "documents": ("documents", "extract_documents"),
            "encode_rows": ("encode_rows", "encode_bytes"),
            "encoded_rows": ("encoded_rows", "batch"),
            "entries": ("entries", "batch"),
            "extract": ("flat_documents", "compose", "decode_flat", "routing"),
            "repeated_keys": ("repeated_keys", "batch"),
            "row_layout": ("row_layout", "parts"),
            "row_pieces": ("row_pieces", "encode_rows", "encode_bytes"),
        }.items()
    },
    **{
        f"tasks/columns/types/{module}.py": ("binary_forms", "type_cases", *tests)
        for module, tests in {
            "array_literals": ("arrays", "array_literals"),
            "arrays": ("arrays",),
            "arrow_values": ("typed_values",),
            "bytea": (),
            "decimals": ("typed_values",),
            "floats": ("typed_values",),
            "integers": ("typed_values",),
            "json_arrays": ("arrays",),
            "moments": ("moments", "odd_moments"),
            "network_types": (),
            "registry": (),
            "temporal": ("moments",),
            "text_types": (),
            "time_of_day": (),
            "uuid_type": ("uuid_type",),
        }.items()
    },
    "tasks/columns/types/time_formats.py": ("moments", "whole_columns"),
    "tasks/columns/types/ulids.py": ("uuid_type",),
    "tasks/columns/types/zones.py": ("moments", "whole_columns"),
    **{
        f"tasks/mapping/{module}.py": tests
        for module, tests in {
            "create_table": ("propose_table",),
            "infer_types": ("infer_types",),
            "leaves": ("leaves",),
            "match_table": ("match_table",),
            "propose_table": ("propose_table",),
            "sample_documents": ("sample_documents",),
            "sample_keys": ("sample_keys",),
            "suggest": ("suggest", "match_table", "propose_table"),
        }.items()
    },
    "tasks/streams/trim.py": ("trim_position",),
    "infra/mapping/column_source.py": ("column_source",),
    "infra/mapping/toml_write.py": ("toml_write",),
    **dict.fromkeys(("infra/tables/statements.py", "infra/tables/time_sql.py"), ("table",)),
}
# Folder → the names of the tests of each of its modules.
_FOLDERS = {"infra/mapping": ("load_refusals", "load_streams", "load_tables", "mapping_file", "paths")}


def unit_tests_of(module: str) -> list[str]:
    """The files with the unit tests of a module."""
    path = PurePosixPath(module)
    names = _NAMES.get(module) or _FOLDERS.get(str(path.parent)) or (path.stem,)
    return [f"tests/{path.parent}/test_{name}.py" for name in names]


def listed_modules() -> list[str]:
    """The modules whose tests are not only in the file of their name."""
    return list(_NAMES)
