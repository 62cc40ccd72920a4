"""Names the files, the data window and the champion that this run works with."""

from typing import NamedTuple


def resolve_inputs(
    config: str,
    data_root: str,
    registry: str,
    earlier: str,
    run_time: str,
    time_zone: str,
    scheduled: str,
    created: str,
    run_id: str,
) -> NamedTuple(  # type: ignore[valid-type]
    "Outputs",
    [
        ("sources", str), ("champion", str), ("previous", str), ("warm_start", str), ("data", str), ("config", str),
        ("new_data", str),
    ],
):  # fmt: skip
    """Lists the input files with sizes and generations, fills in the run's time, and names the champion.

    Never cached: that is how changed files, a new night and a new champion are noticed, while the steps that get the
    same answer as before stay cached.

    Args:
        config: The whole configuration as canonical JSON; texts below `data` may hold placeholders such as {date-1d}.
        data_root: Where relative source paths are looked up first, a local folder or a URL.
        registry: The registry's root, a local folder or a gs:// URI.
        earlier: Folders of earlier prepared data, newest first, as JSON.
        run_time: The time that the placeholders stand for, ISO 8601; if empty the time of the schedule, else `created`.
        time_zone: The zone in which they are filled in.
        scheduled: The time for which a schedule started this run, from the runner.
        created: The time at which the run was created, from the runner.
        run_id: The run's id.

    Returns:
        sources: The files as canonical JSON. champion: A version id, or an empty text. previous: The first of the
            earlier folders whose files are some of today's, or an empty text. warm_start: With `training.warm_start`
            the folder of the champion's trained towers; else, or where there are none, an empty text, so that a new
            champion is news for nobody's training. data, config: The section and the whole configuration with the time
            filled in. new_data: What the champion has not seen of the files, as JSON.
    """
    import json

    from components.runtime import running
    from two_tower import Config, Registry, parse_section
    from two_tower.config import canonical_json, first_time
    from two_tower.data import choose_earlier, new_data_in_words, new_data_since, resolve_run
    from two_tower.progress import log

    with running("resolve_inputs", run_id=run_id):
        moment = first_time(run_time, scheduled, created)
        settings, sources = resolve_run(
            parse_section(Config, config), moment, data_root=data_root or None, zone=time_zone
        )
        versions = Registry(registry, settings.name)
        champion = versions.champion()
        warm = versions.warm_start() if settings.training.warm_start else None
        new_data = new_data_since(
            champion.sources if champion else None,
            sources,
            moment=moment,
            seen_until=champion.data_seen_until if champion else None,
        )
        log.info("resolve_inputs: for %s: %s", new_data["run_time"], new_data_in_words(new_data))
        return (
            canonical_json(sources),
            champion.id if champion else "",
            choose_earlier(json.loads(earlier), sources),
            str(warm or ""),
            canonical_json(settings.data),
            canonical_json(settings),
            canonical_json(new_data),
        )
