"""Names the files and the champion that this run works with."""

from typing import NamedTuple


def resolve_inputs(
    name: str, dataset: str, data_root: str, data: str, training: str, registry: str, earlier: str
) -> NamedTuple("Outputs", [("sources", str), ("champion", str), ("previous", str), ("warm_start", str)]):
    """Lists the input files with sizes and generations, and names the champion.

    Never cached: that is how changed files and a new champion are noticed, while the steps that get the same
    answer as before stay cached.

    Args:
        name: The configuration's name, which names the registry too.
        dataset: The name of the data folder.
        data_root: Where relative source paths are looked up first.
        data: The `data` section as canonical JSON.
        training: The `training` section as canonical JSON.
        registry: The registry's root folder.
        earlier: Folders of earlier prepared data, newest first, as JSON.

    Returns:
        sources: The files as canonical JSON. champion: A version id, or an empty text. previous: The first of the
            earlier folders whose files are some of today's, or an empty text. warm_start: With `training.warm_start`
            the folder of the champion's trained towers; else, or where there are none, an empty text, so that a new
            champion is news for nobody's training.
    """
    import json

    from components.runtime import running
    from two_tower.config import Data, Training, canonical_json, parse_section
    from two_tower.data import choose_earlier, resolve_sources
    from two_tower.registry import Registry

    with running("resolve_inputs"):
        sources = resolve_sources(parse_section(Data, data), dataset=dataset, data_root=data_root or None)
        versions = Registry(registry, name)
        champion = versions.champion()
        previous = choose_earlier(json.loads(earlier), sources)
        warm = versions.warm_start() if parse_section(Training, training).warm_start else None
        return canonical_json(sources), champion.id if champion else "", previous, str(warm or "")
