from .artifact import Artifact as Artifact
from .bucket import (
    ABSENT as ABSENT,
    ObjectChanged as ObjectChanged,
    ObjectFacts as ObjectFacts,
    below as below,
    describe_objects as describe_objects,
    download as download,
    is_remote as is_remote,
    list_folders as list_folders,
    list_objects as list_objects,
    normalised as normalised,
    read_object as read_object,
    remove_objects as remove_objects,
    upload as upload,
    write_object as write_object,
)
from .files import (
    crc32c_of as crc32c_of,
    locked as locked,
    plain_path as plain_path,
    replace_file as replace_file,
    sync_folder as sync_folder,
    write_json as write_json,
)
from .folder import (
    MANIFEST as MANIFEST,
    ArtifactReader as ArtifactReader,
    ArtifactWriter as ArtifactWriter,
    Manifest as Manifest,
    content_hash as content_hash,
    open_artifact as open_artifact,
    read_manifest as read_manifest,
    seal_artifact as seal_artifact,
    write_artifact as write_artifact,
)
from .lineage import COMMIT as COMMIT, RUN_ID as RUN_ID, STEP as STEP, Lineage as Lineage
from .local_copies import Place as Place, local_copy as local_copy, process_folder as process_folder
from .staging import Staging as Staging, staging as staging
