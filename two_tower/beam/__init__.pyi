from .dataflow_job import JobError as JobError
from .dataflow_options import (
    check_options as check_options,
    job_family as job_family,
    job_name as job_name,
    job_options as job_options,
    label_value as label_value,
)
from .runners import (
    LOCAL as LOCAL,
    REMOTE as REMOTE,
    is_remote as is_remote,
    naming_a_full_disk as naming_a_full_disk,
    pipeline as pipeline,
    spread as spread,
)
