from .hashes import (
    UInt64 as UInt64,
    column_hashes as column_hashes,
    row_digests as row_digests,
    row_keys as row_keys,
    share_hash as share_hash,
    stable_hash as stable_hash,
    stable_order as stable_order,
)
from .inputs import as_input as as_input
from .plain import (
    is_missing as is_missing,
    parquet_batches as parquet_batches,
    plain as plain,
    readable as readable,
)
