"""The strict reading of requests: the service's own protobuf types, plus what they do not check."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from google.cloud import aiplatform_v1
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from cloud.errors import Refused, invalid

PACKAGE = "google.cloud.aiplatform.v1."
FIELD = re.compile(r"^ {4}(\w+) \(.*\):\n\s+(Required|Output only|Immutable)\.", re.M)
LABEL = re.compile(r"[\w-]{0,63}")
SERVICE_ACCOUNT = re.compile(r"[a-z0-9-]+@[a-z0-9.-]+\.gserviceaccount\.com")


def parse(kind: type, fields: Mapping[str, Any]) -> Message:
    """A message of a proto-plus type from JSON; unknown fields, wrong types and unknown enum values are refused."""
    message = kind.pb(kind())
    try:
        json_format.ParseDict(dict(fields), message, ignore_unknown_fields=False)
    except json_format.ParseError as error:
        raise invalid(f"Invalid JSON payload received. {error}") from error
    return message


def show(message: Message) -> dict[str, Any]:
    """A message as the JSON that the service answers with."""
    return json_format.MessageToDict(message, use_integers_for_enums=True)


@functools.cache
def behaviours(name: str) -> Mapping[str, str]:
    """`Required`, `Output only` or `Immutable` by field of a message, read from the client's own documentation.

    The client's descriptors carry no `google.api.field_behavior`, its docstrings do.
    """
    kind: Any = aiplatform_v1.types
    for part in name.removeprefix(PACKAGE).split("."):
        kind = getattr(kind, part)
    return dict(FIELD.findall(inspect.cleandoc(kind.__doc__ or "")))


def check(message: Message, *, outputs: bool = False, where: str = "") -> None:
    """Refuses a message, and those in it, that lack a required field or, without `outputs`, set an output-only one."""
    descriptor: Descriptor = message.DESCRIPTOR
    if not descriptor.full_name.startswith(PACKAGE):
        return
    present = {field.name for field, _ in message.ListFields()}
    for name, behaviour in behaviours(descriptor.full_name).items():
        if behaviour == "Required" and name not in present:
            raise invalid(f"Required field {where}{name} is missing or empty.")
        if behaviour == "Output only" and name in present and not outputs:
            raise invalid(f"Field {where}{name} is output only and must not be set.")
    for name, inner in _messages(message):
        check(inner, outputs=outputs, where=f"{where}{name}.")


def _messages(message: Message) -> Iterator[tuple[str, Message]]:
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            if field.message_type.fields_by_name["value"].message_type is not None:
                yield from ((f"{field.name}[{key}]", inner) for key, inner in value.items())
        elif isinstance(value, Message):
            yield field.name, value
        else:
            yield from ((f"{field.name}[{number}]", inner) for number, inner in enumerate(value))


def check_labels(labels: Mapping[str, str]) -> None:
    """Refuses labels that Google does not take."""
    if len(labels) > 64:
        raise invalid(f"At most 64 labels, got {len(labels)}.")
    for key, value in labels.items():
        for text in (key, value):
            if not LABEL.fullmatch(text) or text != text.lower() or not text.isascii():
                raise invalid(f"Label {key}={value}: only lowercase letters, digits, '_' and '-', at most 63.")
        if not key or not key[0].isalpha():
            raise invalid(f"Label key {key!r} must start with a letter.")


def check_display_name(name: str) -> None:
    """Refuses a display name that is too long."""
    if len(name) > 128:
        raise invalid(f"display_name must have at most 128 characters, has {len(name)}.")


def check_service_account(email: str) -> None:
    """Refuses what is no service account's address."""
    if email and not SERVICE_ACCOUNT.fullmatch(email):
        raise invalid(f"service_account {email!r} is not a service account's e-mail address.")


def check_parent(name: str, *, projects: Collection[str], region: str) -> None:
    """Refuses a name that lies in another project or region than ours."""
    parts = name.split("/")
    if len(parts) < 4 or parts[0] != "projects" or parts[2] != "locations":
        raise invalid(f"{name}: expected projects/PROJECT/locations/REGION")
    if parts[1] not in projects:
        raise Refused("PERMISSION_DENIED", f"Permission denied on resource project {parts[1]}.")
    if parts[3] != region:
        raise Refused("PERMISSION_DENIED", f"Location {parts[3]} is not found or access is unauthorized.")
